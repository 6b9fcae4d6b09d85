"""Pages of a long removal, and the return of free space to the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec

from . import driver
from .errors import is_busy
from .queries import pragma
from .removal import remove
from .transactions import in_transaction, retry_while_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..base import Cursor
    from .removal import Removal
    from .transactions import Deadline

P = ParamSpec("P")

VACUUM = ("", "")
"""Cursor of the pages that free space; that of rows has the id of a namespace."""

# SQLite reuses free pages, so a file of steady size is left alone.
_SLACK = 1 / 4  # fraction of free pages at which a vacuum starts,
_ENOUGH = 1 / 16  # and at which it ends
_PAGES = 250  # in one incremental vacuum: a few milliseconds
_INCREMENTAL = 2


def remove_page(
    db: driver.Connection,
    location: str,
    deadline: Deadline,
    removal: Removal,
    clock: Callable[[], float],
) -> tuple[int, Cursor | None]:
    """Remove the selected rows of one page, in a transaction.

    Returns:
        The number of removed rows, and the cursor of the next page: ``VACUUM`` if all
        rows were examined and much of the file is free.
    """
    removed, cursor = in_transaction(db, location, deadline, _remove, removal, clock)
    if cursor is None and _unless_busy(deadline, _needs_vacuum, db):
        cursor = VACUUM
    return removed, cursor


def vacuum_page(db: driver.Connection, deadline: Deadline) -> Cursor | None:
    """Free some pages; return ``VACUUM`` if there are more to free.

    Other connections come first: the vacuum ends if they hold the lock for long.
    """
    return VACUUM if _unless_busy(deadline, _vacuum, db) else None


def _remove(
    db: driver.Connection, removal: Removal, clock: Callable[[], float]
) -> tuple[int, Cursor | None]:
    return remove(db, removal, clock())


def _needs_vacuum(db: driver.Connection) -> bool:
    """Is so much of the file free that an incremental vacuum is worth its cost?"""
    return pragma(db, "auto_vacuum") == _INCREMENTAL and _free(db) > _SLACK


def _vacuum(db: driver.Connection) -> bool:
    """Free some pages, in a transaction of its own; are there more to free?

    The file itself shrinks at the next checkpoint. ``execute`` would free one page: it
    runs a single step of a statement that frees one page per step.
    """
    db.executescript(f"PRAGMA incremental_vacuum({_PAGES})")
    return _free(db) > _ENOUGH


def _free(db: driver.Connection) -> float:
    """Return the fraction of the file that is free."""
    pages = max(pragma(db, "page_count"), 1)
    return pragma(db, "freelist_count") / pages


def _unless_busy(
    deadline: Deadline, function: Callable[P, bool], *args: P.args, **kwargs: P.kwargs
) -> bool:
    """Run an optional function; false if the database stays locked."""
    try:
        return retry_while_busy(deadline, function, *args, **kwargs)
    except driver.OperationalError as exc:
        if not is_busy(exc):
            raise
        return False
