"""The effect of a purge on callers.

A hundred tasks mark new keys, together a thousand a second, which both contestants can
sustain: a slow mark is slow because of the purge. One in ten stored keys is live. The
alternative is the usual form: one ``DELETE`` on aiosqlite, under the lock.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import keys
from benchmarks.arena import Layout
from benchmarks.contestants import TTL
from benchmarks.contestants.naive import NaiveAiosqlite
from benchmarks.contestants.ours import Ours
from benchmarks.measure import (
    OURS,
    Goal,
    Measure,
    Outcome,
    Work,
    WrongAnswerError,
    percentile,
)
from benchmarks.pace import beside, probe, steadily
from catalyst_seen import AsyncSeenStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from benchmarks.arena import Arena
    from benchmarks.contestants import Marking
    from benchmarks.pace import Moment

ONE_DELETE = "one DELETE, naive aiosqlite"

_EXPIRED, _EXPIRED_QUICK = 1_000_000, 200_000
_TASKS = 100
_PAUSE = 0.1  # seconds of each task after a mark
_AROUND = 0.5  # seconds of the same load before and after the purge
_OLD = 2 * TTL  # seconds ago


def _expired(arena: Arena) -> int:
    return _EXPIRED_QUICK if arena.is_quick else _EXPIRED


async def _ours(arena: Arena) -> Outcome:
    """Purge with the store's own verb."""

    def fill(path: Path) -> None:
        old = Layout(arena.shared / "old.db", marked_at=time.time() - _OLD)
        old.copy(path)
        live = arena.layout
        with closing(sqlite3.connect(path)) as db, db:
            new = keys.digests(_expired(arena))
            db.executemany(old.insert, map(old.row, new))
            new = keys.digests(_expired(arena) // 10)
            db.executemany(live.insert, map(live.row, new))

    shutil.copyfile(arena.kept("expired-ours.db", fill), arena.file)
    async with AsyncSeenStore(arena.file, purge_interval=None) as store:
        return await _under_load(Ours(store), store.purge_expired, arena)


async def _one_delete(arena: Arena) -> Outcome:
    """Purge by one statement; the contestant creates the table when it opens."""

    def fill(path: Path) -> None:
        now = int(time.time())
        old = [(key, now - _OLD) for key in keys.digests(_expired(arena))]
        live = [(key, now) for key in keys.digests(_expired(arena) // 10)]
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)")
            db.executemany("INSERT INTO seen VALUES (?, ?)", old + live)

    shutil.copyfile(arena.kept("expired-naive.db", fill), arena.file)
    async with NaiveAiosqlite.opened(arena) as store:

        async def purge() -> int:
            async with store.lock:
                before = int(time.time()) - TTL
                done = await store.db.execute(
                    "DELETE FROM seen WHERE ts < ?", (before,)
                )
                await store.db.commit()
                return done.rowcount

        return await _under_load(store, purge, arena)


async def _under_load(
    store: Marking, purge: Callable[[], Awaitable[int]], arena: Arena
) -> Outcome:
    """Purge while tasks mark keys, and measure the marks during the purge."""
    marks: list[Moment] = []
    lags: list[Moment] = []

    async def mark() -> None:
        (key,) = keys.digests(1)
        if not await store.check_and_mark(key):
            raise WrongAnswerError("a new key was a duplicate")

    load = steadily(mark, marks, tasks=_TASKS, pause=_PAUSE)
    async with beside(load), beside(probe(lags)):
        await asyncio.sleep(_AROUND)
        started = perf_counter()
        removed = await purge()
        ended = perf_counter()
        await asyncio.sleep(_AROUND)
    if not 0 <= removed - _expired(arena) <= 1:  # the first key of the file may differ
        raise WrongAnswerError(f"{removed:,} rows were removed")
    stalls = _between(marks, started, ended)
    figures = {
        "mark p99": percentile(stalls, 0.99),
        "mark max": max(stalls),
        "loop lag max": max(_between(lags, started, ended)),
        "purge": ended - started,
    }
    points = [(began - started, 1e3 * took) for began, took in marks]
    return Outcome(figures, points=points)


def _between(moments: Sequence[Moment], start: float, end: float) -> list[float]:
    """Return the durations that overlap an interval, in milliseconds."""
    return [
        1e3 * took for began, took in moments if began < end and began + took > start
    ]


PURGE = Work(
    "purge",
    f"{_EXPIRED:,} expired rows are purged while 100 tasks mark 1,000 keys a second",
    (
        Measure("mark p99", "ms", goals=(Goal(20),)),
        Measure("mark max", "ms", goals=(Goal(100),)),
        Measure("loop lag max", "ms", goals=(Goal(20),)),
        Measure("purge", "s"),
    ),
    {OURS: _ours, ONE_DELETE: _one_delete},
    is_long=True,
    quick=f"{_EXPIRED_QUICK:,} rows only",
)
"""How long marks take meanwhile, and how late the event loop is."""
