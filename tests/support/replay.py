"""Replaying a source: its documents, each at its time, with a restart at each poll."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen.feeds import FeedError, parse

from .clock import NOON, Clock

URL = "https://news.example/feed"


@dataclass
class Replay:
    """What came of the polls so far.

    Attributes:
        path: The file of the store.
        came: The keys that were handled, in order.
        titles: Their titles.
        baseline: Number of items that a first listing marked.
        replaced: Titles of the items that were reported as replaced.
        known: Every key that was listed.
    """

    path: Path
    clock: Clock = field(default_factory=Clock)
    came: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    baseline: int = 0
    replaced: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    async def poll(self, body: bytes, *, at: float | None = None) -> int:
        """Poll once, in a store of its own; return how many items were handled.

        Args:
            body: The answer of the source.
            at: The time of the poll; by default that of ``clock``.
        """
        self.clock.now = self.clock.now if at is None else at
        config = SeenStoreConfig(self.path, clock=self.clock, purge_interval=None)
        before = len(self.came)
        async with AsyncSeenStore(config) as store:
            feed = store.namespace("feed")
            try:
                listing = parse(body, URL)
            except FeedError as exc:
                await feed.failed(exc)
                return 0
            seen = await feed.observe(
                listing.entries,
                key=lambda entry: entry.key,
                spellings=lambda entry: entry.spellings,
                aliases=lambda entry: entry.alias,
                digest=lambda entry: entry.digest,
                note=lambda entry: entry.title,
            )
            async for claim in feed.pending():
                async with claim:
                    self.came.append(claim.key)
                    self.titles.append(claim.note or "")
        self.baseline += seen.baseline
        self.replaced += [entry.title for entry in seen.replaced]
        self.known |= {entry.key for entry in listing.entries}
        return len(self.came) - before

    async def poll_for(
        self, seconds: float, every: float, body: Callable[[int], bytes]
    ) -> int:
        """Poll again and again; return how many items were handled."""
        handled = 0
        for number in range(int(seconds // every)):
            self.clock.advance(every)
            handled += await self.poll(body(number))
        return handled

    @property
    def repeats(self) -> int:
        """How often an item was handled again."""
        return len(self.came) - len(set(self.came))

    @property
    def misses(self) -> int:
        """How many listed items were neither handled nor known to be others."""
        return (
            len(self.known) - self.baseline - len(self.replaced) - len(set(self.came))
        )


def replay_at(path: Path) -> Replay:
    """Begin a replay at noon."""
    replay = Replay(path)
    replay.clock.now = NOON
    return replay
