"""One poll of one source, from the request to what the store records."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from .._logging import log
from ..keys import recipe_name
from ._account import Account
from ._addresses import origin, shown, sign_in
from ._causes import FetchError, phrase_of
from ._errors import FeedError
from ._fetch import Request
from ._files import read_file
from ._hosts import HeldError
from ._listing import Entry
from ._memory import Rest, State, Validators
from ._source import former_namespace
from ._wishes import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalyst_seen import AsyncSeenStore

    from ._fetch import Answer, Fetcher
    from ._hosts import Hosts
    from ._parser import Parser
    from ._poll import Outcome, Poll
    from ._source import Feed
    from ._tuning import FeedTuning

_ASKS_FOR_A_PAUSE = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_ANOTHER = (
    "its address differs from the one of the last poll in what is not shown: give a"
    " source of its own a name, Feed(url, name=...); if it is the same with a new"
    " secret, poll it once with force=True"
)
_GONE = "HTTP 410 Gone: it is polled no more; a poll with force=True asks again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every poll of a poller uses.

    Attributes:
        fetcher: Sends the requests.
        hosts: Knows which hosts want no request now.
        parser: Turns a body into a listing.
        headers: Headers of every request.
        max_bytes: The largest body.
        tuning: The limits that are no settings.
    """

    fetcher: Fetcher
    hosts: Hosts
    parser: Parser
    headers: Mapping[str, str]
    max_bytes: int
    tuning: FeedTuning


