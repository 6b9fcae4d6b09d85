"""What SQLite's errors mean for a store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..._errors import StoreUnavailableError
from . import driver
from .driver import sqlite3  # the codes are the same in every library

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADVICE = {
    sqlite3.SQLITE_BUSY: "Another process holds the lock; find it, or raise timeout",
    sqlite3.SQLITE_LOCKED: "Another process holds the lock; find it, or raise timeout",
    sqlite3.SQLITE_FULL: "Free some space; the store then works again by itself",
    sqlite3.SQLITE_READONLY: "Make the file and its directory writable",
    sqlite3.SQLITE_CANTOPEN: "Name a file in a directory that you may write to",
    sqlite3.SQLITE_CORRUPT: "It is left as it is; check the disk, or restore a copy",
    sqlite3.SQLITE_NOTADB: "It is left as it is; check the disk, or restore a copy",
    sqlite3.SQLITE_IOERR: "Check the disk; the next call connects again",
}

CORRUPTION_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Primary codes of a damaged file."""

FATAL_CODES = (*CORRUPTION_CODES, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""Primary codes after which a connection may have a wrong view of the file.

Such a connection is replaced. A disk that is disconnected appears corrupt to the
connections that were open before.
"""


@contextmanager
def translated(location: str) -> Iterator[None]:
    """Translate SQLite's errors. Bugs pass untouched.

    Raises:
        StoreUnavailableError: SQLite reported an error of the database.
    """
    try:
        yield
    except driver.Misuse:
        raise
    except driver.Error as exc:
        raise unavailable(exc, location) from exc


def unavailable(exc: Exception, location: str) -> StoreUnavailableError:
    """Return the error of the store for an error of SQLite."""
    advice = _ADVICE.get(primary_code(exc) or 0, "Nothing acknowledged is lost")
    return StoreUnavailableError(location, describe(exc), advice)


def is_busy(exc: Exception) -> bool:
    """Does another connection hold the lock?"""
    return primary_code(exc) == sqlite3.SQLITE_BUSY


def is_io_error(exc: Exception) -> bool:
    """Did the disk, or the file system, fail?"""
    return primary_code(exc) == sqlite3.SQLITE_IOERR


def is_no_database(exc: Exception) -> bool:
    """Is the file something else?"""
    return primary_code(exc) == sqlite3.SQLITE_NOTADB


def primary_code(exc: BaseException | None) -> int | None:
    """Return SQLite's primary result code; ``None`` for any other exception."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def describe(exc: Exception) -> str:
    """Return SQLite's message with the name of its error code."""
    return f"{exc} ({getattr(exc, 'sqlite_errorname', type(exc).__name__)})"
