"""What the counters of ``metrics()`` cost: counting again what a work has counted."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from time import process_time
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks import keys
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work
from catalyst_seen import AsyncSeenStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from benchmarks.arena import Arena

_TASKS = 100
_AT_ONCE = 1_000
_REPEATS = 10


Call = tuple[Callable[..., None], tuple[object, ...]]


@contextmanager
def _recorded(store: AsyncSeenStore) -> Iterator[list[Call]]:
    """Yield a list that grows by each call that counts something."""
    engine = store._dispatcher  # noqa: SLF001 - its counters are what is measured
    calls: list[Call] = []

    def recording(count: Callable[..., None]) -> Callable[..., None]:
        def record(*arguments: object) -> None:
            calls.append((count, arguments))
            count(*arguments)

        return record

    with ExitStack() as stack:
        for counter, name in (
            (engine.counters, "count_results"),
            (engine.counters, "count_batch"),
            (engine.cache.hits, "add"),
        ):
            patched = recording(getattr(counter, name))
            stack.enter_context(patch.object(counter, name, patched))
        yield calls


async def _by_tasks(store: AsyncSeenStore) -> None:
    new = keys.digests(_AT_ONCE)

    async def mark(some: list[str]) -> None:
        for key in some:
            await store.check_and_mark(key, namespace="feed")

    await asyncio.gather(*(mark(new[first::_TASKS]) for first in range(_TASKS)))


async def _alone(store: AsyncSeenStore) -> None:
    for key in keys.digests(_AT_ONCE // 5):
        await store.check_and_mark(key, namespace="feed")


async def _in_one_call(store: AsyncSeenStore) -> None:
    await store.check_and_mark_many(keys.digests(5 * _AT_ONCE), namespace="feed")


async def _from_memory(store: AsyncSeenStore) -> None:
    for _ in range(_AT_ONCE):
        await store.check_and_mark("known", namespace="feed")


async def _cost(
    store: AsyncSeenStore, work: Callable[[AsyncSeenStore], Awaitable[None]]
) -> float:
    """Return the percentage of a work's CPU time that counting is.

    What it counts is counted again, because the difference of two works is larger.
    """
    used = []
    for _ in range(_REPEATS):
        gc.collect()
        started = process_time()
        await work(store)
        used.append(process_time() - started)
    with _recorded(store) as calls:
        await work(store)
    return 100 * min(_counting(calls) for _ in range(_REPEATS)) / min(used)


def _counting(calls: list[Call]) -> float:
    """Return the seconds that calls take."""
    started = process_time()
    for count, arguments in calls:
        count(*arguments)
    return process_time() - started


async def _run(arena: Arena) -> Outcome:
    async with AsyncSeenStore(arena.file, purge_interval=None) as store:
        await store.mark_seen("known", namespace="feed")
        figures = {
            "by 100 tasks": await _cost(store, _by_tasks),
            "alone": await _cost(store, _alone),
            "in one call": await _cost(store, _in_one_call),
            "from memory": await _cost(store, _from_memory),
        }
    return Outcome(figures)


_ONE = (Goal(1.0, is_aim=True),)

COUNTING = Work(
    "counting",
    "what counting for metrics() takes of the CPU time of check_and_mark",
    (
        Measure("by 100 tasks", "%", goals=_ONE),
        Measure("alone", "%", goals=_ONE),
        Measure("in one call", "%", goals=_ONE),
        Measure("from memory", "%"),
    ),
    {OURS: _run},
)
"""New keys on a file, by many tasks, one by one, and 5,000 in a call; a known key."""
