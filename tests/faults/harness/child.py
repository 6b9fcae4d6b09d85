"""A process that marks keys, and says before and after each call what it knows.

It is what is killed, starved, frozen and cut off. Run it by ``processes.command``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreError,
    StoreUnavailableError,
)


def say(*words: object) -> None:
    """Write a line at once, whole, past every buffer."""
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


async def mark(store: AsyncSeenStore, key: str) -> None:
    """Check and mark a key, and say what came of it."""
    say("+", key)
    started = time.monotonic()
    try:
        sighting = await store.check_and_mark(key)
        outcome = "new" if sighting else "dup"
    except OutcomeUnknownError:
        outcome = "unknown"
    except StoreUnavailableError as exc:
        outcome = "fail"
        say("!", exc)
    say("=", key, outcome, f"{time.monotonic() - started:.6f}")


async def main(settings: str, *numbers: int) -> None:
    """Mark keys, then purge and close.

    Args:
        settings: The store's, as JSON.
        numbers: The first key, how many there are, how many go at once; how long it
            pauses between these, and rests in the end, in milliseconds.
    """
    first, count, at_once, pause, rest = numbers
    config = SeenStoreConfig(**json.loads(settings))
    async with AsyncSeenStore(config) as store:
        say("open")
        for start in range(first, first + count, at_once):
            keys = range(start, min(start + at_once, first + count))
            await asyncio.gather(*(mark(store, str(key)) for key in keys))
            if pause:
                await asyncio.sleep(pause / 1_000)
        await asyncio.sleep(rest / 1_000)
        try:
            await store.purge_expired()
        except StoreError as exc:
            say("!", exc)
    say("closed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:7])))
