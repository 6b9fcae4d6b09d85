"""Calls from the cache share the iterations of the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen._engine.turns import Turns

KEYS = [f"key {number}" for number in range(50)]


class Iterations:
    """Counts the iterations of the event loop while a block runs."""

    def __init__(self) -> None:
        self.number = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._count())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _count(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)


async def test_page_of_an_iteration() -> None:
    """No iteration has more keys than a page and one call; the order is kept."""
    turns, order, found = Turns(100), list[int](), Counter[int]()

    async def call(number: int, keys: int) -> None:
        await turns.take(keys)
        order.append(number)
        found[iterations.number] += keys

    async with Iterations() as iterations:
        await asyncio.gather(*(call(number, 30) for number in range(50)))
    assert sum(found.values()) == 50 * 30
    assert max(found.values()) <= 100 + 30
    assert order == sorted(order)


async def test_cancelled_waiter() -> None:
    """A caller that gives up while it waits takes no turn from the others."""
    turns, done = Turns(10), list[int]()

    async def call(number: int) -> None:
        await turns.take(10)
        done.append(number)

    calls = [asyncio.create_task(call(number)) for number in range(6)]
    await asyncio.sleep(0)
    calls[2].cancel()
    calls[3].cancel()
    await asyncio.wait(calls, timeout=30)
    assert done == [0, 1, 4, 5]


async def test_large_call_has_its_turn() -> None:
    """A call with more keys than a page waits for one iteration, not for ever."""
    turns = Turns(10)
    async with asyncio.timeout(30):
        for _ in range(3):
            await turns.take(1_000)


POLLS: dict[str, Callable[[AsyncSeenStore], Any]] = {
    "filter_new": lambda store: store.filter_new(KEYS),
    "check_and_mark_many": lambda store: store.check_and_mark_many(KEYS),
    "claim_many": lambda store: store.claim_many(KEYS),
}


@pytest.mark.parametrize("verb", POLLS)
async def test_many_tasks_that_poll_at_once(verb: str) -> None:
    """A thousand tasks whose listings are cached do not run in one iteration."""
    config = SeenStoreConfig(":memory:", purge_interval=None, recent_staleness=3_600)
    ended = Counter[int]()

    async def poll() -> None:
        assert not any(await POLLS[verb](store))
        ended[iterations.number] += 1

    async with AsyncSeenStore(config) as store:
        await store.mark_many(KEYS)
        await store.check_and_mark_many(KEYS)
        before = (await store.stats()).operations
        async with Iterations() as iterations:
            await asyncio.gather(*(poll() for _ in range(1_000)))
        assert (await store.stats()).operations == before
    assert max(ended.values()) <= 250


async def test_results_of_many_keys_are_delivered_in_parts() -> None:
    """The callers of one batch do not all resume in one iteration."""
    config = SeenStoreConfig(
        ":memory:", purge_interval=None, recent_keys=0, max_in_flight=10_000
    )
    ended = Counter[int]()

    async def poll(number: int) -> None:
        new = [f"{number} {key}" for key in KEYS]
        assert all(await store.check_and_mark_many(new))
        ended[iterations.number] += 1

    async with AsyncSeenStore(config) as store:
        await asyncio.gather(store.mark_seen("a"), store.mark_seen("b"))
        async with Iterations() as iterations:
            await asyncio.gather(*(poll(number) for number in range(100)))
    assert ended.total() == 100
    assert max(ended.values()) <= 10  # 250 keys of one batch, and a call of another
