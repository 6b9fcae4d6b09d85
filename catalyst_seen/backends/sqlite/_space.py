"""Room in the file that nothing needs any more: how it goes back to the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .schema import pragma

if TYPE_CHECKING:
    import sqlite3

# What is free is used again, so a file of steady size is left alone.
_SLACK = 1 / 4  # of the pages: from here on some are given back,
_ENOUGH = 1 / 16  # until so few are free
_PAGES = 250  # in one step: a few milliseconds
_INCREMENTAL = 2


def has_slack(db: sqlite3.Connection) -> bool:
    """Is so much of the file free that some of it should go?"""
    return pragma(db, "auto_vacuum") == _INCREMENTAL and _free(db) > _SLACK


def tighten(db: sqlite3.Connection) -> bool:
    """Give some free pages back, in a transaction of its own; should more of them go?

    The file itself is cut at the next checkpoint. ``execute`` would free one page: it
    takes one step of a statement that frees a page at each.
    """
    db.executescript(f"PRAGMA incremental_vacuum({_PAGES})")
    return _free(db) > _ENOUGH


def _free(db: sqlite3.Connection) -> float:
    return pragma(db, "freelist_count") / max(pragma(db, "page_count"), 1)
