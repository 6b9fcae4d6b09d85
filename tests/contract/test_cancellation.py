"""Cancelled and timed-out calls: unknown for the caller, harmless for all others."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore

from ..support.cancellation import cancel_after, time_of_two_calls
from ..support.clock import Clock
from ..support.locks import write_lock
from ..support.sqlite_files import a_row, read, write
from ..support.targets import Target


@pytest.mark.parametrize("verb", ["mark_seen", "check_and_mark", "forget"])
@pytest.mark.slow
async def test_cancelled_calls_end_cancelled_or_done(
    target: Target, path: Path, verb: str
) -> None:
    """Calls that are cancelled at random end cancelled or done."""
    calls = 300 if target.is_server else 1_000
    rng = random.Random(20_261_123)
    async with AsyncSeenStore(target.config()) as store:
        hop = await time_of_two_calls(store)
        endings: Counter[str] = Counter()
        for number in range(calls):
            call = asyncio.create_task(getattr(store, verb)(f"key {number}"))
            turns, pause = rng.choice([(rng.randrange(7), 0), (0, rng.random() * hop)])
            endings[await cancel_after(call, turns, pause)] += 1
            if number % 50 == 0:
                assert await store.check_and_mark(f"next {number}")
        assert endings["cancelled"] > calls / 10
        assert sum(endings.values()) == calls
        await store.mark_many(f"key {number}" for number in range(calls))
        assert await store.count() == calls + calls / 50
    if target.name == "file":
        assert read(path, "PRAGMA integrity_check") == [("ok",)]


async def test_acknowledged_calls_are_stored(target: Target) -> None:
    """Among calls cancelled at once, those that were acknowledged are stored."""
    rng = random.Random(7)
    async with AsyncSeenStore(target.config()) as store:
        for round_ in range(20):
            keys = [f"{round_} {number}" for number in range(50)]
            calls = [asyncio.create_task(store.mark_seen(key)) for key in keys]
            for call in rng.sample(calls, 25):
                asyncio.get_running_loop().call_later(rng.random() * 0.01, call.cancel)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            failures = {type(outcome) for outcome in outcomes if outcome is not None}
            assert failures <= {asyncio.CancelledError}
            acknowledged = [
                key
                for key, outcome in zip(keys, outcomes, strict=True)
                if outcome is None
            ]
            assert await store.filter_new(acknowledged) == []


@pytest.mark.slow
async def test_cancelled_batch_is_all_or_nothing(shared: Target) -> None:
    """A batch that is cancelled is stored whole or not at all, and locks nothing.

    Where there are no transactions, that goes for each of its keys.
    """
    rng = random.Random(3)
    endings: Counter[str] = Counter()
    stored: Counter[int] = Counter()
    config = shared.config(purge_interval=None)
    rounds = 40 if shared.is_server else 100
    async with AsyncSeenStore(config) as store, AsyncSeenStore(config) as other:
        for round_ in range(rounds):
            namespace = f"round {round_}"
            call = asyncio.create_task(
                store.check_and_mark_many(map(str, range(300)), namespace=namespace)
            )
            turns, pause = rng.choice([(rng.randrange(5), 0), (0, rng.random() * 0.02)])
            endings[await cancel_after(call, turns, pause)] += 1
            async with asyncio.timeout(5):
                await other.mark_seen("k", namespace="other")
                assert await other.forget("k", namespace="other")
            stored[await store.count(namespace=namespace)] += 1
    if shared.is_all_or_nothing:
        assert set(stored) <= {0, 300}
    assert stored[300] >= endings["done"]
    assert min(endings["cancelled"], stored[300]) > rounds / 10


async def test_timed_out_call_can_be_repeated(path: Path) -> None:
    """A call that timed out may have marked; a repetition is right either way."""
    async with AsyncSeenStore(path, purge_interval=None) as store:
        with write_lock(path):
            for number in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await store.check_and_mark(f"key {number}")
        won = [await store.check_and_mark(f"key {number}") for number in range(20)]
        again = [await store.check_and_mark(f"key {number}") for number in range(20)]
        assert len(won) == 20
        assert not any(again)


@pytest.mark.slow
async def test_cancelled_call_pins_no_snapshot(path: Path) -> None:
    """A call cancelled between its result and its caller leaves no cursor open.

    One left open pins a snapshot; after another process's commit, every write would
    fail with SQLITE_BUSY_SNAPSHOT, whatever the timeout.
    """
    async with AsyncSeenStore(path, purge_interval=None) as store:
        kept = []
        for number in range(50):
            call = asyncio.create_task(store.get(f"key {number}"))
            await asyncio.sleep(0)
            time.sleep(0.005)  # noqa: ASYNC251 - the answer is posted, nobody took it
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            kept.append(caught)
            write(path, *a_row("other", str(number)))
            assert await store.check_and_mark(f"key {number}")
        checkpoint = read(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert checkpoint == [(0, 0, 0)]


@pytest.mark.slow
async def test_cancelled_removal_keeps_whole_pages(path: Path) -> None:
    """A removal that is cancelled removed whole pages, and the next one continues."""
    async with AsyncSeenStore(path, purge_interval=None) as store:
        for verb in (store.purge_expired, store.cleanup_old_entries):
            await store.mark_many(map(str, range(20_000)), ts=1e9)
            call = asyncio.create_task(verb())
            while read(path, "SELECT count(*) FROM seen") == [(20_000,)]:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await store.is_seen("k")  # behind the chunk that was under way
            (left,) = read(path, "SELECT count(*) FROM seen")[0]
            assert isinstance(left, int)
            assert 0 < left < 20_000
            assert await verb() == left


@pytest.mark.slow
async def test_cancelled_cleanup_is_continued(
    store: AsyncSeenStore, clock: Clock
) -> None:
    """On every backend the next cleanup continues where a cancelled one stopped."""
    await store.mark_many(map(str, range(5_000)))
    clock.advance(10)
    call = asyncio.create_task(store.cleanup_old_entries(1e-5))
    while await store.count() == 5_000:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await store.forget("nothing")  # comes after the step that was under way
    left = await store.count()
    assert 0 < left < 5_000
    assert await store.cleanup_old_entries(1e-5) == left
