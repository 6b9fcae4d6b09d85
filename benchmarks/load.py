"""Load for a contestant: by tasks or in batches, timed, with checked results.

Keys are created before the clock starts. Their number depends on the contestant: enough
to keep it busy for a given time, so that a slow contestant does not delay the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from . import keys
from .timing import noting, percentiles, remembered, timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from .arena import Arena
    from .contestants import (
        Claiming,
        ClaimingMany,
        Looking,
        Marking,
        MarkingMany,
        Opener,
        Repeating,
    )
    from .measure import Outcome, Run
    from .servers import Place
    from .timing import Ask

    AskMany = Callable[[Sequence[str]], Awaitable[int]]

TIME = "time"
"""The measure of works that time one operation, in microseconds."""

SIZE = "size"
"""The measure of works on the memory per key, in bytes."""

_AGAIN = 100  # keys that are checked a second time, untimed
_RECENT = 1_000  # keys: the size of a few feeds
_BATCH = 1_000  # keys of a call that fills


def marking(opened: Opener[Marking], tasks: int) -> Run:
    """Mark new keys from a number of tasks."""

    async def run(arena: Arena) -> Outcome:
        new = arena.keys(arena.size)
        async with opened(arena) as store:
            asking = by_tasks(store.check_and_mark, new, tasks)
            outcome = await timed(asking, len(new), true=len(new))
            return await remembered(
                outcome, by_tasks(store.check_and_mark, new[:_AGAIN], 1)
            )

    return run


def marking_many(opened: Opener[MarkingMany], size: int) -> Run:
    """Mark new keys in batches, one after the other."""

    async def run(arena: Arena) -> Outcome:
        new = arena.keys(whole_batches(arena.size, size))
        async with opened(arena) as store:
            mark = store.check_and_mark_many
            asking = by_batches(mark, new, size)
            outcome = await timed(asking, len(new), true=len(new))
            return await remembered(outcome, by_batches(mark, new[:_AGAIN], size))

    return run


def repeating(opened: Opener[Repeating], tasks: int) -> Run:
    """Check keys from a number of tasks, each of which was checked before."""

    async def run(arena: Arena) -> Outcome:
        seen = arena.keys(_RECENT)
        again = keys.shuffled(seen, arena.size)
        async with opened(arena) as store:
            await store.check_and_mark_many(seen)
            await by_tasks(store.check_and_mark, seen, tasks)
            asking = by_tasks(store.check_and_mark, again, tasks)
            return await timed(asking, len(again), true=0)

    return run


def repeating_many(opened: Opener[MarkingMany], size: int) -> Run:
    """Check recently marked keys in batches."""

    async def run(arena: Arena) -> Outcome:
        seen = arena.keys(_RECENT)
        again = keys.shuffled(seen, whole_batches(arena.size, size))
        async with opened(arena) as store:
            await store.check_and_mark_many(seen)
            asking = by_batches(store.check_and_mark_many, again, size)
            return await timed(asking, len(again), true=0)

    return run


def reopened(opened: Opener[Repeating], tasks: int) -> Run:
    """Check each key once that was marked before the store was opened."""

    async def run(arena: Arena) -> Outcome:
        seen = arena.keys(arena.size)
        async with opened(arena) as store:
            await store.check_and_mark_many(seen)
        again = sorted(seen)  # random keys: their order differs from that of the marks
        async with opened(arena) as store:
            asking = by_tasks(store.check_and_mark, again, tasks)
            return await timed(asking, len(again), true=0)

    return run


def cycling(opened: Opener[Marking], marks: int) -> Run:
    """Open a store, mark new keys from one caller, and close it, again and again."""

    async def run(arena: Arena) -> Outcome:
        new = arena.keys(max(1, arena.size // marks) * marks)

        async def cycles() -> int:
            marked = 0
            for first in range(0, len(new), marks):
                async with opened(arena) as store:
                    part = new[first : first + marks]
                    marked += await by_tasks(store.check_and_mark, part, 1)
            return marked

        outcome = await timed(cycles(), len(new), true=len(new))
        return replace(outcome, figures={TIME: 1e6 * marks / outcome.rate})

    return run


def looking(opened: Opener[Looking]) -> Run:
    """Read keys from one caller, each of which was read before."""

    async def run(arena: Arena) -> Outcome:
        seen = arena.keys(_RECENT)
        again = keys.shuffled(seen, arena.size)
        async with opened(arena) as store:
            await store.check_and_mark_many(seen)
            await by_tasks(store.is_seen, seen, 1)
            asking = by_tasks(store.is_seen, again, 1)
            return await timed(asking, len(again), true=len(again))

    return run


def claiming(opened: Opener[Claiming], tasks: int) -> Run:
    """Claim and confirm new keys from a number of tasks."""

    async def run(arena: Arena) -> Outcome:
        new = arena.keys(arena.size)
        async with opened(arena) as store:
            asking = by_tasks(store.claim_and_confirm, new, tasks)
            outcome = await timed(asking, len(new), true=len(new))
            return await remembered(
                outcome, by_tasks(store.claim_and_confirm, new[:_AGAIN], 1)
            )

    return run


def claiming_many(opened: Opener[ClaimingMany], size: int) -> Run:
    """Claim and confirm new keys in batches, one after the other."""

    async def run(arena: Arena) -> Outcome:
        new = arena.keys(whole_batches(arena.size, size))
        async with opened(arena) as store:
            claim = store.claim_and_confirm_many
            outcome = await timed(by_batches(claim, new, size), len(new), true=len(new))
            return await remembered(outcome, by_batches(claim, new[:_AGAIN], size))

    return run


def latencies(opened: Opener[Marking], tasks: int) -> Run:
    """Mark new keys from so many tasks, and time every mark."""

    async def run(arena: Arena) -> Outcome:
        new = arena.keys(arena.size)
        taken: list[float] = []
        async with opened(arena) as store:
            asking = by_tasks(noting(store.check_and_mark, taken), new, tasks)
            outcome = await timed(asking, len(new), true=len(new))
            again = by_tasks(store.check_and_mark, new[:_AGAIN], 1)
            await remembered(outcome, again)
        return replace(outcome, figures=percentiles(taken))

    return run


def filling(opened: Opener[MarkingMany], place: Place, count: int, quick: int) -> Run:
    """Mark new keys on an empty server, and measure the memory per key.

    Args:
        opened: Opens a contestant.
        place: Returns the server of the contestant.
        count: Number of keys.
        quick: Number of keys in the quick form.
    """

    async def run(arena: Arena) -> Outcome:
        server = place(arena.servers)
        server.clear()
        before = await asyncio.to_thread(server.used)
        new = arena.keys(quick if arena.is_quick else count)
        async with opened(arena) as store:
            asking = by_batches(store.check_and_mark_many, new, _BATCH)
            outcome = await timed(asking, len(new), true=len(new))
        used = await asyncio.to_thread(server.used) - before
        return replace(outcome, figures={SIZE: used / len(new)})

    return run


def with_addresses(run: Run) -> Run:
    """The same with keys of 60 bytes."""
    return lambda arena: run(replace(arena, keys=keys.addresses))


def fully_synchronous(run: Run) -> Run:
    """The same with ``synchronous=FULL``."""
    return lambda arena: run(replace(arena, synchronous="FULL"))


def per_operation(run: Run) -> Run:
    """The same as microseconds per operation."""

    async def inverted(arena: Arena) -> Outcome:
        outcome = await run(arena)
        return replace(outcome, figures={TIME: 1e6 / outcome.rate})

    return inverted


async def by_tasks(ask: Ask, about: Sequence[str], tasks: int) -> int:
    """Check keys from a number of tasks; return the number of true results."""
    left = iter(about)

    async def ask_on() -> int:
        return sum([await ask(key) for key in left])

    return sum(await asyncio.gather(*(ask_on() for _ in range(tasks))))


async def by_batches(ask: AskMany, about: Sequence[str], size: int) -> int:
    """Check keys in batches; return the number of true results."""
    return sum([await ask(batch) for batch in batches(about, size)])


def batches(about: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut keys into batches."""
    return (about[start : start + size] for start in range(0, len(about), size))


def whole_batches(count: int, size: int) -> int:
    """Round a number of keys to whole batches."""
    return max(1, round(count / size)) * size
