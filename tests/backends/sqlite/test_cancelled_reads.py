"""Long reads that are cancelled again and again, as a cancel scope of anyio does."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

from ...support.sqlite_faults import SqliteFaults


@pytest.mark.parametrize("verb", ["check", "count", "stats", "held", "backup"])
async def test_cancelled_again_and_again(path: Path, verb: str) -> None:
    """Whoever is cancelled leaves no thread behind, and asyncio need not complain."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(str(context))
    )
    begun, go_on = threading.Event(), threading.Event()

    def stall(execute: Callable[[], object]) -> object:
        begun.set()
        go_on.wait(60)
        return execute()

    faults = SqliteFaults()
    config = SeenStoreConfig(path, tuning=faults.tuning, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        await store.mark_many(map(str, range(100)))
        threads = threading.active_count()
        for statement in ("BEGIN", "SELECT", "PRAGMA quick_check"):
            faults.replace(statement, stall)
        arguments = [path.with_name("copy.db")] if verb == "backup" else []
        with anyio.CancelScope() as scope:
            reading = asyncio.ensure_future(_call(store, verb, *arguments))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            for _ in range(20):  # the thread is still at work
                reading.cancel()
                await asyncio.sleep(0)
            assert not reading.done()
            go_on.set()
            while not reading.done():
                reading.cancel()
                await asyncio.sleep(0)
            assert reading.cancelled()
            scope.cancel()
        assert threading.active_count() == threads
        del reading
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []
    assert [one.name for one in path.parent.glob("*.partial")] == []


async def _call(store: AsyncSeenStore, verb: str, *arguments: Path) -> None:
    await getattr(store, verb)(*arguments)


async def test_cancel_scope(path: Path) -> None:
    """Reads that scopes end one after the other pile up neither threads nor errors."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(str(context))
    )
    async with AsyncSeenStore(path, purge_interval=None) as store:
        await store.mark_many(map(str, range(20_000)))
        threads = threading.active_count()
        for number in range(10):
            with anyio.move_on_after(0.001 * number):
                await store.check(full=True)
            with anyio.move_on_after(0.001 * number):
                await store.backup(path.with_name(f"{number}.db"))
            assert threading.active_count() == threads
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []
