"""The real job: a poller of many feeds, which asks about a whole listing at a time.

A hundred polls are under way at once. The first poll of each feed is all new; at later
polls one item has joined the listing and the oldest has left it; and most polls of a
real poller find the same listing as last time. Feeds and items have names of 60 bytes,
and each poll brings new ``str`` objects, as a parser does.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
from dataclasses import dataclass, field
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from .load import SIZE
from .measure import Goal, Measure, Outcome, percentile
from .pace import beside, probe
from .timing import check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .arena import Arena
    from .contestants import Opener, Polling
    from .measure import Run
    from .pace import Moment
    from .servers import Place

    Listing = tuple[str, list[str]]

ITEMS = 50
"""Items of a listing."""

FIRST, LATER, UNCHANGED = "first poll", "later polls", "unchanged listings"
"""The phases of a run; each is the measure of its items per second."""

LAG, P99 = "loop lag max", "poll p99"
"""What is measured of each phase besides, in milliseconds; see ``of``."""

AT_ONCE = 100
"""Polls that are under way at the same time."""

_CPU = "CPU"
_POLLS, _POLLS_QUICK = 3, 2  # of all feeds, in a phase after the first


def of(phase: str, what: str) -> str:
    """Return the measure of something else than the throughput of a phase."""
    return f"{phase}, {what}"


def measures(goals: Mapping[str, tuple[Goal, ...]]) -> tuple[Measure, ...]:
    """Return what is measured, with goals by name of the measure.

    CPU time is that of the process of the benchmark, all threads, per item.
    """
    units = {SIZE: "bytes"}
    for phase in (FIRST, LATER, UNCHANGED):
        units |= {phase: "items/s", of(phase, _CPU): "µs an item"}
        units |= {of(phase, P99): "ms", of(phase, LAG): "ms"}
    return tuple(
        Measure(name, unit, more_is_better=unit == "items/s", goals=goals.get(name, ()))
        for name, unit in units.items()
    )


def name(feed: int) -> str:
    """Return the namespace of a feed, of 60 bytes."""
    return f"https://feeds.example/{feed:06d}/items.xml?edition=international"[:60]


class Feeds:
    """A number of feeds, each with a window on its items that moves on."""

    def __init__(self, number: int, polls: int) -> None:
        """Create new items, enough for a number of polls that each bring a new one."""
        random = Random(secrets.randbits(64))
        self._items = {
            name(feed): [
                f"https://news.example/{feed:06d}/{random.getrandbits(128):032x}"
                for _ in range(ITEMS + polls)
            ]
            for feed in range(number)
        }

    def __len__(self) -> int:
        return len(self._items)

    def listings(self, poll: int) -> list[Listing]:
        """Return what the feeds list at a poll, as new strings."""
        return [
            (_copied(feed), list(map(_copied, items[poll : poll + ITEMS])))
            for feed, items in self._items.items()
        ]


def _copied(text: str) -> str:
    """Return an equal string whose hash is not known yet."""
    return str(text.encode(), "ascii")


@dataclass
class _Phase:
    """What was measured in one phase, in which all feeds are polled several times."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    def figures(self, phase: str) -> dict[str, float]:
        """Return a figure per measure."""
        return {
            phase: median(self.rates),
            of(phase, _CPU): median(self.cpu),
            of(phase, P99): 1e3 * percentile(self.taken, 0.99),
            of(phase, LAG): 1e3 * max(self.lags),
        }


def polling(
    opened: Opener[Polling], feeds: int, quick: int, place: Place | None = None
) -> Run:
    """Poll feeds: at first, with a new item in each, and unchanged.

    Args:
        opened: Opens a contestant.
        feeds: Number of feeds.
        quick: Number of feeds in the quick form.
        place: Returns the server of the contestant; without one, its files count.
    """

    async def run(arena: Arena) -> Outcome:
        polls = _POLLS_QUICK if arena.is_quick else _POLLS
        polled = Feeds(quick if arena.is_quick else feeds, polls)
        before = await _used(arena, place, is_new=True)
        phases = {FIRST: _Phase(), LATER: _Phase(), UNCHANGED: _Phase()}
        async with opened(arena) as store:
            await _poll(store, polled.listings(0), phases[FIRST], ITEMS * len(polled))
            for poll in range(1, polls + 1):
                await _poll(store, polled.listings(poll), phases[LATER], len(polled))
            for _ in range(polls):
                await _poll(store, polled.listings(polls), phases[UNCHANGED], 0)
        used = await _used(arena, place) - before
        figures = {SIZE: used / (len(polled) * (ITEMS + polls))}
        for title, phase in phases.items():
            figures |= phase.figures(title)
        return Outcome(figures)

    return run


async def _poll(
    store: Polling, listings: Sequence[Listing], phase: _Phase, new: int
) -> None:
    """Poll all feeds once, and check how many items were new."""
    left = iter(listings)
    lags: list[Moment] = []

    async def poll_on() -> int:
        found = 0
        for namespace, keys in left:
            started = perf_counter()
            found += await store.poll(namespace, keys)
            phase.taken.append(perf_counter() - started)
        return found

    count = ITEMS * len(listings)
    gc.collect()
    gc.freeze()  # a poller does not hold the listings of all its feeds
    try:
        async with beside(probe(lags)):
            await asyncio.sleep(0)  # the probe begins
            started, used = perf_counter(), process_time()
            found = sum(await asyncio.gather(*(poll_on() for _ in range(AT_ONCE))))
            took, used = perf_counter() - started, process_time() - used
    finally:
        gc.unfreeze()
    check(found, count, true=new)
    phase.rates.append(count / took)
    phase.cpu.append(1e6 * used / count)
    phase.lags += [late for _, late in lags]


async def _used(arena: Arena, place: Place | None, *, is_new: bool = False) -> int:
    """Return the bytes in use by the server, or by the files of this run."""
    if place is None:
        files = [path for path in arena.folder.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)
    server = place(arena.servers)
    if is_new:
        server.clear()
    return await asyncio.to_thread(server.used)
