"""Polls sources, and delivers what is new, as ``watch`` does."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from .._codes import Code
from .._output import counted, printable
from .._settings import talk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from catalyst_seen.feeds import Feed, Poll, Poller

    from .._settings import Settings
    from .deliveries import Deliveries

_PHRASES = {
    "give a source of its own a name, Feed(url, name=...)": (
        "give a source of its own a name, by -n or in a file of --file"
    ),
    "poll it once with force=True": "poll it by --once --force",
    "a poll with force=True asks again": "--once --force asks again",
}
"""What a program is advised, and what a person."""


class Watching:
    """Polls sources, and delivers what is pending after each poll."""

    def __init__(
        self, settings: Settings, deliveries: Deliveries, *, is_once: bool
    ) -> None:
        """Tell a person by ``settings`` what becomes of the polls.

        One poll of each source tries an entry once; what failed is for the next run.
        """
        self._settings = settings
        self._deliveries = deliveries
        self._is_once = is_once
        self._polls = self._failed = 0
        quiet_feeds()

    async def follow(self, polls: AsyncGenerator[Poll, None]) -> None:
        """Deliver after each poll, and between polls what is due again."""
        upcoming = asyncio.ensure_future(anext(polls))
        try:
            while True:
                pause = None if self._is_once else self._deliveries.pause()
                done, _ = await asyncio.wait({upcoming}, timeout=pause)
                if done:
                    await self._take(upcoming.result())
                    upcoming = asyncio.ensure_future(anext(polls))
                if not self._is_once:
                    await self._deliveries.deliver_again()
        except StopAsyncIteration:
            return
        finally:
            upcoming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await upcoming
            await polls.aclose()

    async def finish(self) -> None:
        """Say what became of one poll of each source, and set the exit code."""
        counts = self._deliveries.counts
        waiting, held = await self._deliveries.pending()
        parts = [
            counted(self._polls, "poll"),
            f"{self._failed} failed",
            counted(counts["delivered"], "entry", "entries"),
        ]
        further = {
            "left out": counts["skipped"],
            "failed deliveries": counts["failed"],
            "waiting": waiting,
            "held": held,
        }
        parts += [f"{number:,} {what}" for what, number in further.items() if number]
        why = " (catalyst-seen feeds says why)" if self._failed else ""
        self._settings.say(", ".join(parts) + why)
        if self._deliveries.is_store_failing:
            self._settings.code = Code.UNAVAILABLE
        elif self._failed or counts["failed"]:
            self._settings.code = Code.SOME_FAILED

    async def _take(self, poll: Poll) -> None:
        """Say what a poll came to, and deliver what is pending."""
        self._polls += 1
        self._failed += poll.error is not None
        shown = name_of(poll.feed)
        if poll.notice:
            talk(f"{shown}: {advice(poll.notice)}")  # once: also if it is to be quiet
        elif poll.error:
            self._settings.explain(f"{shown}: {advice(poll.error)}")
        if poll.seen is not None and poll.seen.baseline:
            self._settings.say(f"{shown}: baseline: {poll.seen.baseline:,} marked")
        await self._deliveries.deliver(poll.store, poll.feed.namespace, shown)


async def forced(poller: Poller, feeds: Iterable[Feed]) -> AsyncGenerator[Poll, None]:
    """Poll sources once, whatever was remembered of them."""
    tasks = [asyncio.create_task(poller.poll(feed, force=True)) for feed in feeds]
    try:
        for finished in asyncio.as_completed(tasks):
            yield await finished
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def quiet_feeds() -> None:
    """Log no events of feeds: a person is told the same by the polls, and once."""
    logging.getLogger("catalyst_seen").addFilter(_is_of_no_feed)


def name_of(feed: Feed) -> str:
    """Return how a source is called in messages: its own name, else its address."""
    return printable(feed.name or feed.shown)


def advice(problem: str) -> str:
    """Return why a poll failed, with what a person can do."""
    for ours, theirs in _PHRASES.items():
        problem = problem.replace(ours, theirs)
    return printable(problem)


def _is_of_no_feed(record: logging.LogRecord) -> bool:
    return not str(getattr(record, "seen_event", "")).startswith("feed_")
