"""Background load: a steady load, a probe of the loop, a busy task."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_SLICE = 0.001  # seconds

Moment = tuple[float, float]
"""When something began, by ``perf_counter``, and how long it took, in seconds."""


@asynccontextmanager
async def beside(doing: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run a coroutine while the block runs; the block raises its exception."""
    task = asyncio.create_task(doing)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def probe(lags: list[Moment]) -> None:
    """Record the lag of the event loop periodically."""
    while True:
        started = perf_counter()
        try:
            await asyncio.sleep(_SLICE)
        finally:  # the loop may not have been free until the end
            lags.append((started, perf_counter() - started - _SLICE))


async def compute() -> None:
    """Keep the event loop busy for half of the time, a millisecond at a time."""
    while True:
        until = perf_counter() + _SLICE
        while perf_counter() < until:
            pass
        await asyncio.sleep(_SLICE)


async def steadily(
    do: Callable[[], Coroutine[None, None, None]],
    moments: list[Moment],
    *,
    tasks: int,
    pause: float,
) -> None:
    """Run an operation from a number of tasks, with pauses, and record its times."""

    async def go_on(first: float) -> None:
        await asyncio.sleep(first)
        while True:
            started = perf_counter()
            await do()
            moments.append((started, perf_counter() - started))
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for place in range(tasks):
            group.create_task(go_on(pause * place / tasks))
