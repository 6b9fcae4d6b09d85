"""The background purge."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    SeenStoreConfig,
    StoreUnavailableError,
)

from ..support.clock import DAY, Clock
from ..support.locks import write_lock
from ..support.sqlite_files import a_row, read, write
from ..support.targets import Target
from ..support.waiting import until


def purge_tasks() -> list[asyncio.Task[object]]:
    """The purge tasks of this loop."""
    return [task for task in asyncio.all_tasks() if "purge" in task.get_name()]


async def until_runs(store: AsyncSeenStore, runs: int) -> None:
    """Wait until a store has purged so often."""
    async with asyncio.timeout(60):
        while (await store.stats()).purge_runs < runs:
            await asyncio.sleep(0.005)


class TestTask:
    """Its life."""

    async def test_purge_task_lives_as_long_as_the_store(self, target: Target) -> None:
        """An open store has one named purge task, a closed store none."""
        async with AsyncSeenStore(target.config()):
            (task,) = purge_tasks()
            assert task.get_name().startswith("catalyst-seen")
            await asyncio.sleep(0.05)
            assert not task.done()
        assert task.cancelled()

    async def test_purge_interval_of_none_means_no_purge(
        self, path: Path, clock: Clock
    ) -> None:
        """An interval of None means no purge, not even at open."""
        write(path, "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)")
        write(path, "INSERT INTO seen VALUES ('k', 1)")
        async with AsyncSeenStore(path, purge_interval=None, clock=clock) as store:
            assert purge_tasks() == []
            await asyncio.sleep(0.05)
            assert (await store.stats()).purge_runs == 0
        assert read(path, "SELECT count(*) FROM seen") == [(1,)]

    @pytest.mark.slow
    async def test_open_starts_a_purge_without_waiting(
        self, path: Path, clock: Clock
    ) -> None:
        """Expired rows are purged after the open, which does not wait."""
        shares: list[float] = []
        while len(shares) < 5 and min(shares, default=1) >= 1 / 3:
            async with AsyncSeenStore(path, ttl=10, clock=clock) as store:
                await store.mark_many(map(str, range(30_000)))
            clock.advance(10)
            started = time.monotonic()
            async with AsyncSeenStore(path, clock=clock) as store:
                opened = time.monotonic() - started
                await until_runs(store, 1)
                shares.append(opened / (time.monotonic() - started))
                stats = await store.stats()
                assert (stats.purge_rows, stats.purge_failures) == (30_000, 0)
                assert stats.last_purge == clock.now
            assert read(path, "SELECT count(*) FROM seen") == [(0,)]
        assert min(shares) < 1 / 3  # a machine that stalls while it opens is no proof

    @pytest.mark.parametrize("interval", [0.01, timedelta(milliseconds=10)])
    async def test_purge_runs_after_every_interval(
        self, path: Path, clock: Clock, interval: float | timedelta
    ) -> None:
        """The purge runs again after every interval."""
        async with AsyncSeenStore(
            path, ttl=10, clock=clock, purge_interval=interval
        ) as store:
            for round_ in range(3):
                await store.mark_seen(str(round_))
                clock.advance(10)
                await until_runs(store, (await store.stats()).purge_runs + 2)
                assert read(path, "SELECT count(*) FROM seen") == [(0,)]
            assert (await store.stats()).purge_rows == 3

    async def test_purge_removes_expired_rows_everywhere(
        self, target: Target, clock: Clock
    ) -> None:
        """The purge removes expired rows on every backend that does not expire them."""
        config = target.config(purge_interval=0.01)
        async with AsyncSeenStore(config, ttl=10) as store:
            await store.mark_many(["a", "b"])
            await store.mark_seen("c", ttl=20)
            clock.advance(10)
            await until_runs(store, (await store.stats()).purge_runs + 2)
            stats = await store.stats()
            assert (stats.purge_rows, stats.purge_failures) == (target.removed(2), 0)
            assert stats.last_purge == clock.now
            assert await store.is_seen("c")

    @pytest.mark.slow
    async def test_close_does_not_wait_for_a_purge(self, path: Path) -> None:
        """A close does not wait for a long purge; the next purge removes the rest."""
        left: object = 0
        rounds = 0
        while not left and rounds < 5:  # a machine that stalls sees the end of a purge
            rounds += 1
            async with AsyncSeenStore(path, purge_interval=None) as store:
                await store.mark_many(map(str, range(50_000)), ts=1e9)
            store = AsyncSeenStore(path)
            await store.open()
            while read(path, "SELECT count(*) FROM seen") == [(50_000,)]:
                await asyncio.sleep(0)
            await store.aclose()
            ((left,),) = read(path, "SELECT count(*) FROM seen")
        assert isinstance(left, int)
        assert 0 < left < 50_000


class TestFailures:
    """A purge that fails."""

    async def test_locked_purge_is_logged_once(self, path: Path, clock: Clock) -> None:
        """A purge of a locked database is counted, logged once, and repeated."""
        config = SeenStoreConfig(path, purge_interval=0.01, clock=clock)
        async with AsyncSeenStore(config, ttl=10) as store:
            await until_runs(store, 1)
            await store.mark_seen("k")
            clock.advance(10)
            with capture_logs() as logs, write_lock(path):
                async with asyncio.timeout(60):
                    while (await store.stats()).purge_failures < 3:
                        await asyncio.sleep(0.01)
            (log,) = [log for log in logs if log["log_level"] != "debug"]
            assert (log["event"], log["log_level"]) == ("purge_failed", "warning")
            assert log["location"] == str(path)
            assert "locked" in log["error"]
            await until_runs(store, (await store.stats()).purge_runs + 1)
            assert (await store.stats()).purge_rows == 1
            await store.mark_seen("k")
            clock.advance(10)
            with capture_logs() as logs, write_lock(path):
                failures = (await store.stats()).purge_failures
                async with asyncio.timeout(60):
                    while (await store.stats()).purge_failures < failures + 1:
                        await asyncio.sleep(0.01)
            assert len(logs) == 1  # a new failure is new news

    async def test_blocked_purge_delays_no_reader(self, path: Path) -> None:
        """A purge that waits for another process's lock delays no reader for long."""
        config = SeenStoreConfig(path, timeout=200, purge_interval=0.001)
        async with AsyncSeenStore(config) as store:
            await until_runs(store, 1)
            with write_lock(path) as other:
                for statement in a_row("", "old", 0):
                    other.execute(statement)
                other.execute("COMMIT")
                other.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(0.05)
                started = time.monotonic()
                await store.is_seen("k")
                assert time.monotonic() - started < 60  # the timeout is 200
            await asyncio.wait_for(store.mark_seen("k"), 60)

    @pytest.mark.parametrize("lock", ["BEGIN EXCLUSIVE", "BEGIN; SELECT * FROM seen"])
    async def test_blocked_purge_delays_no_reader_without_wal(
        self, path: Path, lock: str
    ) -> None:
        """Without WAL a purge that waits for a lock delays no reader for long."""
        config = SeenStoreConfig(path, wal_mode=False, purge_interval=None, timeout=200)
        async with AsyncSeenStore(config) as store:
            await store.mark_many(["a", "b"], ts=1e9)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                for statement in lock.split(";"):
                    rows = other.execute(statement)
                    rows.fetchone()
                started = time.monotonic()
                with pytest.raises(StoreUnavailableError, match="locked"):
                    await store._maintenance.purge_expired(None, lock_timeout=0.05)
                assert time.monotonic() - started < 60  # the timeout is 200
                rows.close()
            assert await store.purge_expired() == 2

    async def test_reader_and_writer_wait_without_wal(self, path: Path) -> None:
        """Without WAL a blocked writer or reader proceeds when the others end."""
        config = SeenStoreConfig(path, wal_mode=False, purge_interval=None, timeout=200)
        async with AsyncSeenStore(config) as store:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN")
                other.execute("SELECT * FROM seen").fetchall()
                marking = asyncio.create_task(store.mark_seen("k"))
                await asyncio.sleep(0.1)
                assert not marking.done()
                other.execute("COMMIT")
                await asyncio.wait_for(marking, 60)
                other.execute("BEGIN EXCLUSIVE")
                counting = asyncio.create_task(store.count())
                await asyncio.sleep(0.1)
                assert not counting.done()
                other.execute("COMMIT")
                assert await asyncio.wait_for(counting, 60) == 1

    async def test_purge_without_expired_rows_needs_no_lock(self, path: Path) -> None:
        """A purge that finds nothing expired only reads, and needs no write lock."""
        async with AsyncSeenStore(path, purge_interval=0.001) as store:
            await store.mark_seen("k")
            with write_lock(path):
                runs = (await store.stats()).purge_runs
                await until_runs(store, runs + 3)
            assert (await store.stats()).purge_failures == 0

    async def test_purge_task_survives_any_error(self, path: Path) -> None:
        """No error ends the purge task, not even a bug."""

        class Broken(Clock):
            is_broken = False

            def __call__(self) -> float:
                if self.is_broken:
                    raise ZeroDivisionError("a broken clock")
                return self.now

        clock = Broken()
        with capture_logs():
            async with AsyncSeenStore(path, purge_interval=0.01, clock=clock) as store:
                clock.is_broken = True
                await until(lambda: store._maintenance.failures > 2)
                clock.is_broken = False
                await until_runs(store, store._maintenance.runs + 1)
                assert (await store.stats()).purge_failures > 2


