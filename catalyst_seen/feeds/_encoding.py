"""The text of a body: which encoding it is in, and what to do with bytes that are not.

The order is that of RFC 7303: the byte order mark, the charset of ``Content-Type``, the
XML declaration, UTF-8. A server that names one charset for all its files does not win
over a declaration of UTF-8 that is true.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass

_WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    # Without a mark, the first character of a document is proof enough.
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_DECLARED = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", re.IGNORECASE)

# Bytes that are not UTF-8 become surrogates, which XML cannot carry. They travel in the
# private use area until it is known whether an identity holds one.
_FIRST = 0xF700
_BYTES = range(0x80, 0x100)
_TO_STRAY = {0xDC00 + byte: _FIRST + byte for byte in _BYTES}
_TO_WINDOWS = {
    _FIRST + byte: bytes([byte]).decode("windows-1252", "replace") for byte in _BYTES
}
_STRAY = re.compile(f"[{chr(_FIRST + 0x80)}-{chr(_FIRST + 0xFF)}\ufffd]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a body.

    Attributes:
        text: The text.
        is_exact: False if some bytes were not of its encoding.
    """

    text: str
    is_exact: bool = True

    def is_sure(self, text: str) -> bool:
        """Was every character of this part of the text in the body?"""
        return self.is_exact or not _STRAY.search(text)

    def shown(self, text: str) -> str:
        """Return a part of the text with the likeliest characters for stray bytes."""
        return text if self.is_exact else text.translate(_TO_WINDOWS)


def decoded(body: bytes, content_type: str) -> Decoded:
    """Return the text of a body in its encoding."""
    for start, encoding in _WIDE:
        if body.startswith(start):
            text = body.decode(encoding, "replace").removeprefix("\ufeff")
            return Decoded(text, is_exact="\ufffd" not in text)
    encodings = _named(body, content_type)
    body = body.removeprefix(codecs.BOM_UTF8)
    for encoding in encodings:
        if encoding == "utf-8":
            if (utf8 := _as_utf8(body)) is not None:
                return utf8
            continue
        with suppress(UnicodeError):
            return Decoded(body.decode(encoding))
    for encoding in encodings:
        if encoding != "utf-8":
            return Decoded(body.decode(encoding, "replace"), is_exact=False)
    text = body.decode(errors="surrogateescape").translate(_TO_STRAY)
    return Decoded(text, is_exact=False)


_HEAD = 65_536
"""Bytes in which a declaration is sought: other text may have got before it."""

_WIDER = {
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "iso-8859-8-i": "iso-8859-8",
}
"""What these names mean on the web, by the Encoding Standard of the WHATWG."""


def _named(body: bytes, content_type: str) -> list[str]:
    """Return the encodings to try, in their order."""
    if body.startswith(codecs.BOM_UTF8):
        return ["utf-8"]
    by_server = _CHARSET.findall(content_type)[:1]
    by_document = [name.decode() for name in _DECLARED.findall(body[:_HEAD])[:1]]
    named = [*map(_codec, by_server), *map(_codec, by_document), "utf-8"]
    if [*map(_codec, by_document)] == ["utf-8"]:
        named.insert(0, "utf-8")
    return [name for name in dict.fromkeys(named) if name]


def _codec(name: str) -> str:
    """Return Python's name of an encoding; empty for one that cannot be it."""
    try:
        codec = codecs.lookup(_WIDER.get(name.lower(), name))
        "".encode(codec.name)  # refuses codecs that are none of text
    except (LookupError, UnicodeError):
        return ""
    # A document of wide characters was recognised before, so this is not one.
    return "" if codec.name.startswith(("utf-16", "utf-32")) else codec.name


def _as_utf8(body: bytes) -> Decoded | None:
    """Return a text of UTF-8, if most characters beyond ASCII are."""
    text = body.decode(errors="surrogateescape")
    if text.isascii():
        return Decoded(text)
    beyond = [character for character in text if character > "\x7f"]
    stray = sum("\udc80" <= character <= "\udcff" for character in beyond)
    if 2 * stray > len(beyond):
        return None
    return Decoded(text.translate(_TO_STRAY) if stray else text, is_exact=not stray)
