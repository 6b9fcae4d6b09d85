"""Files as sources of listings."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from ._causes import FetchError
from ._fetch import Answer
from ._unpack import Body, TooLargeError

if TYPE_CHECKING:
    from pathlib import Path

_OK = 200


async def read_file(path: Path, max_bytes: int) -> Answer:
    """Return the content of a file, unpacked, like the answer of a server.

    Raises:
        FetchError: It cannot be read, or is too large.
    """
    body = Body(max_bytes)
    try:
        content, uri = await asyncio.to_thread(_read, path, max_bytes)
        body.feed(content)
        content = body.end()
    except OSError as exc:
        raise FetchError(exc.strerror or type(exc).__name__) from exc
    except TooLargeError:
        raise FetchError(f"the file has more than {max_bytes:,} bytes") from None
    return Answer(uri, _OK, {}, content, body.problem)


def _read(path: Path, max_bytes: int) -> tuple[bytes, str]:
    """Return the content of a file, one byte over the limit at most, and its URI."""
    if path.is_fifo() or path.is_char_device():
        raise OSError(errno.EINVAL, "it is no file that ends")
    with path.open("rb") as file:
        return file.read(max_bytes + 1), path.absolute().as_uri()
