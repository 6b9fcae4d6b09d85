"""A process that marks keys and watches itself: its event loop, and its store's alarms.

Run it by ``python -m``, from the folder that ``tests`` is in.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

from .child import mark, say

_STEP, _LONG = 0.005, 0.1


async def main(settings: str, count: int, at_once: int, patience: float) -> None:
    """Mark so many keys, so many at once; then wait for an alarm, for so long."""
    config = SeenStoreConfig(**json.loads(settings))
    async with AsyncSeenStore(config) as store:
        watch = asyncio.create_task(measure_lag())
        for start in range(0, count, at_once):
            keys = range(start, min(start + at_once, count))
            await asyncio.gather(*(mark(store, str(key)) for key in keys))
        say("batches", (await store.stats()).batches)
        if patience:
            await wait_for_alarm(store, time.monotonic() + patience)
        watch.cancel()


async def measure_lag() -> None:
    """Say how late the loop woke this up at worst, and how often it was very late."""
    lags = [0.0]
    try:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(_STEP)
            lags.append(time.monotonic() - asked - _STEP)
    finally:
        say("lag", max(lags), sum(lag > _LONG for lag in lags))


async def wait_for_alarm(store: AsyncSeenStore, deadline: float) -> None:
    """Say when there was an alarm, how many checkpoints had failed, and its words."""
    while time.monotonic() < deadline:
        stats = await store.stats()
        if stats.alarms:
            say("alarm", time.time(), stats.checkpoint_failures, *stats.alarms)
            return
        await asyncio.sleep(_STEP)


if __name__ == "__main__":
    told, first, second, third = sys.argv[1:]
    asyncio.run(main(told, int(first), int(second), float(third)))