class Look:
    """One poll of one source."""

    def __init__(
        self,
        means: Means,
        feed: Feed,
        view: AsyncSeenStore,
        every: float,
        *,
        is_forced: bool,
    ) -> None:
        """Prepare a poll; a forced one ignores what was remembered."""
        self._means = means
        self._feed = feed
        self._view = view
        self._is_forced = is_forced
        self._recipe = recipe_name(feed.recipe)
        state = State(feed.shown, mark=feed.mark)
        self._account = Account(feed, view, every, means.tuning, state)
        self._stored: str | None = None
        self._validators: Validators | None = None

    async def run(self) -> Poll:
        """Poll the source.

        Raises:
            StoreError: The store failed.
        """
        await self._remember()
        state = self._account.state
        if state.is_gone and not self._is_forced:
            return self._account.gone(_GONE)
        if state.mark != self._feed.mark and not self._is_forced:
            return self._account.bad(_ANOTHER, self._account.failing(None))
        conditions = self._conditions()
        for condition in (conditions, {}) if conditions else ({},):
            try:
                answer = await self._read(condition)
            except HeldError as exc:
                return self._account.held(exc.until)
            except FetchError as exc:
                return await self._failed(exc.problem)
            poll = await self._judge(answer, is_conditional=bool(condition))
            if poll is not None:
                return poll
        return await self._failed("HTTP 304 to a request without conditions")

    async def _remember(self) -> None:
        """Load what the store has of earlier polls."""
        known = await self._view.source()
        if known is None:
            await self._take_over()
            return
        account = self._account
        account.state = State.from_json(known.state, self._feed.shown)
        self._stored = known.validators
        self._validators = Validators.from_json(known.validators)
        if (rest := account.state.rest) is not None:  # perhaps of an earlier process
            tuning = self._means.tuning
            if rest.until <= tuning.now() + tuning.longest_wait:  # else the clock
                self._means.hosts.hold(rest.host, rest.until)  # was ahead

    async def _take_over(self) -> None:
        """Rename the namespace of an older program, which may have had a password."""
        old = former_namespace(self._feed)
        if old is not None and await self._view.has_any(namespace=old):
            with suppress(ValueError):  # another process has renamed it already
                await self._view.rename(self._feed.namespace, namespace=old)

    def _conditions(self) -> dict[str, str]:
        """Return the headers of a conditional request; at most for a day."""
        read_at, known = self._account.state.read_at, self._validators
        if read_at is None or known is None or self._is_forced:
            return {}
        age = self._means.tuning.now() - read_at
        is_recent = 0 <= age < self._means.tuning.full_read_after
        return known.conditions if is_recent and known.recipe == self._recipe else {}

    async def _read(self, conditions: Mapping[str, str]) -> Answer:
        """Read the source."""
        feed, means = self._feed, self._means
        if feed.is_file:
            return await read_file(feed.path, means.max_bytes)
        if self._is_forced:
            means.hosts.release(origin(self._account.address).host)
        private = CIMultiDict(feed.headers)
        if authorization := sign_in(feed.url, feed.auth):
            private.setdefault("Authorization", authorization)
        request = Request(
            self._account.address,
            {**means.headers, **conditions},
            origin(feed.address),
            private,
        )
        return await means.fetcher.get(request)

    async def _judge(self, answer: Answer, *, is_conditional: bool) -> Poll | None:
        """Record an answer; ``None`` if it has to be asked for without conditions."""
        state = self._account.state
        if answer.status == HTTPStatus.NOT_MODIFIED:
            if not is_conditional:
                return None
            return await self._unchanged("not modified", answer, state.read_at)
        if answer.status == HTTPStatus.GONE and not state.address.is_other:
            return await self._ended()
        if not answer.is_success:
            return await self._refused(answer)
        digest = hashlib.sha256(answer.body).hexdigest()
        known = self._validators
        is_same = known and (known.digest, known.recipe) == (digest, self._recipe)
        if is_same and not self._is_forced:
            now = self._means.tuning.now()
            poll = await self._unchanged("unchanged", answer, now)
            if poll is not None:
                return poll
        return await self._listing(answer, digest)

    async def _unchanged(
        self, outcome: Outcome, answer: Answer, read_at: float | None
    ) -> Poll | None:
        """Record a poll of the listing that is stored; ``None`` if that is another."""
        if self._stored is None:
            return None
        ttl = self._account.state.ttl
        state = self._account.well(answer, read_at, ttl)
        if not await self._view.observed_unchanged(self._stored, state=state.to_json()):
            self._stored = None  # another poller has observed a listing meanwhile
            return None
        return self._account.good(outcome, answer, state)

    async def _listing(self, answer: Answer, digest: str) -> Poll:
        """Parse a body, and record its listing."""
        content_type = answer.headers.get("Content-Type", "")
        try:
            listing = await self._means.parser.parse(
                answer.body,
                shown(answer.url),
                content_type,
                recipe=self._feed.recipe,
                formerly=self._feed.formerly,
            )
        except FeedError as exc:
            return await self._failed(answer.problem or str(exc))
        except Exception as exc:  # noqa: BLE001 - it must not end the other sources
            problem = f"its document cannot be read: {type(exc).__name__}: {exc}"
            log("error", "feed_unreadable", source=self._feed.namespace, error=problem)
            return await self._failed(problem)
        now = self._means.tuning.now()
        state = self._account.well(answer, now, listing.ttl)
        validators = Validators.of(self._recipe, digest, answer.headers)
        try:
            seen = await self._view.observe(
                listing.entries,
                key=attrgetter("key"),
                spellings=attrgetter("spellings"),
                aliases=attrgetter("alias"),
                digest=attrgetter("digest"),
                note=Entry.to_json,
                validators=validators.to_json(),
                state=state.to_json(),
            )
        except ValueError as exc:  # too many items, or notes that are too long
            return await self._failed(f"the listing cannot be stored: {exc}")
        return self._account.good("listing", answer, state, seen, listing)

    async def _refused(self, answer: Answer) -> Poll:
        """Record the status of a server that has no listing."""
        problem = f"HTTP {answer.status} {phrase_of(answer.status)}".strip()
        tuning, now = self._means.tuning, self._means.tuning.now()
        if answer.status in _ASKS_FOR_A_PAUSE:
            wait = retry_after(answer.headers, now, tuning.longest_wait)
            if wait is not None:
                rest = Rest(origin(answer.url).host, now + wait)
                self._means.hosts.hold(rest.host, rest.until)
                problem = f"{problem}; it asks for a pause of {wait:.0f} seconds"
                return await self._failed(problem, rest)
        return await self._failed(problem)

    async def _failed(self, problem: str, rest: Rest | None = None) -> Poll:
        """Record a poll without a listing."""
        state = self._account.failing(rest)
        await self._view.failed(problem, state=state.to_json())
        return self._account.bad(problem, state)

    async def _ended(self) -> Poll:
        """Record that the source is gone for ever."""
        state = replace(self._account.failing(None), is_gone=True)
        await self._view.failed("HTTP 410 Gone", state=state.to_json())
        log("warning", "feed_gone", source=self._feed.namespace)
        return self._account.gone(_GONE)
