"""Group E: files that grow, and callers that wait; E6 is ``nox -s bench``."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, StoreError, StoreStats

from ..support.clock import DAY, Clock
from ..support.locks import transaction
from .harness.marking import settings
from .harness.processes import stored
from .harness.report import Fault, Row

TASKS = 100
MB = 1_000_000


@dataclass
class Load:
    """Callers that mark all the time, and how long each call took."""

    store: AsyncSeenStore
    pause: float
    seconds: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    largest_log: int = 0
    is_over: bool = False

    async def mark(self) -> None:
        """Mark one key after the other."""
        while not self.is_over:
            started = time.monotonic()
            try:
                assert await self.store.check_and_mark(os.urandom(8).hex())
                self.seconds.append(time.monotonic() - started)
            except StoreError:
                self.refused.append(time.monotonic() - started)
            await asyncio.sleep(self.pause)

    async def watch(self, path: Path) -> None:
        """Look how large the log becomes."""
        while not self.is_over:
            self.largest_log = max(self.largest_log, log_bytes(path))
            await asyncio.sleep(0.005)

    def figures(self) -> str:
        """Word how long the calls took."""
        return f"{len(self.seconds):,} marks: {percentiles(self.seconds)}"


def percentiles(seconds: list[float]) -> str:
    """Word how long calls took."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p50, p99 = (ordered[len(ordered) * part // 100] for part in (50, 99))
    figures = {"p50": p50, "p99": p99, "max": ordered[-1]}
    return ", ".join(f"{name} {one * 1e3:.1f} ms" for name, one in figures.items())


@asynccontextmanager
async def loaded(
    store: AsyncSeenStore, path: Path, *, pause: float = 0, tasks: int = TASKS
) -> AsyncIterator[Load]:
    """Let many tasks mark for the length of a block."""
    load = Load(store, pause)
    running = [asyncio.create_task(load.mark()) for _ in range(tasks)]
    running.append(asyncio.create_task(load.watch(path)))
    try:
        yield load
    finally:
        load.is_over = True
        await asyncio.gather(*running)


def log_bytes(path: Path) -> int:
    """How large the log is."""
    with suppress(FileNotFoundError):
        return path.with_name(f"{path.name}-wal").stat().st_size
    return 0


async def test_pinned_log(path: Path, fault: Fault, *, torture: bool) -> None:
    """A reader that pins the log raises an alarm; when it is gone the log shrinks."""
    length = 60 if torture else 12
    row = fault("E1", f"a reader pins the log for {length} s under load")
    async with AsyncSeenStore(settings(path)) as store:
        await store.mark_seen("k")
        with capture_logs() as logs:
            async with loaded(store, path, pause=0.1) as load:
                with transaction(path, "BEGIN", "SELECT * FROM seen"):
                    alarm = await watch_alarm(store, length)
                gone = time.monotonic()
                while pinned(await store.stats()) or log_bytes(path) > 8 * MB:
                    assert time.monotonic() - gone < 60, log_bytes(path)
                    await asyncio.sleep(0.05)
                shrunk = time.monotonic() - gone
            stats = await store.stats()
    assert "pinned" in alarm
    assert [log["event"] for log in logs] == ["wal_pinned"]
    assert stats.wal_pinned < 10
    assert not load.refused
    _, intact = stored(path)
    assert intact
    row.passed()
    row.seconds = max(load.seconds)
    row.note(
        f"alarm: {alarm!r}; log at most {load.largest_log / MB:.1f} MB, below 8 MB"
        f" {shrunk:.1f} s after the reader had gone; {load.figures()}"
    )


def pinned(stats: StoreStats) -> str:
    """Return the alarm of a pinned log; there may be others."""
    return next((alarm for alarm in stats.alarms if "pinned" in alarm), "")


async def watch_alarm(store: AsyncSeenStore, length: float) -> str:
    """Wait so long; return the alarm that has come by then."""
    started = time.monotonic()
    found = ""
    while time.monotonic() - started < length:
        stats = await store.stats()
        if pinned(stats):
            found = pinned(stats)
            assert stats.wal_pinned >= 10
            assert stats.wal_bytes > 4 * MB
        await asyncio.sleep(0.2)
    return found


async def test_full_load(path: Path, fault: Fault, *, torture: bool) -> None:
    """Without such a reader the log stays small, however much is written."""
    length = 20 if torture else 2
    row = fault("E1", f"100 tasks mark as fast as they can for {length} s")
    async with AsyncSeenStore(settings(path)) as store:
        async with loaded(store, path) as load:
            await asyncio.sleep(length)
        stats = await store.stats()
    row.note(f"log at most {load.largest_log / MB:.1f} MB; {load.figures()}")
    assert (load.refused, stats.alarms, stats.checkpoint_failures) == ([], (), 0)
    assert load.largest_log < 16 * MB
    row.passed()
    row.seconds = max(load.seconds)


