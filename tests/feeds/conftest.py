"""Fixtures of the tests of polls: a server, a store, a clock, and a poller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, Source
from catalyst_seen.feeds import Poller
from catalyst_seen.feeds._tuning import FeedTuning

from ..support.clock import Clock
from ..support.targets import Places, Target
from ..support.web import Web, web_server


class Time(Clock):
    """A clock whose pauses end at once, or when a test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_waited_for = False
        self._passed = 0.0
        self._waiting: list[tuple[float, asyncio.Event]] = []

    async def pause(self, seconds: float) -> None:
        """Pause until so much time has passed; setting the clock passes none."""
        if self.is_waited_for:
            due = asyncio.Event()
            self._waiting.append((self._passed + seconds, due))
            await due.wait()

    def advance(self, seconds: float) -> None:
        """Move the clock, and end the pauses that are over."""
        super().advance(seconds)
        self._passed += seconds
        for until, due in self._waiting:
            if until <= self._passed:
                due.set()
        self._waiting = [(u, due) for u, due in self._waiting if u > self._passed]

    @property
    def waiting(self) -> int:
        """How many pauses have not ended."""
        return len(self._waiting)


@pytest.fixture
def time(places: Places) -> Iterator[Time]:
    """A clock that stands at noon, of pollers and stores."""
    places.server_time = made = Time()
    yield made
    places.server_time = None


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A server."""
    async with web_server() as made:
        yield made


@pytest.fixture
def target(places: Places, time: Time) -> Iterator[Target]:  # noqa: ARG001 - its clock
    """A place for a store in memory: the contract suite is for the others."""
    with places.target("reference", Path("unused")) as made:
        yield made


class Store:
    """A store, and what tests ask it about a source."""

    def __init__(self, store: AsyncSeenStore) -> None:
        self.store = store

    async def source(self, name: str) -> Source:
        """Return what is known of a source."""
        source = await self.store.namespace(name).source()
        assert source is not None
        return source

    async def keys(self, name: str) -> list[str]:
        """Return the known keys of a source, sorted."""
        records = self.store.namespace(name).records()
        return sorted([record.key async for record in records])


@pytest.fixture
async def feeds(target: Target) -> AsyncIterator[Store]:
    """An open store."""
    async with AsyncSeenStore(target.config(purge_interval=None)) as made:
        yield Store(made)


MakePoller = Callable[..., Poller]


@pytest.fixture
def make_poller(feeds: Store, time: Time) -> MakePoller:
    """Make a poller of that store that goes by that clock."""

    def make(**options: object) -> Poller:
        tuning = FeedTuning(now=time, pause=time.pause, chance=lambda: 0.5)
        given = {"tuning": tuning, "per_host": 1e6, "timeout": 20.0, **options}
        return Poller(feeds.store, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def poller(make_poller: MakePoller) -> AsyncIterator[Poller]:
    """An open poller."""
    async with make_poller() as made:
        yield made
