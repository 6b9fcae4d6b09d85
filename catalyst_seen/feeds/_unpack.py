"""The body of an answer, unpacked while it arrives, up to a limit.

The bytes decide whether a body is packed, and not the header: servers send ``.gz``
files as they are, pack twice, or name a packing that they have not done.
"""

from __future__ import annotations

import zlib

_GZIP = b"\x1f\x8b\x08"
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15
_TEXT = (b"<", b"{", b"[", b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")
_BLANKS = b" \t\r\n"
_DECIDING = 16
_MOST_MEMBERS = 100
_MOST_LAYERS = 3


class TooLargeError(Exception):
    """The body is larger than the limit, packed or not."""


class UnknownPackingError(Exception):
    """The body is packed in a way that was not asked for."""


class Body:
    """Collects the parts of a body.

    Attributes:
        problem: Why the body may have no end; ``None`` if nothing is missing.
    """

    def __init__(self, limit: int, encoding: str = "") -> None:
        """Collect at most ``limit`` bytes; ``encoding`` is ``Content-Encoding``."""
        self.problem: str | None = None
        self._limit = limit
        self._encoding = encoding.strip().lower()
        self._received = 0
        self._head: bytearray | None = bytearray()
        self._inflater: zlib._Decompress | None = None
        self._members = 0
        self._content = bytearray()

    def feed(self, data: bytes) -> None:
        """Add the next part.

        Raises:
            TooLargeError: The body is larger than the limit.
            UnknownPackingError: Nothing here unpacks it.
        """
        self._received += len(data)
        if self._received > self._limit:
            raise TooLargeError
        if self._head is not None:
            self._head += data
            if len(self._head) < _DECIDING:
                return
            data = self._decide()
        self._add(data)

    def end(self) -> bytes:
        """Return the content after the last part; see ``feed`` for the errors."""
        content = self._finish()
        for _ in range(_MOST_LAYERS - 1):
            if not content.startswith(_GZIP):
                break
            inner = Body(self._limit)
            inner.feed(content)
            content = inner._finish()
            self.problem = self.problem or inner.problem
        return content

    def _finish(self) -> bytes:
        """Return the content with one layer unpacked."""
        if self._head is not None:
            self._add(self._decide())
        if self._inflater and not self._inflater.eof and self.problem is None:
            self.problem = "the packed body ends too early"
        return bytes(self._content)

    def _decide(self) -> bytes:
        """Choose how to unpack by the first bytes, and return them."""
        head, self._head = bytes(self._head or b""), None
        window = _window(head, self._encoding)
        self._inflater = zlib.decompressobj(window) if window else None
        return head

    def _add(self, data: bytes) -> None:
        if self._inflater is None:
            self._content += data
            return
        try:
            self._inflate(data)
        except zlib.error:
            self.problem = "the packed body is damaged"

    def _inflate(self, data: bytes) -> None:
        """Unpack a part; what follows the end of a member is the next one, or junk."""
        while data and self._inflater and self.problem is None:
            if self._inflater.eof:
                self._members += 1
                if not data.startswith(_GZIP) or self._members > _MOST_MEMBERS:
                    return
                self._inflater = zlib.decompressobj(_GZIP_WINDOW)
            room = self._limit - len(self._content) + 1
            self._content += self._inflater.decompress(data, room)
            if len(self._content) > self._limit:
                raise TooLargeError
            data = self._inflater.unused_data or self._inflater.unconsumed_tail


def _window(head: bytes, encoding: str) -> int:
    """Return zlib's name of the packing; 0 if the bytes are not packed."""
    if head.startswith(_GZIP):
        return _GZIP_WINDOW
    is_plain = not head or head.lstrip(_BLANKS).startswith(_TEXT)
    if is_plain or encoding in {"", "identity"}:
        return 0
    if "deflate" in encoding:
        is_zlib = len(head) > 1 and int.from_bytes(head[:2]) % 31 == 0
        return _ZLIB_WINDOW if is_zlib and head[0] & 15 == 8 else _RAW_WINDOW  # noqa: PLR2004
    if "gzip" in encoding:
        return 0  # whatever it is: the parser says what it thinks of it
    raise UnknownPackingError