async def test_purge_under_load(path: Path, fault: Fault, *, torture: bool) -> None:
    """A purge of nine rows in ten goes in steps, and gives the room back in steps."""
    expired, kept = (1_000_000, 100_000) if torture else (30_000, 3_000)
    purging = fault("E2", f"a purge of {expired:,} rows while 20 tasks mark")
    shrinking = fault("E3", f"the file shrinks after a purge of {expired:,} rows")
    async with AsyncSeenStore(settings(path)):
        pass
    fill(path, expired, kept)
    before = path.stat().st_size
    async with AsyncSeenStore(settings(path)) as store:
        async with loaded(store, path, pause=0.01, tasks=20) as load:
            started = time.monotonic()
            assert await store.purge_expired() == expired
            took = time.monotonic() - started
            report(purging, load, f"{expired / took:,.0f} rows/s in {took:.1f} s")
            while await has_slack(store):
                assert time.monotonic() - started < 60
                await asyncio.sleep(0.05)
            shrunk = time.monotonic() - started
            await asyncio.sleep(0.5)
        stats = await store.stats()
    after = path.stat().st_size
    _, intact = stored(path)
    assert intact
    part = given_back(path, before, stats.free_pages)
    figures = (
        f"{before / MB:.1f} MB, {after / MB:.1f} MB {shrunk:.1f} s after it"
        f" began: {part:.0%} of what was freed"
    )
    report(shrinking, load, figures)
    assert part > 0.8
    assert most(load.seconds) < max(shrunk / 3, 2)


def report(row: Row, load: Load, figures: str) -> None:
    """Fill a line."""
    assert not load.refused
    assert load.seconds
    row.passed()
    row.seconds = max(load.seconds)
    log = f"log at most {load.largest_log / MB:.1f} MB"
    row.note(f"{figures}; meanwhile {load.figures()}; {log}")


def fill(path: Path, expired: int, kept: int) -> None:
    """Write rows as a store would have, long ago; a hash is what keys are like."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT OR IGNORE INTO namespace (name) VALUES ('')")
        db.execute(
            """WITH RECURSIVE numbers (number) AS
                (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?)
            INSERT INTO seen (namespace, key, first_seen, last_seen, expires_at)
            SELECT namespace.id, hex(randomblob(16)), 1, 1,
                CASE WHEN number > ? THEN 1e11 ELSE 2 END
            FROM numbers CROSS JOIN namespace ORDER BY 2""",
            (expired + kept, expired),
        )


async def has_slack(store: AsyncSeenStore) -> bool:
    """Is there still more free in the file than it needs?"""
    stats = await store.stats()
    return stats.free_pages * 4_096 > stats.file_bytes / 10


def given_back(path: Path, before: int, free_pages: int) -> float:
    """Say what part of the pages that a purge has freed are no longer in the file."""
    after = path.stat().st_size
    freed = before - (after - free_pages * 4_096)
    return (before - after) / freed


async def test_steady_load(
    path: Path, clock: Clock, fault: Fault, *, torture: bool
) -> None:
    """In thirty days of marks that last one day, nothing grows after the first days."""
    days, keys = (30, 60) if torture else (8, 20)
    row = fault("E4", f"{days} days of {144 * keys:,} marks a day, TTL one day")
    sizes: list[tuple[int, int, int]] = []
    async with AsyncSeenStore(settings(path), ttl=DAY, clock=clock) as store:
        for step in range(days * 144):
            clock.advance(600)
            await store.mark_many(os.urandom(16).hex() for _ in range(keys))
            if step % 6 == 0:
                await store.purge_expired()
            if step % 144 == 143:
                stats = await store.stats()
                sizes.append((stats.keys, stats.file_bytes, stats.free_pages))
        rows = (await store.stats()).keys
    _, intact = stored(path)
    assert intact
    settled, late = sizes[2 : days // 2], sizes[days // 2 :]
    for place, name in enumerate(("rows", "bytes", "free pages")):
        early, last = (max(one[place] for one in some) for some in (settled, late))
        row.note(f"{name}: at most {early:,} by day {days // 2}, {last:,} after")
        assert last <= early * 1.15 + 10
    assert rows == 144 * keys
    row.passed(days)


async def test_write_lock(path: Path, fault: Fault, *, torture: bool) -> None:
    """While another has the write lock, writes fail in time and reads are answered."""
    length = 10 if torture else 2
    row = fault("E5", f"write lock held elsewhere for {length} s, timeout 1 s")
    reads: list[float] = []
    async with AsyncSeenStore(settings(path, timeout=1, on_error="raise")) as store:
        await store.mark_seen("k")
        with transaction(path, "BEGIN IMMEDIATE"):
            await read(store, reads, length / 4)
            row.note(f"reads alone: {percentiles(reads)}")
            reads.clear()
            async with loaded(store, path, tasks=50) as load:
                await read(store, reads, length)
            row.note(f"reads while 50 tasks try to write: {percentiles(reads)}")
        started = time.monotonic()
        assert await store.check_and_mark("after")
        row.note(
            f"{len(load.refused):,} writes refused: {percentiles(load.refused)}; first"
            f" mark after it {(time.monotonic() - started) * 1e3:.0f} ms"
        )
        assert await store.count() == 2
    assert load.seconds == []
    assert len(load.refused) >= 50
    assert min(load.refused) >= 0.9
    assert most(reads) < min(load.refused)  # none waits as long as the writes do
    assert most(load.refused) < 6
    row.seconds = max(load.refused)
    row.passed()


def most(seconds: list[float]) -> float:
    """What nine calls in ten stay below: the others may meet a machine that stalls."""
    return sorted(seconds)[len(seconds) * 9 // 10]


async def read(store: AsyncSeenStore, reads: list[float], length: float) -> None:
    """Read for so long; every read is answered."""
    end = time.monotonic() + length
    while (started := time.monotonic()) < end:
        assert await store.is_seen("k")
        reads.append(time.monotonic() - started)
        await asyncio.sleep(0.002)
