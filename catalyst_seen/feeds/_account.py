"""The account of a source: what each outcome of a poll means for the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .._logging import log
from ._addresses import shown
from ._memory import State
from ._poll import Outcome, Poll
from ._redirects import Address, follow
from ._schedule import after_failure, after_hold, after_success
from ._wishes import max_age

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Observation

    from ._fetch import Answer
    from ._listing import Entry, Listing
    from ._memory import Rest
    from ._source import Feed
    from ._tuning import FeedTuning


@dataclass(slots=True)
class Account:
    """A source during one poll.

    Attributes:
        feed: The source.
        view: The store bound to its namespace.
        every: The time between two polls, in seconds.
        tuning: The limits that are no settings.
        state: What was remembered before the poll.
    """

    feed: Feed
    view: AsyncSeenStore
    every: float
    tuning: FeedTuning
    state: State

    @property
    def address(self) -> str:
        """The address to ask."""
        return self.state.address.of(self.feed.address)

    def well(self, answer: Answer, read_at: float | None, ttl: float | None) -> State:
        """Return the state after an answer with a listing.

        ``ttl`` is what the listing says of the time until the next poll.
        """
        tuning = self.tuning
        address = follow(
            self.state.address, answer.hops, tuning.now(), tuning.adopt_after
        )
        return State(
            self.feed.shown,
            mark=self.feed.mark,
            read_at=read_at,
            ttl=ttl,
            address=address,
        )

    def good(
        self,
        outcome: Outcome,
        answer: Answer,
        state: State,
        seen: Observation[Entry] | None = None,
        listing: Listing | None = None,
    ) -> Poll:
        """Return the result of a poll that found a listing, and report what is new."""
        now, notice, failures = self.tuning.now(), None, self.state.failures
        if failures:
            notice = f"it can be read again, after {failures} failed polls"
            log("info", "feed_recovered", source=self.feed.namespace, polls=failures)
        address = state.address.of(self.feed.address)
        if address != self.address:
            log(
                "info", "feed_moved", source=self.feed.namespace, address=shown(address)
            )
        next_at = after_success(
            now,
            self.every,
            max_age=max_age(answer.headers),
            ttl=state.ttl,
            chance=self.tuning.chance(),
            longest=self.tuning.longest_wait,
        )
        return Poll(
            feed=self.feed,
            store=self.view,
            outcome=outcome,
            at=now,
            next_at=next_at,
            seen=seen,
            listing=listing,
            notice=notice,
        )

    def failing(self, rest: Rest | None) -> State:
        """Return the state after a poll without a listing.

        An adopted address that fails again and again was perhaps a mistake of the
        server: then the given one is asked again.
        """
        failures = self.state.failures + 1
        is_doubted = failures % self.tuning.doubt_after == 0
        return replace(
            self.state,
            failures=failures,
            rest=rest,
            address=Address() if is_doubted else self.state.address,
        )

    def bad(self, problem: str, state: State) -> Poll:
        """Return the result of a failed poll; the first in a row is reported."""
        now, is_first = self.tuning.now(), not self.state.failures
        if is_first:
            log("warning", "feed_failed", source=self.feed.namespace, error=problem)
        next_at = after_failure(
            now,
            self.every,
            state.failures,
            not_before=state.rest.until if state.rest else None,
            chance=self.tuning.chance(),
            longest=self.tuning.longest_wait,
        )
        return Poll(
            feed=self.feed,
            store=self.view,
            outcome="failed",
            at=now,
            next_at=next_at,
            error=problem,
            notice=problem if is_first else None,
            failures=state.failures,
        )

    def gone(self, problem: str) -> Poll:
        """Return the result for a source that is gone for ever."""
        return Poll(
            feed=self.feed,
            store=self.view,
            outcome="gone",
            at=self.tuning.now(),
            next_at=None,
            error=problem,
            notice=problem,
            failures=self.state.failures,
        )

    def held(self, until: float) -> Poll:
        """Return the result of a poll for which no request was made."""
        now = self.tuning.now()
        return Poll(
            feed=self.feed,
            store=self.view,
            outcome="held",
            at=now,
            next_at=after_hold(until, self.every, self.tuning.chance()),
            error=f"the server asked for a pause, of {until - now:.0f} seconds more",
            failures=self.state.failures,
        )
