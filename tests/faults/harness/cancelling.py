"""Calls that are cancelled, and what their callers know."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from catalyst_seen import AsyncSeenStore, Claim, Sighting

from .checker import Outcome

SEED = 20_261_125

T = TypeVar("T")


class Nemesis:
    """Cancels calls after some turns of the loop, or while the worker runs them.

    Attributes:
        endings: Counts the calls that were cancelled or completed.
        hop: The longest pause before a cancellation, in seconds.
        rng: Chooses the moments, the same in every run.
    """

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()
        self.rng = random.Random(SEED)
        self.hop = 0.001

    async def measure(self, store: AsyncSeenStore) -> None:
        """Measure how long a call takes on this machine."""
        started = time.perf_counter()
        for number in range(10):
            await store.get(f"nothing {number}")
        self.hop = (time.perf_counter() - started) / 5

    async def cancel(
        self, call: Coroutine[None, None, T], *, least: int = 0
    ) -> T | None:
        """Start a call, cancel it, and return its result if it completed first.

        Args:
            call: The call to start.
            least: Turns of the loop before the cancellation; with 0 the call may not
                even begin.
        """
        task = asyncio.create_task(call)
        for _ in range(self.rng.randrange(least, 7)):
            await asyncio.sleep(0)
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.random() * self.hop)
        task.cancel()
        try:
            result = await task
        except asyncio.CancelledError:
            self.endings["cancelled"] += 1
            return None
        self.endings["answered"] += 1
        return result

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in self.endings.items())


def told(sighting: Sighting | None) -> Outcome:
    """Return what the caller of a check that may have been cancelled knows."""
    if sighting is None:
        return "unknown"
    return "new" if sighting else "dup"


def assert_free(path: Path) -> None:
    """Assert that another connection can write and that no snapshot is pinned."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")
        deadline = time.monotonic() + 60
        while True:
            emptied = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if emptied == (0, 0, 0):
                return
            assert time.monotonic() < deadline, emptied
            time.sleep(0.01)  # a checkpoint of the store itself may be running


async def take(store: AsyncSeenStore, key: str) -> Claim:
    """Claim a key by a coroutine, which a task can cancel before it begins."""
    return await store.claim(key, lease=60)
