"""Calls that are cancelled after a random interval."""

from __future__ import annotations

import asyncio
import time

from catalyst_seen import AsyncSeenStore


async def cancel_after(task: asyncio.Task[object], turns: int, pause: float) -> str:
    """Cancel a task after some turns of the loop and a pause; return how it ended."""
    for _ in range(turns):
        await asyncio.sleep(0)
    if pause:
        await asyncio.sleep(pause)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def time_of_two_calls(store: AsyncSeenStore) -> float:
    """Measure how long two calls take on this machine at rest, in seconds."""
    times = []
    for number in range(40):
        started = time.perf_counter()
        await store.mark_seen(f"next {number}")
        times.append(time.perf_counter() - started)
    await store.cleanup_old_entries(0)
    return 2 * sorted(times)[10]
