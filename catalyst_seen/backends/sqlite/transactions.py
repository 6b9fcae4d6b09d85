"""Transactions, and the retry while another connection holds a lock."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from ..._errors import OutcomeUnknownError
from . import driver
from .errors import describe, is_busy, is_io_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

P = ParamSpec("P")
T = TypeVar("T")

_EAGER_SECONDS = 1.0
_EAGER_PAUSE, _PATIENT_PAUSE = 0.001, 0.01
"""Longest pause between two attempts, in the first second and afterwards."""


class Deadline(NamedTuple):
    """The end of all waits for locks that one call may need."""

    instant: float
    """By ``time.monotonic``."""
    abort: Event
    """Ends the waits early; set by another thread."""

    @property
    def has_passed(self) -> bool:
        """Has the last attempt been made?"""
        return time.monotonic() >= self.instant or self.abort.is_set()


def retry_while_busy(
    deadline: Deadline, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function, and retry while another connection holds the lock.

    SQLite's own busy handler backs off up to 100 ms, so that some of many writers
    starve for seconds. So a connection has a ``busy_timeout`` only until its schema is
    prepared.

    Args:
        deadline: End of the retries.
        function: An idempotent function.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """
    eager_until = time.monotonic() + _EAGER_SECONDS
    while True:
        try:
            return function(*args, **kwargs)
        except driver.OperationalError as exc:
            if not is_busy(exc) or deadline.has_passed:
                raise
            is_eager = time.monotonic() < eager_until
            longest = _EAGER_PAUSE if is_eager else _PATIENT_PAUSE
            time.sleep(random.uniform(longest / 10, longest))  # noqa: S311 - no secret


def in_transaction(
    db: driver.Connection,
    location: str,
    deadline: Deadline,
    function: Callable[Concatenate[driver.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a function that reads, and then perhaps writes, in one transaction.

    The transaction acquires the write lock at its first write. SQLite refuses that if
    another connection holds the lock, or has written since the transaction read; then
    the function runs a second time, under the lock.

    Args:
        db: The connection.
        location: Its path.
        deadline: End of the wait for the lock.
        function: Runs in the transaction, once or twice.
        args: Its arguments after the connection.
        kwargs: Its keyword arguments.

    Raises:
        OutcomeUnknownError: The commit met an I/O error.
    """
    try:
        db.execute("BEGIN")
        return _run_and_commit(db, location, deadline, function, *args, **kwargs)
    except driver.OperationalError as exc:
        if not is_busy(exc):
            raise
    retry_while_busy(deadline, db.execute, "BEGIN IMMEDIATE")
    return _run_and_commit(db, location, deadline, function, *args, **kwargs)


def in_write_transaction(
    db: driver.Connection,
    location: str,
    deadline: Deadline,
    function: Callable[Concatenate[driver.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a function in one transaction that holds the write lock from its beginning.

    SQLite's ``busy_timeout`` bounds the wait for that lock.

    Raises:
        OutcomeUnknownError: The commit met an I/O error.
    """
    db.execute("BEGIN IMMEDIATE")
    return _run_and_commit(db, location, deadline, function, *args, **kwargs)


def in_snapshot(
    db: driver.Connection,
    function: Callable[Concatenate[driver.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a function that only reads in one transaction, and so on one snapshot."""
    db.execute("BEGIN")
    try:
        return function(db, *args, **kwargs)
    finally:
        rollback(db)


def _run_and_commit(
    db: driver.Connection,
    location: str,
    deadline: Deadline,
    function: Callable[Concatenate[driver.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Complete a transaction: all or nothing, except after an I/O error at commit."""
    try:
        result = function(db, *args, **kwargs)
        _commit(db, location, deadline)
    except BaseException:
        with suppress(*driver.Error):
            rollback(db)
        raise
    return result


def _commit(db: driver.Connection, location: str, deadline: Deadline) -> None:
    try:
        retry_while_busy(deadline, db.execute, "COMMIT")
    except driver.OperationalError as exc:
        if not is_io_error(exc):
            raise
        raise OutcomeUnknownError(
            location,
            f"{describe(exc)} while committing: stored or not, nobody knows",
            "Ask again to learn which; the next call connects again",
        ) from exc


def rollback(db: driver.Connection) -> None:
    """Roll back, unless an error has ended the transaction already."""
    if db.in_transaction:
        db.execute("ROLLBACK")
