"""Is a file well? What SQLite says of it, what is in force, and what is unusual."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from ..._config import SYNCHRONOUS
from ..._types import CheckReport
from .files import is_shared, size
from .schema import missing, pragma
from .transactions import DAMAGED, primary_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .files import DatabaseFile
    from .wal import WriteAheadLog

_FINDINGS = 20  # of a damaged file there could be one for each page
_BEHIND = 1.0  # seconds: clocks are corrected by less all the time
_AUTO_VACUUM = ("none", "full", "incremental")
_NUMBERS = ("cache_size", "page_size", "journal_size_limit", "wal_autocheckpoint")


def check(
    db: sqlite3.Connection,
    file: DatabaseFile,
    wal: WriteAheadLog,
    now: float,
    fixed: tuple[int, int, int],
    *,
    is_full: bool,
) -> CheckReport:
    """Check a database by a connection that only reads.

    Args:
        db: The connection, made as every other.
        file: The file that it is on.
        wal: What the store knows of its log.
        now: What the clock says, wherever it has been before.
        is_full: Compare every row with every index as well.
    """
    integrity = [*missing(db), *_integrity(db, is_full=is_full)]
    settings = _settings(db)
    behind = 0.0 if integrity else _newest(db) - now
    is_in_company = is_shared(file.real_path)
    problems = [f"the file is damaged: {finding}" for finding in integrity]
    problems += wal.alarms()
    if behind > _BEHIND:
        problems.append(
            f"the clock is {behind:,.0f} s behind the newest mark: until it is there"
            " again, keys expire and leases end late; set the clock"
        )
    if is_in_company and settings["journal_mode"] == "wal":
        problems += _reset_bug(fixed)
    problems += _never_shrinks(db, settings)
    return CheckReport(
        location=file.path,
        engine=f"SQLite {sqlite3.sqlite_version}",
        is_full=is_full,
        schema=pragma(db, "user_version"),
        settings=settings,
        integrity=tuple(integrity),
        problems=tuple(problems),
        file_bytes=size(file.path),
        wal_bytes=wal.bytes,
        free_pages=pragma(db, "freelist_count"),
        checkpoint_failures=wal.failures,
        clock_behind=max(behind, 0.0),
        is_shared=is_in_company,
    )


def _integrity(db: sqlite3.Connection, *, is_full: bool) -> list[str]:
    question = "integrity_check" if is_full else "quick_check"
    try:
        found = db.execute(f"PRAGMA {question}({_FINDINGS})").fetchall()
    except sqlite3.DatabaseError as exc:
        if primary_code(exc) not in DAMAGED:
            raise
        return [str(exc)]
    return [line for (line,) in found if line != "ok"]


def _settings(db: sqlite3.Connection) -> dict[str, str | int]:
    (journal,) = db.execute("PRAGMA journal_mode").fetchone()
    return {
        "journal_mode": journal,
        "synchronous": SYNCHRONOUS[pragma(db, "synchronous")],
        "auto_vacuum": _AUTO_VACUUM[pragma(db, "auto_vacuum")],
        **{name: pragma(db, name) for name in _NUMBERS},
    }


def _newest(db: sqlite3.Connection) -> float:
    (newest,) = db.execute("SELECT max(last_seen) FROM seen").fetchone()
    return float(newest or 0)


def _reset_bug(fixed: tuple[int, int, int]) -> Iterator[str]:
    if sqlite3.sqlite_version_info < fixed:
        yield (
            f"several connections share the file, and SQLite {sqlite3.sqlite_version}"
            " has the WAL-reset bug, which may, very rarely, damage it: use SQLite"
            " 3.51.3 or newer, or one process"
        )


def _never_shrinks(
    db: sqlite3.Connection, settings: dict[str, str | int]
) -> Iterator[str]:
    free, pages = pragma(db, "freelist_count"), pragma(db, "page_count")
    if settings["auto_vacuum"] != "incremental" and free > pages / 4:
        yield (
            f"{free:,} of {pages:,} pages are free, and the file, which an earlier"
            " program made, cannot give them back: once, while nobody has it open, run"
            " PRAGMA auto_vacuum = INCREMENTAL; VACUUM"
        )
