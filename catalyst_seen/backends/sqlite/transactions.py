"""Transactions, and what SQLite's errors mean for a store."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..._errors import OutcomeUnknownError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .worker import Connection

T = TypeVar("T")

MISUSE = (sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""What SQLite says of its caller, not of the database: bugs, which pass untouched."""

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


DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite says of a file that is damaged."""

SUSPECT = (*DAMAGED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What a connection says that may be wrong about the file by now: make another one.

A disk that is away looks corrupt to a connection that was open before.
"""

_EAGER, _PATIENT = 0.001, 0.01
"""Longest pause between two looks at a lock, in the first second and afterwards."""


def retry_while_busy(
    work: Callable[[], T], deadline: float, *, db: Connection | None = None
) -> T:
    """Call a function again as long as it finds the database locked.

    SQLite itself would look ever more rarely: among many writers its pauses, up to 100
    ms, let some starve for seconds. So a connection has its ``busy_timeout`` only until
    its schema is there.

    Args:
        work: Must not mind to run again.
        deadline: When to give up, by ``time.monotonic``.
        db: Give up as well when this connection is unwanted.
    """
    eager_until = time.monotonic() + 1
    while True:
        try:
            return work()
        except sqlite3.OperationalError as exc:
            now = time.monotonic()
            is_over = now >= deadline or (db is not None and db.is_unwanted)
            if not is_busy(exc) or is_over:
                raise
            longest = _EAGER if now < eager_until else _PATIENT
            time.sleep(random.uniform(longest / 10, longest))  # noqa: S311 - no secret


def in_transaction(
    db: sqlite3.Connection, location: str, work: Callable[[], T], timeout: float
) -> T:
    """Run a function that reads, and then perhaps writes, in one transaction.

    It takes the write lock only by writing. SQLite refuses that if another connection
    holds the lock, or has written since this one read; then the function runs once
    more, under the lock.

    Args:
        db: The connection.
        location: Its path.
        work: Must not mind to run twice.
        timeout: How long to wait for the lock, in seconds.

    Raises:
        OutcomeUnknownError: The commit met an I/O error.
    """
    deadline = time.monotonic() + timeout
    try:
        db.execute("BEGIN")
        return _through(db, location, work, deadline)
    except sqlite3.OperationalError as exc:
        if not is_busy(exc):
            raise
    retry_while_busy(partial(db.execute, "BEGIN IMMEDIATE"), deadline)
    return _through(db, location, work, deadline)


def under_lock(db: sqlite3.Connection, location: str, work: Callable[[], T]) -> T:
    """Run a function in one transaction that holds the write lock from the beginning.

    Raises:
        OutcomeUnknownError: The commit met an I/O error.
    """
    db.execute("BEGIN IMMEDIATE")
    return _through(db, location, work, time.monotonic())


def _through(
    db: sqlite3.Connection, location: str, work: Callable[[], T], deadline: float
) -> T:
    """Finish a transaction: all or nothing; a commit that failed on I/O is neither."""
    try:
        answer = work()
        _commit(db, location, deadline)
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
    return answer


def _commit(db: sqlite3.Connection, location: str, deadline: float) -> None:
    try:
        retry_while_busy(partial(db.execute, "COMMIT"), deadline)
    except sqlite3.OperationalError as exc:
        if primary_code(exc) != sqlite3.SQLITE_IOERR:
            raise
        raise OutcomeUnknownError(
            location,
            f"{cause(exc)} while committing: stored or not, nobody knows",
            "Ask again to learn which; the next call connects again",
        ) from exc


def unavailable(exc: sqlite3.Error, location: str) -> StoreUnavailableError:
    """Say in our words what SQLite says of the database."""
    advice = _ADVICE.get(primary_code(exc) or 0, "Nothing acknowledged is lost")
    return StoreUnavailableError(location, cause(exc), advice)


def is_busy(exc: sqlite3.Error) -> bool:
    """Does another connection hold the lock?"""
    return primary_code(exc) == sqlite3.SQLITE_BUSY


def primary_code(exc: BaseException | None) -> int | None:
    """SQLite's primary result code; ``None`` if it was not SQLite that spoke."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def cause(exc: sqlite3.Error) -> str:
    """Quote SQLite, with the name of its error."""
    return f"{exc} ({getattr(exc, 'sqlite_errorname', type(exc).__name__)})"
