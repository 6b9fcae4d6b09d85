"""Transactions, and what SQLite's errors mean for a store."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .._errors import OutcomeUnknownError, StoreUnavailableError

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


@contextmanager
def transaction(db: sqlite3.Connection, location: str) -> Iterator[None]:
    """All or nothing; only a commit that failed on I/O is neither.

    Raises:
        OutcomeUnknownError: The commit met an I/O error.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        _commit(db, location)
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def _commit(db: sqlite3.Connection, location: str) -> None:
    try:
        db.execute("COMMIT")
    except sqlite3.OperationalError as exc:
        if primary_code(exc) != sqlite3.SQLITE_IOERR:
            raise
        raise OutcomeUnknownError(
            location,
            f"{_cause(exc)} while committing: stored or not, nobody knows",
            "Ask again to learn which; the next call connects again",
        ) from exc


@contextmanager
def translated(location: str) -> Iterator[None]:
    """Turn what SQLite says of the database into our errors.

    Misuse of the driver is a bug of ours and passes untouched.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as exc:
        advice = _ADVICE.get(primary_code(exc) or 0, "Nothing acknowledged is lost")
        raise StoreUnavailableError(location, _cause(exc), advice) from exc


def primary_code(exc: BaseException | None) -> int | None:
    """SQLite's primary result code; ``None`` if it was not SQLite that spoke."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _cause(exc: sqlite3.Error) -> str:
    return f"{exc} ({getattr(exc, 'sqlite_errorname', type(exc).__name__)})"
