"""Processes that race for keys, or own claims while they are killed or stopped.

What one of them does, and with what, are its arguments. Start it by ``crowd.start``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from catalyst_seen import (
    AsyncSeenStore,
    BlockingClaim,
    LeaseLostError,
    SeenStore,
    SeenStoreConfig,
)

_child = runpy.run_path(str(Path(__file__).with_name("child.py")))
mark, say = _child["mark"], _child["say"]


def stand_still() -> None:
    """Wait for SIGCONT, as all do who are to begin at once."""
    os.kill(os.getpid(), signal.SIGSTOP)


def race(settings: dict[str, Any], keys: int, seed: int) -> None:
    """Mark so many keys, in an order of its own, as soon as it is told to go on."""

    async def main() -> None:
        async with AsyncSeenStore(SeenStoreConfig(**settings)) as store:
            say("open")
            await asyncio.to_thread(stand_still)
            numbers = list(range(keys))
            random.Random(seed).shuffle(numbers)
            for number in numbers:
                await mark(store, str(number))

    asyncio.run(main())


def first(settings: dict[str, Any], key: str) -> None:
    """Open what nobody may have opened before, as soon as it is told to, and mark."""

    async def main() -> None:
        async with AsyncSeenStore(SeenStoreConfig(**settings)) as store:
            await mark(store, key)

    stand_still()
    asyncio.run(main())


def handle(settings: dict[str, Any], keys: int, lease: float) -> None:
    """Claim every key, work on it, confirm it; note each step before the next one."""

    def note(step: str, claim: BlockingClaim) -> None:
        say(step, claim.key, claim.token)

    with SeenStore(SeenStoreConfig(**settings)) as store:
        left = store.filter_new(map(str, range(keys)))
        while left:
            random.shuffle(left)
            for key in left:
                claim = store.claim(key, lease=lease)
                if not claim:
                    continue
                time.sleep(random.random() * 0.05)
                note("worked", claim)
                time.sleep(random.random() * 0.05)
                try:
                    claim.confirm()
                except LeaseLostError:
                    note("lost", claim)
                else:
                    note("confirmed", claim)
            left = store.filter_new(left)


def hold(settings: dict[str, Any], keys: list[str], lease: float) -> None:
    """Claim a key, stand still until it is told to go on, confirm; then the next."""
    with SeenStore(SeenStoreConfig(**settings)) as store:
        for key in keys:
            claim = store.claim(key, lease=lease)
            say(key, claim.verdict)
            stand_still()
            try:
                claim.confirm()
                say(key, "confirmed")
            except LeaseLostError as exc:
                say(key, "lost", exc.attempt)


WORK = {work.__name__: work for work in (race, first, handle, hold)}

if __name__ == "__main__":
    WORK[sys.argv[1]](*json.loads(sys.argv[2]))
