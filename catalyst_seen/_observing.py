"""The verbs for listings: observe a source, and handle what is pending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._claims.pending import PendingClaims
from ._claims.retry import Retry
from ._error_texts import error_text
from ._errors import ConfigurationError, InvalidKeyError
from ._listing_items import ItemFields, Listing
from ._listings import Observation, Source
from ._unawaited import Unawaited, verb
from ._validation import check_flag, check_text, seconds
from .backends.base import SupportsListings
from .backends.listings import Fail, Observe, Retention

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Iterable,
        Sequence,
    )
    from types import EllipsisType

    from ._config import SeenStoreConfig
    from ._engine.dispatcher import Dispatcher
    from ._engine.lifecycle import Lifecycle
    from ._engine.maintenance import Maintenance
    from ._listings import FeedRules
    from ._validation import Duration
    from .backends.listings import Item, Observed

T = TypeVar("T")

MAX_TEXT_BYTES = 16_384
"""UTF-8 bytes of validators, and of a poller's state."""


class ObservingVerbs:
    """The part of ``AsyncSeenStore`` that concerns the listings of sources."""

    _config: SeenStoreConfig
    _lifecycle: Lifecycle
    _dispatcher: Dispatcher
    _maintenance: Maintenance
    _name: str | None
    _rules: FeedRules

    if TYPE_CHECKING:

        def _token(self) -> str: ...
        def _length(self, lease: Duration | EllipsisType) -> float: ...
        def _own(self, namespace: str | EllipsisType) -> str: ...
        def _chunks(self, items: list[T]) -> AsyncIterator[tuple[int, list[T]]]: ...

    @overload
    def observe(
        self,
        items: Iterable[str],
        *,
        validators: str | None = None,
        state: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> Unawaited[Observation[str]]: ...

    @overload
    def observe(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str],
        spellings: Callable[[T], Iterable[str]] | None = None,
        aliases: Callable[[T], str | Sequence[str] | None] | None = None,
        digest: Callable[[T], str | None] | None = None,
        note: Callable[[T], str | None] | None = None,
        validators: str | None = None,
        state: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> Unawaited[Observation[T]]: ...

    @verb
    async def observe(
        self,
        items: Iterable[Any],
        *,
        key: Callable[[Any], str] | None = None,
        spellings: Callable[[Any], Iterable[str]] | None = None,
        aliases: Callable[[Any], str | Sequence[str] | None] | None = None,
        digest: Callable[[Any], str | None] | None = None,
        note: Callable[[Any], str | None] | None = None,
        validators: str | None = None,
        state: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> Observation[Any]:
        """Record what a source lists at one poll, in one transaction.

        ::

            feed = store.namespace("bbc")
            await feed.observe(entries, key=lambda e: e.id, note=lambda e: e.title)
            async for claim in feed.pending():
                async with claim:
                    await send(claim.note)

        What is new becomes pending, with its note, and stays so until it is handled:
        neither a crash nor a failed delivery nor a source that lists other items
        meanwhile loses an item. The first listing of a namespace is its baseline,
        marked without handling, as the rule ``first`` says.

        Keys that were observed do not expire by a TTL, whoever gave it. A key is kept
        while it is listed, and then until it has been absent for long, by the number of
        polls and by a clock that only passes at polls: after a pause of months, nothing
        is repeated. Nor is it dropped while it is pending, claimed, released or held.

        Args:
            items: What the source lists now, oldest first; at most 50,000 items. If two
                have the same key, the first one counts.
            key: Returns the key of an item; by default the item is its key.
            spellings: Returns other forms of the same key, under which the item may be
                stored; one that two items of the listing share is ignored.
            aliases: Returns what an item has in common with itself under another key:
                a text, such as its link, or several: then another one, such as its
                title or its date, must be equal as well. An unknown item is marked, and
                not pending, if exactly one key of the last listing that is absent now
                had the same alias. ``None`` is no alias.
            digest: Returns a text that changes when the item is edited: what waits gets
                the new note; what was handled is pending again, as the rule ``changes``
                says.
            note: Returns the text that is stored with a pending item, for
                ``claim.note``.
            validators: A text that is stored with this listing, and returned by
                ``source``: what a conditional request needs. At most 16 KiB.
            state: A text for the poller itself; ``None`` keeps the stored one. At most
                16 KiB.
            namespace: The namespace of the source, which must not be empty.

        Returns:
            What can be claimed now, and what was marked without handling.

        Raises:
            StoreUnavailableError: The store failed; nothing was changed.
            OutcomeUnknownError: The commit failed; observe again.
        """
        fields = ItemFields(key, spellings, aliases, digest, note)
        listing = Listing.begin(items, fields)
        async for first, chunk in self._chunks(listing.given):
            listing.read(first, chunk)
        return await self._observe_listing(listing, validators, state, namespace)

    async def _observe_listing(
        self,
        listing: Listing,
        validators: str | None,
        state: str | None,
        namespace: str | EllipsisType,
    ) -> Observation[Any]:
        """Record a listing whose items were read."""
        backend, name = self._source_of(namespace)
        request = self._request(name, listing.read_items(), validators, state)
        observed = await self._record(backend, request)
        assert observed is not None  # noqa: S101 - there was a listing
        summary = observed.summary
        return Observation(
            listing.at(observed.claimable),
            listing.at(summary.changed),
            listing.at(summary.replaced),
            summary.baseline,
            observed.pending,
        )

    @verb
    async def observed_unchanged(
        self,
        validators: str,
        *,
        state: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> bool:
        """Record a poll at which the source said that its listing is the same.

        Args:
            validators: The text that was stored with the listing.
            state: As in ``observe``.
            namespace: As in ``observe``.

        Returns:
            False if that listing is not the stored one, or one of its keys was
            forgotten: nothing is recorded; read the source in full, and ``observe``.

        Raises:
            StoreUnavailableError: The store failed; nothing was changed.
            OutcomeUnknownError: The commit failed.
        """
        backend, name = self._source_of(namespace)
        request = self._request(name, None, validators, state)
        return await self._record(backend, request) is not None

    @verb
    async def failed(
        self,
        error: str | BaseException,
        *,
        state: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> None:
        """Record that a source could not be polled; that is no poll, and nothing ages.

        Args:
            error: What went wrong: the first 500 characters are kept, without the rest
                of a URL after its scheme, which may have a password.
            state: As in ``observe``.
            namespace: As in ``observe``.

        Raises:
            StoreUnavailableError: The store failed; nothing was changed.
            OutcomeUnknownError: The commit failed.
        """
        backend, name = self._source_of(namespace)
        failure = Fail(name, error_text(error), _text(state, "state"))
        await self._maintenance.change(
            "failed", lambda: backend.fail(failure), lambda _: False
        )

    @verb
    async def source(self, *, namespace: str | EllipsisType = ...) -> Source | None:
        """Return what is known of the source of a namespace.

        ``None`` if it was never observed, and never failed.

        Raises:
            StoreUnavailableError: The store failed.
        """
        backend, name = self._source_of(namespace)
        record = await self._lifecycle.read("source", lambda: backend.source(name))
        return None if record is None else record.to_source(name)

    @verb
    async def sources(self) -> list[Source]:
        """Return what is known of the sources of all namespaces, sorted by namespace.

        They are those that ``source`` returns: that were observed, or failed. On Redis,
        this scans all keys.

        Raises:
            StoreUnavailableError: The store failed.
        """
        backend = self._listings_of_backend()
        records = await self._lifecycle.read("sources", backend.sources)
        return [records[name].to_source(name) for name in sorted(records)]

    def pending(
        self,
        *,
        lease: Duration | EllipsisType = ...,
        keep_alive: bool = False,
        wait: bool = False,
        namespace: str | EllipsisType = ...,
    ) -> PendingClaims:
        """Claim what is pending, one claim a step, the oldest observation first.

        ::

            async for claim in feed.pending(lease=60):
                async with claim:
                    await send(claim.note)

        The end of the block confirms the claim. After an exception the key is pending
        again, for the next iteration, after a pause: 30 seconds, twice as long after
        each further attempt, an hour at most, each more or less by a tenth. A
        cancellation counts as no attempt. Any number of processes may iterate at once:
        each key has one owner at a time.

        A claim that was neither confirmed nor released, and whose block was not
        entered, is released by the next step, which raises ``RuntimeError``, and by
        leaving the loop. While its block runs, such as in another task, it keeps its
        lease, and the end of the block settles it.

        Args:
            lease: As in ``claim``.
            keep_alive: As in ``claim``.
            wait: Wait for further keys at the end, instead of ending; then a key whose
                attempt failed comes again.
            namespace: As in ``observe``.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: The commit failed; the claim is released.
        """
        backend, name = self._source_of(namespace)
        check_flag(keep_alive, "keep_alive")
        check_flag(wait, "wait")
        rules = self._rules
        retry = Retry(
            seconds(rules.retry_after, "retry_after"),
            seconds(rules.retry_after_most, "retry_after_most"),
            rules.max_attempts,
        )
        return PendingClaims(
            self._dispatcher,
            backend,
            name,
            lease=self._length(lease),
            on_abandoned=self._config.on_abandoned,
            retry=retry,
            keep_alive=keep_alive,
            is_waiting=wait,
        )

    def _request(
        self,
        namespace: str,
        items: list[Item] | None,
        validators: str | None,
        state: str | None,
    ) -> Observe:
        return Observe(
            namespace,
            self._token(),
            items,
            _retention(self._rules),
            _text(validators, "validators"),
            _text(state, "state"),
        )

    async def _record(
        self, backend: SupportsListings, request: Observe
    ) -> Observed | None:
        observed = await self._maintenance.change(
            "observe",
            lambda: backend.observe(request),
            lambda observed: observed is not None and observed.has_ended,
        )
        if observed is not None:
            self._dispatcher.counters.count_listing(request.namespace, observed)
            self._watch(request.namespace, observed)
        return observed

    def _watch(self, namespace: str, observed: Observed) -> None:
        """Begin or end the alarm of what waits for long, or is much."""
        failures, rules = self._lifecycle.failures, self._rules
        longest = seconds(rules.pending_longest, "pending_longest")
        oldest = observed.oldest_pending
        waits = 0.0 if oldest is None else self._lifecycle.backend.now() - oldest
        name = f"pending {namespace}"
        if observed.pending >= rules.pending_most or waits >= longest:
            failures.begin_alarm(
                name,
                f"{observed.pending:,} keys of the namespace {namespace!r} are pending,"
                f" one for {waits / 86_400:.1f} days: nobody handles them, or handling"
                " fails; see pending(), and the errors of records(state='released')",
            )
        else:
            failures.end_alarm(name)

    def _source_of(self, namespace: str | EllipsisType) -> tuple[SupportsListings, str]:
        """Return the backend that records a source, and the source's namespace."""
        name = self._own(namespace)
        if not name:
            raise InvalidKeyError(
                "namespace",
                "'' is the default one, and a source needs one of its own: use"
                " store.namespace(name), with a name that you choose",
            )
        if self._config.on_abandoned == "drop":
            raise ConfigurationError(
                "on_abandoned",
                "'drop' would lose a pending item whose handling crashes: use 'retry'"
                " or 'hold' for a store that observes sources",
            )
        return self._listings_of_backend(), name

    def _listings_of_backend(self) -> SupportsListings:
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsListings):
            raise ConfigurationError(
                "backend", f"{type(backend).__name__} cannot record listings"
            )
        return backend


def _retention(rules: FeedRules) -> Retention:
    """Return the part of the rules by which a backend decides."""
    first: int | None = 0
    if rules.first != "baseline":
        first = None if isinstance(rules.first, str) else rules.first
    return Retention(
        first,
        rules.changes,
        rules.absent_polls,
        seconds(rules.absent_for, "absent_for"),
        seconds(rules.longest_gap, "longest_gap"),
        rules.kept_listings,
        rules.kept_keys,
        rules.small_listing,
        rules.recent_listings,
    )


def _text(text: str | None, argument: str) -> str | None:
    """Return a text of the poller's that is short enough to be stored."""
    if text is not None:
        check_text(text, argument, MAX_TEXT_BYTES)
    return text
