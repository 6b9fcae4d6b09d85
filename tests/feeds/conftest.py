"""Fixtures of the tests of polls: a server, a store, a clock, and a poller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from catalyst_seen.feeds import Poller
from catalyst_seen.feeds._tuning import FeedTuning

from ..support.clock import Clock
from ..support.observing import ObservingStore
from ..support.web import Web, web_server


@dataclass
class Time(Clock):
    """A clock whose pauses end when a test moves it, or at once."""

    is_waited_for: bool = False
    pauses: list[float] = field(default_factory=list)
    _waiting: list[tuple[float, asyncio.Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def pause(self, seconds: float) -> None:
        """Pause until the clock has been moved so far."""
        self.pauses.append(seconds)
        if self.is_waited_for:
            due = asyncio.Event()
            self._waiting.append((self.now + seconds, due))
            await due.wait()

    def advance(self, seconds: float) -> None:
        """Move the clock, and end the pauses that are over."""
        super().advance(seconds)
        for until, due in self._waiting:
            if until <= self.now:
                due.set()
        self._waiting = [(u, due) for u, due in self._waiting if u > self.now]

    @property
    def waiting(self) -> int:
        """How many pauses have not ended."""
        return len(self._waiting)


@pytest.fixture
def time() -> Time:
    """A clock that stands at noon; pauses of retries end at once."""
    return Time()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A server."""
    async with web_server() as made:
        yield made


@pytest.fixture
def feeds() -> ObservingStore:
    """A store that observes listings."""
    return ObservingStore()


MakePoller = Callable[..., Poller]


@pytest.fixture
def make_poller(feeds: ObservingStore, time: Time) -> MakePoller:
    """Make a poller of that store that goes by that clock."""

    def make(**options: object) -> Poller:
        tuning = FeedTuning(now=time, pause=time.pause, chance=lambda: 0.5)
        given = {"tuning": tuning, "per_host": 1e6, "timeout": 20.0, **options}
        return Poller(feeds, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def poller(make_poller: MakePoller) -> AsyncIterator[Poller]:
    """An open poller."""
    async with make_poller() as made:
        yield made
