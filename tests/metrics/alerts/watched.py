"""A store in use, whose scrapes make the history that the alerts are run on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen._engine import sampling
from catalyst_seen._tuning import Tuning

from ...support.clock import Clock
from ...support.scrapes import History, Scrape, scrape
from ...support.waiting import until

MINUTE, TEN_MINUTES, HOUR = 60, 600, 3_600
"""Steps of a history. Windows that are shorter than two of them are empty, so that
``MINUTE`` is for failing calls, and the others for days and weeks."""


class Watched:
    """A store that is used, and its history.

    Attributes:
        store: The store.
        history: What Prometheus knows of it.
        quiet: Times of the history, in seconds, at which nothing was wrong.
        uses: How often it was used.
        purges: Is the store purged in each step?
    """

    def __init__(
        self,
        store: AsyncSeenStore,
        step: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.history = History(step)
        self.quiet: list[int] = []
        self.clock = clock
        self.purges = True
        self.uses = 0

    def scrape(self) -> Scrape:
        """Scrape the store."""
        return scrape(self.store, clock=self.clock)

    async def healthy(self, steps: int) -> None:
        """Use the store in each step, as a poller does."""
        await self.use()
        await self.fresh()
        self.history.begin(self.scrape())
        await self.use()
        await self.then(steps)
        self.quiet.append(self.history.now)

    async def then(self, steps: int, **options: Any) -> None:
        """Let what has happened since the last scrape happen in each of some steps."""
        if isinstance(self.clock, Clock):
            self.clock.advance(1)
        if self.purges:
            await self.store.purge_expired()
        await self.fresh()
        self.history.add(self.scrape(), steps, **options)

    async def use(self) -> None:
        """Poll a feed and handle its item, mark a key, meet a duplicate."""
        self.uses += 1
        await self.poll()
        await self.store.check_and_mark(f"key {self.uses}")
        await self.meet_duplicate()
        async with self.store.claim(f"work {self.uses}", lease=600) as claim:
            assert claim

    async def poll(self) -> None:
        """Poll a feed that has a new item in each use, and handle it."""
        feed = self.store.namespace("feed", first="all")
        await feed.observe([f"item {self.uses}"])
        async for claim in feed.pending():
            async with claim:
                assert claim

    async def meet_duplicate(self) -> None:
        """Ask for a key that is seen: one batch, as nothing is cached."""
        await self.store.mark_seen("old")
        assert not await self.store.check_and_mark("old")

    async def fresh(self) -> None:
        """Wait until a sample was taken that began after this call."""
        for _ in range(2):
            last = self._sampled()
            await until(lambda last=last: self._sampled() != last)

    def _sampled(self) -> float | None:
        sizes = self.store.metrics().sizes
        return None if sizes is None else sizes.duration


@asynccontextmanager
async def watched(
    config: SeenStoreConfig, step: int = MINUTE, **changes: Any
) -> AsyncIterator[Watched]:
    """Open a store without background purges and cache, which samples all the time."""
    usual: dict[str, Any] = {
        "purge_interval": None, "recent_staleness": 0, "sample_interval": "5ms",
    }  # fmt: skip
    config = replace(config, **usual | changes)
    async with AsyncSeenStore(config, ttl="30d") as store:
        with patch.object(sampling, "_TIME_SHARE", 0):
            yield Watched(store, step, config.clock)


def on_file(folder: Path) -> SeenStoreConfig:
    """Settings of a store on a file, by a SQLite that processes may share."""
    tuning = Tuning(sqlite_version=(3, 51, 3))
    return SeenStoreConfig(folder / "seen.db", tuning=tuning)
