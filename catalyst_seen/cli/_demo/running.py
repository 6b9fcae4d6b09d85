"""The course of the demo: what is published, who is killed, and when it ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Protocol

from catalyst_seen import AsyncSeenStore

from ..._pause import pause
from .._codes import Failure
from .crew import Crew
from .figures import Moment, Outcome, Rate, moment, outcome
from .site import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

CALLERS = 1_000  # about
_ITEMS = 20_000  # at most
_A_SECOND = 600
_AT_ONCE, _BUSY, _WAITING = 60, 150, 600
"""The feed grows by so many items at most, and only while fewer are in flight, and
fewer undelivered: a slow machine has fewer items, and not more timeouts."""

_PUBLISHED = 0.5
_CALM = 0.55
"""The feed is complete, and the kills are over, after this part of the time: what the
last ones had comes back when its lease is over."""

_KILLS = 10  # in the whole time, but not more often than
_KILL_EVERY = 0.4
_FRAME = 0.1
_EXTRA = 60.0
"""Seconds that a busy machine gets to deliver the rest."""


class Plan(NamedTuple):
    """How long the demo takes, and with how many workers."""

    seconds: float
    workers: int

    @property
    def callers(self) -> int:
        """Number of callers in all workers, each of which has the same number."""
        return CALLERS // self.workers * self.workers


class Screen(Protocol):
    """What shows the figures while the demo runs."""

    def show(self, now: Moment) -> None:
        """Show the figures of a moment."""


async def run(plan: Plan, screen: Screen) -> Outcome:
    """Run the demo in a new folder, of which nothing stays, whatever happens.

    Raises:
        Failure: A worker has failed by itself.
    """
    site = Site()
    with TemporaryDirectory(prefix="catalyst-seen-demo-") as folder:
        async with site.serving() as port:
            crew = Crew(Path(folder), port, plan.callers // plan.workers)
            demo = _Demo(plan, site, crew, screen)
            await demo.run()
            last = demo.now()
        async with AsyncSeenStore(crew.database, create=False) as store:
            unseen = await store.filter_new(site.published)
            report = await store.check(full=True)
    return outcome(last, site, crew, unseen, report.problems)


class _Demo:
    def __init__(self, plan: Plan, site: Site, crew: Crew, screen: Screen) -> None:
        self._plan = plan
        self._site = site
        self._crew = crew
        self._screen = screen
        self._rate = Rate()
        self._since = time.monotonic()

    def now(self) -> Moment:
        """Return the figures of now."""
        return moment(self._seconds, self._site, self._crew, self._rate)

    async def run(self) -> None:
        """Run until all workers have ended, or time is up."""
        try:
            await self._run()
        except ExceptionGroup as group:
            failures = group.split(Failure)[0]
            if failures is None:
                raise
            raise failures.exceptions[0] from group

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            places = [
                tasks.create_task(self._crew.staff()) for _ in range(self._plan.workers)
            ]
            async with _beside(tasks, self._watch()):
                await self._crew.begun()
                self._since = time.monotonic()
                async with (
                    _beside(tasks, self._publish()),
                    _beside(tasks, self._kill()),
                ):
                    await asyncio.wait(places, timeout=self._plan.seconds + _EXTRA)
            for place in places:
                place.cancel()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._since

    async def _publish(self) -> None:
        """Let the feed grow, at least until a worker was killed."""
        site, end = self._site, self._plan.seconds * _PUBLISHED
        while self._seconds < end or not self._crew.killed:
            wanted = min(_ITEMS, round(_A_SECOND * (self._seconds + 1)))
            waiting = len(site.published) - len(site.delivered)
            room = min(
                _AT_ONCE,
                _BUSY - self._crew.counts["in_flight"],
                _WAITING - waiting,
                wanted - len(site.published),
            )
            site.publish(max(0, room))
            await pause(_FRAME)
        site.is_over = True

    async def _kill(self) -> None:
        """Kill a worker now and then, at least one."""
        end = self._plan.seconds * _CALM
        every = max(_KILL_EVERY, end / _KILLS)
        while self._seconds < end or not self._crew.killed:
            await pause(every)
            while not self._crew.kill():
                await pause(_FRAME)

    async def _watch(self) -> None:
        while True:
            self._screen.show(self.now())
            await pause(_FRAME)


@asynccontextmanager
async def _beside(
    tasks: asyncio.TaskGroup, work: Coroutine[None, None, None]
) -> AsyncIterator[None]:
    """Run a task while the block runs."""
    task = tasks.create_task(work)
    try:
        yield
    finally:
        task.cancel()
