"""A file that has its name when it is complete."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .._codes import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def new_file(name: str) -> Iterator[TextIO]:
    """Write a file of text, which replaces the one of its name when it is complete.

    The new file has the permissions of the old one. A device or a pipe is written as it
    is.

    Raises:
        Failure: It cannot be written; a file of its name is unchanged.
    """
    path = Path(os.path.realpath(name))
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as file:
                yield file
            return
        with _replacing(path) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise Failure(f"{name}: {exc.strerror or exc}") from exc


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent
    )
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            os.fchmod(descriptor, _mode(path))
            yield file
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _mode(path: Path) -> int:
    """Return the permissions of a file, or those of a new one."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
