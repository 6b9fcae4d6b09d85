"""``Poller``: polls sources politely, and observes their listings in a store."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import aiohttp

from .._validation import seconds
from ._agent import USER_AGENT
from ._fetch import Fetcher
from ._hosts import Hosts
from ._look import Look, Means
from ._parser import Parser
from ._source import Feed, as_feed
from ._tuning import FeedTuning
from ._watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from types import TracebackType

    from catalyst_seen import AsyncSeenStore, Duration

    from .._listings import First
    from ._poll import Poll

EVERY = 900.0
"""The default time between two polls of a source, in seconds."""

MAX_BYTES = 32 * 1024 * 1024
"""The default limit of a body, after unpacking."""

_ACCEPT = (
    "application/atom+xml, application/rss+xml, application/feed+json,"
    " application/rdf+xml, application/xml;q=0.9, application/json;q=0.8,"
    " text/xml;q=0.8, */*;q=0.5"
)


class Poller:
    """Polls sources politely, and observes their listings in a store.

    ::

        async with AsyncSeenStore("seen.db") as store, Poller(store) as poller:
            async for poll in poller.watch(["https://example.org/feed.xml"]):
                if poll.notice:
                    print(poll.feed, poll.notice, file=sys.stderr)
                async for claim in poll.store.pending():
                    async with claim:
                        await send(Entry.from_json(claim.note))

    Each source has a namespace of its own (see ``Feed``). A new item is pending there
    until it is handled, whatever happens to this process, to the source or to the
    listing.

    What a server gets: a name with an address; ``ETag`` and ``Last-Modified`` of the
    last listing, and a request without them once a day; at most ``per_host`` requests a
    minute; none before its ``Retry-After``, from any source of its host; fewer the
    longer a source fails, down to one a day; none after ``410 Gone``. ``max-age`` of
    ``Cache-Control``, else the ``ttl`` of the listing, lengthens the time between two
    polls, up to a day.
    """

    def __init__(
        self,
        store: AsyncSeenStore,
        *,
        user_agent: str = USER_AGENT,
        headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        every: Duration = EVERY,
        timeout: Duration = 30.0,
        max_bytes: int = MAX_BYTES,
        per_host: float = 60.0,
        concurrency: int = 64,
        first: First | None = None,
        tuning: FeedTuning | None = None,
    ) -> None:
        """Prepare a poller; ``async with`` starts it.

        Args:
            store: An open store; its namespaces observe the listings.
            user_agent: The name that servers see.
            headers: Headers for all servers; those of one source are in its ``Feed``.
            session: A session of your own, for a proxy or certificates; it stays open.
            every: The time between two polls of a source.
            timeout: The time for one request with its answer.
            max_bytes: The largest body, after unpacking.
            per_host: Requests to one host in a minute; the first ten need no pause.
            concurrency: Requests at the same time, to all hosts.
            first: What happens to the items of a first listing, as in ``FeedRules``;
                the default is the store's. That of a ``Feed`` comes first.
            tuning: Limits that are no settings, for tests.

        Raises:
            ValueError: A number is out of range.
        """
        self._store = store
        self._headers = {
            "Accept": _ACCEPT,
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": user_agent,
            **(headers or {}),
        }
        self._first = first
        self._every = seconds(every, "every")
        self._timeout = seconds(timeout, "timeout")
        self._session = session
        self._max_bytes = _at_least_one(max_bytes, "max_bytes")
        self._tuning = tuning or FeedTuning()
        self._hosts = Hosts(
            per_minute=_above_zero(per_host, "per_host"),
            at_once=_at_least_one(concurrency, "concurrency"),
            now=self._tuning.now,
        )
        self._means: Means | None = None
        self._stack = AsyncExitStack()
        self._watches: set[Watch] = set()

    async def __aenter__(self) -> Self:
        session = self._session
        if session is None:
            session = await self._stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),  # the poller has limits
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
            )
        self._means = Means(
            fetcher=Fetcher(
                session,
                self._hosts,
                self._tuning,
                timeout=self._timeout,
                max_bytes=self._max_bytes,
            ),
            hosts=self._hosts,
            parser=Parser(),
            headers=self._headers,
            max_bytes=self._max_bytes,
            tuning=self._tuning,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for watch in tuple(self._watches):
            await watch.aclose()
        self._means = None
        await self._stack.aclose()

    async def poll(self, source: Feed | str, *, force: bool = False) -> Poll:
        """Poll a source once, now; what goes wrong with it is in the result.

        Args:
            source: The source.
            force: Read it whatever was remembered: without conditions, although it is
                gone, and although its server asked for a pause.

        Raises:
            ConfigurationError: The source names nothing that can be read.
            RuntimeError: The poller is not open.
            StoreError: The store failed.
        """
        feed = as_feed(source)
        return await self._look(feed, self._every, is_forced=force)

    async def watch(
        self,
        sources: Iterable[Feed | str],
        *,
        every: Duration | None = None,
        once: bool = False,
    ) -> AsyncGenerator[Poll, None]:
        """Poll sources for ever, each on its own schedule; no one delays another.

        It ends when all sources are gone. While the store fails, polls are
        ``"failed"``, and go on.

        Args:
            sources: The sources, each with a namespace of its own.
            every: The time between two polls of a source that has none of its own; the
                default is the poller's.
            once: End after one poll of each source.

        Raises:
            ConfigurationError: Two different sources have one namespace.
            RuntimeError: The poller is not open.
        """
        interval = self._every if every is None else seconds(every, "every")

        async def look(feed: Feed) -> Poll:
            return await self._look(feed, interval, is_forced=False)

        self._opened()
        watch = Watch(look, self._view, sources, interval, self._tuning, is_once=once)
        self._watches.add(watch)
        try:
            watch.start()
            while (poll := await watch.next()) is not None:
                yield poll
        finally:
            self._watches.discard(watch)
            await watch.aclose()

    async def _look(self, feed: Feed, every: float, *, is_forced: bool) -> Poll:
        interval = every if feed.every is None else seconds(feed.every, "every")
        look = Look(
            self._opened(), feed, self._view(feed), interval, is_forced=is_forced
        )
        return await look.run()

    def _view(self, feed: Feed) -> AsyncSeenStore:
        """Return the store bound to the namespace of a source."""
        first = self._first if feed.first is None else feed.first
        rule = ... if first is None else first
        return self._store.namespace(feed.namespace, first=rule)

    def _opened(self) -> Means:
        if self._means is None:
            raise RuntimeError("the poller is not open: use `async with Poller(...)`")
        return self._means


def _at_least_one(value: int, argument: str) -> int:
    if value < 1:
        raise ValueError(f"{argument} must be a whole number above 0, not {value!r}")
    return value


def _above_zero(value: float, argument: str) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"{argument} must be a number above 0, not {value!r}")
    return float(value)
