"""The file or the pipe that an import reads, so that it can be read twice."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .._codes import Code, Failure
from .._output import printable
from .._standard_files import is_input_closed
from .._threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 16 * 1024 * 1024
"""The characters of the longest line: an entry of a feed is far below."""

_PAGE = 1 << 20
_BOMS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}


@dataclass(frozen=True)
class Input:
    """Bytes that can be read from their first one on, any number of times.

    Attributes:
        name: What a person calls it.
        file: The bytes.
        path: Where they are, unless they came through a pipe.
        start: Where they begin, behind a byte order mark.
        encoding: That of a text.
    """

    name: str
    file: IO[bytes]
    path: Path | None
    start: int
    encoding: str

    @property
    def size(self) -> int:
        """The number of bytes."""
        return os.fstat(self.file.fileno()).st_size - self.start

    @property
    def version(self) -> tuple[int, int]:
        """The size and the time of the last write: a write changes them."""
        found = os.fstat(self.file.fileno())
        return found.st_size, found.st_mtime_ns

    def head(self, size: int) -> bytes:
        """Return its first bytes."""
        self.file.seek(self.start)
        return self.file.read(size)

    @contextmanager
    def text(self, newline: str = "\n") -> Iterator[io.TextIOWrapper]:
        """Read it as text; bytes that are none become lone surrogates."""
        self.file.seek(self.start)
        is_8_bit = self.encoding == "utf-8"
        reader = io.TextIOWrapper(
            self.file,
            self.encoding,
            "surrogateescape" if is_8_bit else "replace",
            newline,
        )
        try:
            yield reader
        finally:
            with suppress(ValueError):  # the file was closed before this generator
                reader.detach()

    def lines(self, newline: str = "\n") -> Iterator[str]:
        """Yield its lines, with what ends them.

        Raises:
            Failure: A line is too long to be one.
        """
        with self.text(newline) as reader:
            number = 0
            while line := reader.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE and not line.endswith("\n"):
                    raise Failure(
                        f"line {number:,} has over {MAX_LINE:,}"
                        " characters: this is no file of lines"
                    )
                yield line


@contextmanager
def named(name: str) -> Iterator[None]:
    """Name the input in the errors of what reads it."""
    try:
        yield
    except Failure as exc:
        raise Failure(f"{name}: {exc.message}", Code(exc.code)) from exc


async def open_input(name: str) -> Input:
    """Open a file, or standard input where the name is ``-``.

    A pipe is copied to a temporary file first. A signal ends the wait for it.

    Raises:
        Failure: It cannot be read.
    """
    if name == "-" and is_input_closed():
        raise Failure("standard input is closed: name a file, or pipe something in")
    shown = "standard input" if name == "-" else printable(name)
    try:
        return await in_thread(partial(_opened, name, shown))
    except OSError as exc:
        raise Failure(f"{shown}: {exc.strerror or exc}") from exc


def _opened(name: str, shown: str) -> Input:
    descriptor = os.dup(0) if name == "-" else os.open(name, os.O_RDONLY)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        os.close(descriptor)
        raise Failure(f"{shown}: is a directory: name a file")
    file: IO[bytes] = os.fdopen(descriptor, "rb")
    is_regular = stat.S_ISREG(mode)
    if not is_regular:
        file = _spooled(file)
    start = file.tell()
    head = file.read(4)
    bom = next((mark for mark in _BOMS if head.startswith(mark)), b"")
    path = Path(name).absolute() if is_regular and name != "-" else None
    return Input(shown, file, path, start + len(bom), _BOMS.get(bom, "utf-8"))


def _spooled(pipe: IO[bytes]) -> IO[bytes]:
    """Copy a pipe to a file without a name."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the input closes it
    with pipe:
        # Not by the reader, whose lock the end of the process would wait for.
        while page := os.read(pipe.fileno(), _PAGE):
            copy.write(page)
    copy.seek(0)
    return copy
