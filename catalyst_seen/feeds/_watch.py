"""Many sources polled for ever, each by a task of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from catalyst_seen import ConfigurationError, StoreError

from .._logging import log
from ._poll import Poll
from ._schedule import after_failure
from ._source import Feed, as_feed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from catalyst_seen import AsyncSeenStore

    from ._tuning import FeedTuning

_AHEAD = 16
"""Polls that wait for the consumer; then the sources wait for it as well."""

_LONGEST_PAUSE = 3_600.0
"""Seconds after which a task compares the clock again: it may have been stepped."""


class Watch:
    """The tasks that poll sources, and the queue of what they found."""

    def __init__(
        self,
        look: Callable[[Feed], Awaitable[Poll]],
        view: Callable[[Feed], AsyncSeenStore],
        sources: Iterable[Feed | str],
        every: float,
        tuning: FeedTuning,
        *,
        is_once: bool,
    ) -> None:
        """Prepare the polls of sources; ``is_once`` ends after one of each.

        Raises:
            ConfigurationError: Two different sources have one namespace.
        """
        self._look = look
        self._view = view
        self._feeds = _distinct(sources)
        self._every = every
        self._tuning = tuning
        self._is_once = is_once
        self._found: asyncio.Queue[Poll | Exception | None] = asyncio.Queue(_AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start a task for each source."""
        self._tasks = {asyncio.create_task(self._follow(feed)) for feed in self._feeds}
        self._end = asyncio.create_task(self._announce_end())

    async def next(self) -> Poll | None:
        """Return the next poll that ended; ``None`` when there will be no other.

        An error that is no outcome of a poll is raised: a recipe that fails, or a store
        that was closed.
        """
        found = await self._found.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def aclose(self) -> None:
        """End all polls."""
        tasks = [*self._tasks, *([self._end] if self._end else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._found.empty():
            self._found.get_nowait()
        self._found.put_nowait(None)  # for who waits for the next poll

    async def _announce_end(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._found.put(None)

    async def _follow(self, feed: Feed) -> None:
        """Poll one source until it is gone."""
        due: float | None = self._tuning.now()
        failures = 0
        try:
            while due is not None:
                await self._pause_until(due)
                try:
                    poll = await self._look(feed)
                    failures = 0
                except StoreError as exc:
                    failures += 1
                    poll = self._without_store(feed, exc, failures)
                await self._found.put(poll)
                due = None if self._is_once else poll.next_at
        except Exception as exc:  # noqa: BLE001 - it is raised where the polls are read
            await self._found.put(exc)

    async def _pause_until(self, due: float) -> None:
        """Pause until an instant; no longer than planned if the clock is set back."""
        left = due - self._tuning.now()
        while left > 0:
            step = min(left, _LONGEST_PAUSE)
            await self._tuning.pause(step)
            left = min(left - step, due - self._tuning.now())

    def _without_store(self, feed: Feed, exc: StoreError, failures: int) -> Poll:
        """Return the result of a poll that the store could not record."""
        now, problem = self._tuning.now(), f"the store failed: {exc}"
        if failures == 1:
            log("warning", "feed_failed", source=feed.namespace, error=problem)
        return Poll(
            feed=feed,
            store=self._view(feed),
            outcome="failed",
            at=now,
            next_at=after_failure(
                now,
                self._every,
                failures,
                not_before=None,
                chance=self._tuning.chance(),
                longest=max(self._every, _LONGEST_PAUSE),
            ),
            error=problem,
            notice=problem if failures == 1 else None,
            failures=failures,
        )


def _distinct(sources: Iterable[Feed | str]) -> list[Feed]:
    """Return the sources, each once.

    Raises:
        ConfigurationError: Two different ones have one namespace.
    """
    if isinstance(sources, str):
        raise TypeError("sources must be an iterable of sources, not one str: [source]")
    feeds: dict[str, Feed] = {}
    for feed in map(as_feed, sources):
        if feeds.setdefault(feed.namespace, feed) != feed:
            raise ConfigurationError(
                "sources",
                f"two different ones have the namespace {feed.namespace!r}: give each"
                " a name of its own, Feed(url, name=...)",
            )
    return list(feeds.values())
