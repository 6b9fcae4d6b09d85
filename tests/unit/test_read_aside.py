"""What only reads, beside other calls: it keeps nobody waiting, and ends when told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, StoreUnavailableError
from catalyst_seen.backends.operations import Mark

from ..faults.harness.marking import settings
from ..support.clock import Clock
from ..support.locks import write_lock
from ..support.sqlite_files import a_row, read


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("reading", ["count", "stats", "held", "check"])
@pytest.mark.slow
async def test_concurrent_reads_share_few_threads(path: Path, reading: str) -> None:
    """Many concurrent detached reads use few threads and files."""
    async with AsyncSeenStore(settings(path)) as store:
        await store.mark_seen("k")
        before = threading.active_count()
        calls = [asyncio.create_task(getattr(store, reading)()) for _ in range(200)]
        most = 0
        while not all(call.done() for call in calls):
            most = max(most, threading.active_count() - before)
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        assert 1 <= most <= 10


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("wal_mode", [True, False])
@pytest.mark.parametrize("reading", ["count", "stats", "held", "check", "backup"])
@pytest.mark.slow
async def test_cancelled_read_ends_though_locked(
    path: Path, reading: str, *, wal_mode: bool
) -> None:
    """A cancelled read ends cancelled, even if the database is locked."""
    async with AsyncSeenStore(settings(path, wal_mode=wal_mode, timeout=200)) as store:
        await store.mark_many(map(str, range(2_000)))
        arguments = [path.with_name("copy.db")] if reading == "backup" else []
        with write_lock(path) as db:
            if not wal_mode:
                for statement in a_row("", "other"):
                    db.execute(statement)
                db.execute("PRAGMA cache_spill = 1")
                db.execute("COMMIT")
                db.execute("BEGIN EXCLUSIVE")
            for turns in range(40):
                call = asyncio.create_task(getattr(store, reading)(*arguments))
                for _ in range(turns):
                    await asyncio.sleep(0.0002)
                started = time.monotonic()
                call.cancel()
                await asyncio.wait({call})
                assert time.monotonic() - started < 60  # of a timeout of 200
                assert call.cancelled() or call.exception() is None
                path.with_name("copy.db").unlink(missing_ok=True)


async def test_cancelled_writer_blocks_no_reader(path: Path) -> None:
    """A writer that was cancelled leaves no reader waiting for its lock."""
    async with AsyncSeenStore(settings(path, timeout=200)) as store:
        await store.mark_seen("k")
        with write_lock(path):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.mark_seen("new"), 0.1)
            started = time.monotonic()
            assert await store.is_seen("k")
            assert time.monotonic() - started < 60  # of a timeout of 200


async def test_call_that_waited_before_waits_for_the_rest_only(path: Path) -> None:
    """A batch gets what its calls have left of the timeout, and no new one."""
    async with AsyncSeenStore(settings(path, timeout=600)) as store:
        apply = store._lifecycle.backend.apply
        with write_lock(path):
            async with asyncio.timeout(60):
                with pytest.raises(StoreUnavailableError):
                    await apply(
                        [Mark("", "k", None)], sample_version=False, timeout=0.1
                    )
        assert await store.check_and_mark("k")


async def test_readers_of_a_blocked_batch_are_served(path: Path) -> None:
    """Readers in a batch with blocked writers are served beside it, all of them."""
    async with AsyncSeenStore(settings(path, timeout=200)) as store:
        await store.mark_seen("k")
        with write_lock(path) as db:
            writers = [asyncio.create_task(store.mark_seen(f"{n}")) for n in range(5)]
            async with asyncio.timeout(60):
                assert (
                    await asyncio.gather(
                        *(store.is_seen("k") for _ in range(20)),
                        *(store.is_seen("new") for _ in range(20)),
                    )
                    == [True] * 20 + [False] * 20
                )
                assert await store.filter_new(["k", "a", "b"]) == ["a", "b"]
            assert not any(writer.done() for writer in writers)
            db.execute("ROLLBACK")
            await asyncio.gather(*writers)
        assert await store.count() == 6


async def test_failed_detached_read_waits_for_its_batch(
    path: Path, clock: Clock
) -> None:
    """If a detached read fails, the reader waits for its batch and gets its result."""
    asked = 0

    def trembling() -> float:
        nonlocal asked
        asked += 1
        if threading.current_thread() not in ours:
            raise ValueError("not here")
        return clock()

    ours = {*threading.enumerate()}
    store = AsyncSeenStore(settings(path, timeout=200), clock=trembling)
    await store.open()
    ours |= {*threading.enumerate()}
    await store.mark_seen("k")
    with write_lock(path) as db:
        writer = asyncio.create_task(store.mark_seen("new"))
        reader = asyncio.create_task(store.is_seen("k"))
        await asyncio.sleep(0.5)
        assert not reader.done()
        db.execute("ROLLBACK")
        assert await reader
        await writer
    await store.aclose()


async def test_locked_file_is_not_called_damaged(path: Path) -> None:
    """A file that other programs write to is not called damaged."""
    async with AsyncSeenStore(settings(path, wal_mode=False, timeout=0.1)) as store:
        await store.mark_seen("k")
        with write_lock(path) as db:
            db.execute("COMMIT")
            db.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                await store.check()
        assert await store.check()


@pytest.mark.slow
async def test_purge_count_survives_a_locked_vacuum(path: Path, clock: Clock) -> None:
    """A lock that prevents a vacuum does not change the count of removed rows."""
    async with AsyncSeenStore(
        settings(path, timeout=0.2), ttl=10, clock=clock
    ) as store:
        await store.mark_many(f"{number:060}" for number in range(20_000))
        clock.advance(20)
        removing = asyncio.create_task(store.purge_expired())
        while read(path, "SELECT count(*) FROM seen") != [(0,)]:
            await asyncio.sleep(0)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as db:
            db.execute("BEGIN IMMEDIATE")
            assert await removing == 20_000
        assert (await store.stats()).purge_failures == 0
        await store.purge_expired()
        pages = read(path, "PRAGMA page_count")
        assert pages < [(100,)]
