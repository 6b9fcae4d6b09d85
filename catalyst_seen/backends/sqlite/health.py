"""Measurements and the health check of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._clock import read_clock
from ..._config import SYNCHRONOUS
from ..._types import CheckReport
from ..base import BackendStats
from . import driver, inspection
from .errors import CORRUPTION_CODES, primary_code
from .files import is_shared, size
from .objects import differences
from .queries import pragma

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .shared import SharedState

_FINDINGS = 20  # a damaged file could have one for each page
_CLOCK_TOLERANCE = 1.0  # seconds by which clocks are corrected all the time
_AUTO_VACUUM = ("none", "full", "incremental")
_NUMBERS = ("cache_size", "page_size", "journal_size_limit", "wal_autocheckpoint")


def stats(
    db: driver.Connection, shared: SharedState, namespace: str | None
) -> BackendStats:
    """Measure a database.

    Args:
        db: A connection.
        shared: The state of the store.
        namespace: Count the keys of one namespace, or of all.
    """
    now, wal = shared.now(), shared.wal
    claims = inspection.count_claims(db, namespace, now)
    return BackendStats(
        keys_by_namespace=inspection.count(db, namespace, now),
        claimed=claims.claimed,
        released=claims.released,
        abandoned=claims.abandoned,
        file_bytes=size(shared.path),
        wal_bytes=wal.bytes,
        free_pages=pragma(db, "freelist_count"),
        checkpoint_failures=wal.failures,
        wal_pinned=wal.pinned,
        engine=f"SQLite {driver.load(shared.config.sqlite).version}",
        alarms=tuple(_alarms(db, shared, _settings(db), _clock_behind(db, shared))),
        oldest_claim=claims.oldest,
        oldest_released=claims.oldest_released,
    )


def check(db: driver.Connection, shared: SharedState, *, is_full: bool) -> CheckReport:
    """Check a database.

    Args:
        db: A connection.
        shared: The state of the store.
        is_full: Also compare every row with every index?
    """
    wal = shared.wal
    integrity = [*differences(db), *_integrity(db, is_full=is_full)]
    settings = _settings(db)
    behind = 0.0 if integrity else _clock_behind(db, shared)
    problems = [f"the file is damaged: {finding}" for finding in integrity]
    problems += _alarms(db, shared, settings, behind)
    return CheckReport(
        location=shared.path,
        engine=f"SQLite {driver.load(shared.config.sqlite).version}",
        is_full=is_full,
        schema=pragma(db, "user_version"),
        settings=settings,
        integrity=tuple(integrity),
        problems=tuple(problems),
        file_bytes=size(shared.path),
        wal_bytes=wal.bytes,
        free_pages=pragma(db, "freelist_count"),
        checkpoint_failures=wal.failures,
        clock_behind=behind,
        is_shared=is_shared(shared.file.real_path),
    )


def _alarms(
    db: driver.Connection,
    shared: SharedState,
    settings: dict[str, str | int],
    clock_behind: float,
) -> Iterator[str]:
    """Yield what needs an operator, besides damage, which is expensive to find."""
    yield from shared.wal.alarms()
    if clock_behind > _CLOCK_TOLERANCE:
        yield (
            f"the clock is {clock_behind:,.0f} s behind the newest mark: until it is"
            " there again, keys expire and leases end late; set the clock"
        )
    if settings["journal_mode"] == "wal" and is_shared(shared.file.real_path):
        yield from _wal_reset_bug(
            shared.config.tuning.sqlite_version
            or driver.load(shared.config.sqlite).version_info
        )
    yield from _never_shrinks(db, settings)


def _integrity(db: driver.Connection, *, is_full: bool) -> list[str]:
    pragma_name = "integrity_check" if is_full else "quick_check"
    try:
        found = db.execute(f"PRAGMA {pragma_name}({_FINDINGS})").fetchall()
    except driver.DatabaseError as exc:
        if primary_code(exc) not in CORRUPTION_CODES:
            raise
        return [str(exc)]
    return [line for (line,) in found if line != "ok"]


def _settings(db: driver.Connection) -> dict[str, str | int]:
    (journal,) = db.execute("PRAGMA journal_mode").fetchone()
    return {
        "journal_mode": journal,
        "synchronous": SYNCHRONOUS[pragma(db, "synchronous")],
        "auto_vacuum": _AUTO_VACUUM[pragma(db, "auto_vacuum")],
        **{name: pragma(db, name) for name in _NUMBERS},
    }


def _clock_behind(db: driver.Connection, shared: SharedState) -> float:
    """Return by how much the clock itself is behind; the store's time never is."""
    (newest,) = db.execute("SELECT max(last_seen) FROM seen").fetchone()
    return max(0.0, float(newest or 0) - read_clock(shared.config.clock))


def _wal_reset_bug(version: tuple[int, int, int]) -> Iterator[str]:
    """Yield the problem of a version that has the bug."""
    if not driver.has_wal_reset_bug(version):
        return
    name = ".".join(map(str, version))
    yield (
        f"several connections share the file, and SQLite {name} has the WAL-reset bug,"
        " which may, very rarely, damage it: pip install pysqlite3 and"
        " SeenStoreConfig(sqlite='pysqlite3') in every program that opens it, or a"
        " Python with SQLite 3.51.3 or newer (3.50.7 and 3.44.6 have the correction as"
        " well), or one process"
    )


def _never_shrinks(
    db: driver.Connection, settings: dict[str, str | int]
) -> Iterator[str]:
    free, pages = pragma(db, "freelist_count"), pragma(db, "page_count")
    if settings["auto_vacuum"] != "incremental" and free > pages / 4:
        yield (
            f"{free:,} of {pages:,} pages are free, and the file, which an earlier"
            " program made, cannot give them back: once, while nobody has it open, run"
            " PRAGMA auto_vacuum = INCREMENTAL; VACUUM"
        )