@pytest.mark.parametrize("verb", ["purge_expired", "cleanup_old_entries"])
async def test_purged_rows_stay_gone_after_clock_step(
    path: Path, clock: Clock, verb: str
) -> None:
    """Rows removed by a clock that ran ahead stay removed."""
    async with AsyncSeenStore(path, purge_interval=None, clock=clock) as store:
        claim = await store.claim("k", lease=60)
        clock.advance(1_000)
        await getattr(store, verb)()
        clock.advance(-1_000)
        assert claim.remaining() == 0
        sighting = await store.check_and_mark("new")
        assert sighting.first_seen == clock.now + 1_000


class TestChunks:
    """Bounded steps."""

    @pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
    async def test_paged_purge_visits_every_row(
        self,
        target: Target,
        clock: Clock,
        chunk: int,
    ) -> None:
        """The pages of a purge cover every row, in one namespace and in all."""
        tuning = replace(target.settings.tuning, removal_page=chunk)
        config = target.config(purge_interval=None, tuning=tuning)
        async with AsyncSeenStore(config, ttl=DAY) as store:
            keys = [str(number) for number in range(7)]
            for namespace in ("", "a", "b", "c"):
                await store.mark_many(keys, ttl=1, namespace=namespace)
                await store.mark_many(["3 live", "9"], namespace=namespace)
            clock.advance(1)
            assert await store.purge_expired(namespace="b") == target.removed(7)
            assert await store.purge_expired(namespace="b") == 0
            assert await store.purge_expired() == target.removed(21)
            assert await store.count() == 8
            assert await store.cleanup_old_entries(0, namespace="a") == 2
            assert await store.cleanup_old_entries(0) == 6

    @pytest.mark.slow
    async def test_marks_proceed_during_a_purge(self, path: Path) -> None:
        """During a purge of 50,000 rows, marks proceed."""
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await store.mark_many(map(str, range(50_000)), ts=1e9)
            purge = asyncio.create_task(store.purge_expired())
            await asyncio.sleep(0)
            marks = 0
            while not purge.done():
                await store.mark_seen(f"mark {marks}")
                marks += 1
            assert await purge == 50_000
            assert marks > 25

    @pytest.mark.slow
    async def test_other_writers_proceed_between_pages(self, path: Path) -> None:
        """Another connection can write between two pages of a purge."""
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await store.mark_many(map(str, range(50_000)), ts=1e9)
            purge = asyncio.create_task(store.purge_expired())
            writes = await asyncio.to_thread(write_until, path, purge.done)
            assert await purge == 50_000
            assert writes > 25  # without a rest after each chunk it is about 5


def write_until(path: Path, is_done: Callable[[], bool]) -> int:
    """Write one row after the other; count them."""
    writes = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        while not is_done():
            for statement in a_row("o", str(writes)):
                db.execute(statement)
            writes += 1
            time.sleep(0.002)
    return writes
