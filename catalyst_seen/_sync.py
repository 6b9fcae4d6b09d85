"""SeenStore, the blocking twin of AsyncSeenStore.

Each verb submits the asynchronous verb of the same name to the event loop thread of the
store (``_portal``), and waits for its result. The verbs that the cache may answer run
in the caller's thread first, on a store that has nothing but the cache.
"""

from __future__ import annotations

import inspect
import threading
import warnings
import weakref
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from operator import itemgetter
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ._calls import explain_calls, explained
from ._engine.cached import CachedAnswers, NotCachedError
from ._environment import env_flag
from ._errors import StoreClosedError
from ._fork import Owner
from ._items import check_key_function
from ._listing_items import ItemFields, Listing
from ._misuse import misused
from ._store import AsyncSeenStore, check_function
from ._sync_claims import (
    ASYNCHRONOUS,
    BlockingClaim,
    BlockingClaims,
    BlockingPendingClaims,
    unwrapped,
)
from ._types import Once

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
    from types import EllipsisType, TracebackType

    from ._claims.claim import Claim
    from ._config import Clock, OnError, SeenStoreConfig
    from ._engine.dispatcher import Dispatcher
    from ._items import Note
    from ._listings import FeedRules, First, Observation, Source
    from ._metrics import StoreMetrics
    from ._store import ClaimOptions
    from ._types import (
        CheckReport,
        OnAbandoned,
        Record,
        RecordState,
        Sighting,
        StoreStats,
    )
    from ._unawaited import Unawaited
    from ._validation import Duration
    from .backends.base import Backend, Selection

P = ParamSpec("P")
T = TypeVar("T")


@misused(
    aenter=ASYNCHRONOUS.format("SeenStore"),
    aexit=ASYNCHRONOUS.format("SeenStore"),
)
class SeenStore:
    """Remembers which items have been handled, for blocking programs.

    ::

        with SeenStore("seen.db", ttl="7d") as store:
            if store.check_and_mark(item.id, namespace=feed):
                send(item)

    The store has the verbs and promises of ``AsyncSeenStore``, which it runs in the
    event loop of a thread of its own. The constructor opens the store. Any number of
    threads may use it. The exit of the program closes a store that is still open, and
    an open store never prevents the exit.
    """

    @explained
    def __init__(
        self,
        target: str | os.PathLike[str] | SeenStoreConfig | Backend | None = None,
        *,
        ttl: Duration | EllipsisType | None = ...,
        purge_interval: Duration | EllipsisType | None = ...,
        on_error: OnError | EllipsisType = ...,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        clock: Clock | EllipsisType = ...,
        create: bool | EllipsisType = ...,
        config: SeenStoreConfig | None = None,
    ) -> None:
        """Open a store. The arguments are those of ``AsyncSeenStore``.

        Raises:
            ConfigurationError: The URL or an environment variable is wrong.
            SchemaError: The file has a newer schema or is not a store; it is untouched.
            StoreUnavailableError: The database cannot be opened, or a move to it has
                not ended.
            TypeError: A setting has the wrong type.
            ValueError: A setting is out of its range.
        """
        self._store = AsyncSeenStore(
            target,
            ttl=ttl,
            purge_interval=purge_interval,
            on_error=on_error,
            on_abandoned=on_abandoned,
            clock=clock,
            create=create,
            config=config,
        )
        self._owner = Owner()
        self._close_timeout = self._store._config.tuning.close_timeout
        self._calls = _Calls()
        self._parent: Self | None = None
        from ._portal import LoopThread  # anyio: an asyncio program does not need it

        self._thread = LoopThread(self._store, self._close_timeout)
        self._cached = _with_cache_only(self._store)
        self._finalizer = weakref.finalize(self, self._thread.stop)

    def __repr__(self) -> str:
        name = self._store._name
        where = "" if name is None else f", namespace {name!r}"
        return f"<SeenStore {self.location!r}{where}>"

    @property
    def location(self) -> str:
        """The address of the database: an absolute path, ``:memory:`` or a URL.

        It never contains a password.
        """
        return self._store.location

    @property
    def cfg(self) -> SeenStoreConfig:
        """The configuration, by its name in the old synchronous store.

        A ``ttl`` that was passed to the store does not change its ``ttl_days``.
        """
        return self._store.cfg

    def get_cache_stats(self) -> dict[str, float]:
        """Return the statistics of the cache of seen keys, as the old store did.

        ``enabled``, ``size``, ``max_size``, ``hits``, ``misses``, ``hit_rate_percent``;
        ``stats`` has more. It does no I/O.
        """
        return self._store.get_cache_stats()

    def namespace(
        self,
        name: str,
        *,
        ttl: Duration | EllipsisType | None = ...,
        lease: Duration | EllipsisType = ...,
        first: First | EllipsisType = ...,
        changes: int | EllipsisType = ...,
        max_attempts: int | EllipsisType | None = ...,
        feeds: FeedRules | EllipsisType = ...,
    ) -> Self:
        """Return this store bound to a namespace: ``feed = store.namespace("bbc")``.

        The view has every verb, and shares everything else with the store, which opens
        and closes it. Verbs without ``namespace=`` use the view's namespace.

        Args:
            name: The namespace. It names the source of the keys, such as a feed: a name
                that you choose, and not a URL, which may change.
            ttl: The default TTL of the view's marks; by default the store's.
            lease: The default lease of the view's claims; by default 60 seconds.
            first: That of the rules for its listings, instead of the one in ``feeds``:
                ``"baseline"``, ``"all"``, or how many of the last items of a first
                listing are handled.
            changes: The same, for how often an item is handled again that was edited.
            max_attempts: The same, for the attempts after which a key is held. It is
                for claims of ``pending``; others count themselves: ``if claim.attempt
                >= 5: claim.hold(error)``.
            feeds: The rules for its listings; by default those of the configuration.

        Raises:
            InvalidKeyError: The name is invalid.
            TypeError: This is a view itself.
        """
        view = copy(self)
        view._store = self._store.namespace(
            name,
            ttl=ttl,
            lease=lease,
            first=first,
            changes=changes,
            max_attempts=max_attempts,
            feeds=feeds,
        )
        view._cached = _with_cache_only(view._store)
        view._parent = self
        return view

    def close(self) -> None:
        """Close the store, as the end of a ``with`` block does.

        Calls under way in other threads complete first; later calls raise
        ``StoreClosedError``. The close waits at most five seconds for the calls and
        five seconds for the disk. It is idempotent, also from many threads at once. In
        a forked child it does nothing.
        """
        self._store._refuse_view("is open as long as its store: close that")
        if not self._owner.is_current:
            return
        self._thread.post(self._store._dispatcher.waiters.close)
        self._calls.close(self._close_timeout)
        self._finalizer.detach()
        self._thread.stop()

    def __enter__(self) -> Self:
        self._store._refuse_view("is open as long as its store: enter that")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_parent", None) is not None:
            return
        finalizer: weakref.finalize[..., SeenStore] | None
        finalizer = getattr(self, "_finalizer", None)
        if finalizer is not None and finalizer.alive and self._owner.is_current:
            warnings.warn(
                f"{self!r} was never closed: use `with`, or store.close()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def is_seen(self, key: str, *, namespace: str | EllipsisType = ...) -> bool:
        """Return whether a key was marked and has not expired.

        If the store fails in any way (a ``StoreError``), the result is False and an
        error is logged, as in the old synchronous store, unless ``on_error="raise"``.

        Raises:
            StoreError: The store failed, and ``on_error`` is ``"raise"``.
        """
        return self._ask(AsyncSeenStore.is_seen, key, namespace=namespace)

    def mark_seen(
        self,
        key: str,
        ts: float | None = None,
        *,
        ttl: Duration | EllipsisType | None = ...,
        note: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> None:
        """Mark a key as seen, in any state; a claim on it is lost.

        The TTL counts from this mark. ``first_seen`` is kept and ``last_seen`` is
        updated; a mark with an earlier ``ts`` never undoes a later one.

        Args:
            key: The item's identity.
            ts: The time of the sighting, in seconds since 1970, and not before 2000;
                now by default. If the TTL, counted from ``ts``, is over, the key is
                marked and unseen.
            ttl: The TTL of this mark, as in the constructor; ``None`` is for ever. The
                default is the store's.
            note: A text that is stored with the key, of at most 65,536 bytes of UTF-8,
                for ``get`` and ``records``. ``None`` keeps the one that is there, and
                ``""`` removes it.
            namespace: The namespace of the key.

        Raises:
            StoreUnavailableError: The store failed; the key is not marked.
            OutcomeUnknownError: The commit failed; the mark may be stored.
        """
        self._call(
            self._store.mark_seen, key, ts, ttl=ttl, note=note, namespace=namespace
        )

    def mark_many(
        self,
        keys: Iterable[str],
        ts: float | None = None,
        *,
        ttl: Duration | EllipsisType | None = ...,
        note: Note = None,
        namespace: str | EllipsisType = ...,
    ) -> None:
        """Mark many keys as ``mark_seen`` does, in one transaction: all or nothing.

        Args:
            keys: Any iterable of keys.
            ts: As in ``mark_seen``.
            ttl: As in ``mark_seen``.
            note: The note of all keys, or a function that returns that of a key.
            namespace: The namespace of the keys.

        Raises:
            StoreUnavailableError: The store failed; no key is marked.
            OutcomeUnknownError: The commit failed; all keys are marked, or none.
        """
        self._call(
            self._store.mark_many,
            _materialized(keys),
            ts,
            ttl=ttl,
            note=note,
            namespace=namespace,
        )

    def check_and_mark(
        self,
        key: str,
        *,
        ttl: Duration | EllipsisType | None = ...,
        note: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> Sighting:
        """Mark a key unless it is seen, claimed or held; true if this call marked it.

        Atomic: of any number of tasks, threads and processes that check one key,
        exactly one gets a true sighting per TTL. The key of a false sighting is not
        changed, and costs no write. ``note`` is as in ``mark_seen``; a duplicate keeps
        its own.

        Raises:
            StoreUnavailableError: The store failed; the key is not marked.
            OutcomeUnknownError: The commit failed; the mark may be stored.
        """
        return self._ask(
            AsyncSeenStore.check_and_mark,
            key,
            ttl=ttl,
            note=note,
            namespace=namespace,
        )

    def check_and_mark_many(
        self,
        keys: Iterable[str],
        *,
        ttl: Duration | EllipsisType | None = ...,
        note: Note = None,
        namespace: str | EllipsisType = ...,
    ) -> list[Sighting]:
        """Do ``check_and_mark`` for many keys in one transaction: all or nothing.

        ``note`` is as in ``mark_many``; a duplicate keeps its own.

        Returns:
            A sighting per key, in order. If a new key occurs twice, its first sighting
            is ``NEW``, the second ``DUPLICATE``.

        Raises:
            StoreUnavailableError: The store failed; no key is marked.
            OutcomeUnknownError: The commit failed; all keys are marked, or none.
        """
        verb = partial(
            AsyncSeenStore.check_and_mark_many,
            keys=_materialized(keys),
            ttl=ttl,
            note=note,
            namespace=namespace,
        )
        # A function is called once for each key; no answer with it is cached.
        return self._call(verb, self._store) if callable(note) else self._ask(verb)

    def refresh(
        self,
        keys: Iterable[str],
        *,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str | EllipsisType = ...,
    ) -> int:
        """Extend the TTL of the keys that are seen; the others are not changed.

        It is the verb for a source that lists an item again: what is handled stays
        seen for another TTL, and what is claimed, released or new is not lost. It never
        shortens a TTL. One transaction: all or nothing.

        Returns:
            How many of the keys were seen; a key that occurs twice counts twice.

        Raises:
            StoreUnavailableError: The store failed; no key is changed.
            OutcomeUnknownError: The commit failed; all are refreshed, or none.
        """
        return self._call(
            self._store.refresh, _materialized(keys), ttl=ttl, namespace=namespace
        )

    def claim(
        self,
        key: str,
        *,
        lease: Duration | EllipsisType = ...,
        ttl: Duration | EllipsisType | None = ...,
        wait: Duration = 0,
        keep_alive: bool = False,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        note: str | None = None,
        namespace: str | EllipsisType = ...,
        required: bool = False,
    ) -> BlockingClaim:
        """Claim a key while its item is handled; true when the caller owns it.

        The call acquires the claim. Confirm or release the claim by hand, or enter it
        with ``with``, which confirms it at the end of the block, and releases it at an
        exception.

        Arguments, promises and errors are those of ``AsyncSeenStore.claim``, with one
        exception: ``keep_alive`` cannot cancel a thread. If the lease is lost, the
        normal end of the block raises ``LeaseLostError``.
        """
        options: dict[str, Any] = {
            "lease": lease,
            "ttl": ttl,
            "wait": wait,
            "keep_alive": keep_alive,
            "on_abandoned": on_abandoned,
            "note": note,
            "namespace": namespace,
            "required": required,
        }

        async def acquire() -> list[Claim]:
            return [await self._store.claim(key, **options)]

        known = self._answers(self._cached.claim(key, **options))
        (claim,) = known or self._call_for_claims(acquire)
        return BlockingClaim(self, claim)

    def once(
        self, key: str, function: Callable[[], T], **claim: Unpack[ClaimOptions]
    ) -> Once[T]:
        """Call a function if the key can be claimed; true if it was called.

        ::

            store.once(item.id, partial(send, item), namespace=feed)

        The key is claimed, the function is called in the caller's thread, and the claim
        is confirmed: the key is seen. If the function raises, the claim is released and
        the exception propagates: the item can be handled again.

        Arguments, promises and errors are those of ``AsyncSeenStore.once``; a coroutine
        function is refused with ``TypeError``.
        """
        check_function(function)
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"function must not be a coroutine function, as {function!r} is: take"
                " AsyncSeenStore, whose once awaits it"
            )
        with self.claim(key, **claim) as owned:
            if not owned:
                return Once(owned.verdict, None, owned.attempt, owned.retry_after)
            result = function()
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError(
                    f"function must not return a coroutine, as {function!r} does: take"
                    " AsyncSeenStore, whose once awaits it"
                )
        return Once(owned.verdict, result, owned.attempt)

    def claim_many(
        self,
        keys: Iterable[str],
        *,
        lease: Duration | EllipsisType = ...,
        ttl: Duration | EllipsisType | None = ...,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        note: Note = None,
        namespace: str | EllipsisType = ...,
    ) -> BlockingClaims:
        """Claim many keys in one transaction: all claimable keys, or none.

        ::

            with store.claim_many(keys) as claims:
                for claim in claims:
                    with claim:
                        send(claim.key)

        The result is a list with a claim per key, in order. As a block it yields the
        owned claims; the end of the block releases those that were neither confirmed
        nor released.

        Arguments, promises and errors are those of ``AsyncSeenStore.claim_many``.
        """
        claims = self._call_for_claims(
            partial(
                self._store.claim_many,
                _materialized(keys),
                lease=lease,
                ttl=ttl,
                on_abandoned=on_abandoned,
                note=note,
                namespace=namespace,
            )
        )
        return BlockingClaims(BlockingClaim(self, claim) for claim in claims)

    def confirm_many(
        self,
        claims: Iterable[BlockingClaim],
        *,
        ttl: Duration | EllipsisType | None = ...,
    ) -> list[bool]:
        """Confirm claims, as ``Claim.confirm`` does, in one transaction.

        Accepts all claims that this store made, from any number of batches.

        Returns:
            For each claim, in order, whether it is confirmed; false where
            ``Claim.confirm`` raises ``LeaseLostError``. Lost claims are also logged, in
            one warning.

        Raises:
            StoreUnavailableError: The store failed; no claim is confirmed.
            OutcomeUnknownError: The commit failed; confirm again to read the outcome.
        """
        return self._call(self._store.confirm_many, unwrapped(claims), ttl=ttl)

    def release_many(
        self, claims: Iterable[BlockingClaim], *, delay: Duration = 0
    ) -> list[bool]:
        """Release claims, as ``Claim.release`` does, in one transaction.

        Returns:
            For each claim, in order, whether it was released; false if it was no longer
            owned.

        Raises:
            StoreUnavailableError: The store failed; the leases continue.
            OutcomeUnknownError: The commit failed; the claims may be released.
        """
        return self._call(self._store.release_many, unwrapped(claims), delay=delay)

    def held(self, *, namespace: str | EllipsisType | None = ...) -> list[Record]:
        """List the keys that are ``HELD``, in one namespace or in all.

        Returns:
            A record per key, ordered by namespace and key; ``last_seen`` is the time of
            the last claim.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.held, namespace=namespace)

    def resolve(
        self,
        key: str,
        *,
        handled: bool,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str | EllipsisType = ...,
    ) -> bool:
        """Decide whether the item of a key that is ``HELD`` was handled.

        If it was, the key is marked as seen; if not, the next caller may claim it.

        Returns:
            True if the key was held; otherwise it was not changed.

        Raises:
            StoreUnavailableError: The store failed; the key is not changed.
            OutcomeUnknownError: The commit failed; the change may be stored.
        """
        return self._call(
            self._store.resolve, key, handled=handled, ttl=ttl, namespace=namespace
        )

    @overload
    def filter_new(
        self, items: Iterable[str], *, namespace: str | EllipsisType = ...
    ) -> list[str]: ...

    @overload
    def filter_new(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str],
        namespace: str | EllipsisType = ...,
    ) -> list[T]: ...

    def filter_new(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str] | None = None,
        namespace: str | EllipsisType = ...,
    ) -> list[T]:
        """Return the items that are not seen, in order; a read-only call.

        Of several items with the same key the first is returned. Claimed and held keys
        are not seen. Another caller may mark or claim a key after this result was read;
        ``check_and_mark_many`` and ``claim_many`` have no such gap.

        Args:
            items: Any iterable of items.
            key: Returns the key of an item; by default the item is its key.
            namespace: The namespace of the keys.

        Raises:
            StoreUnavailableError: The store failed.
        """
        check_key_function(key)
        entries = _materialized(items)
        if key is None:
            texts = cast("Iterable[str]", entries)
            fresh = self._ask(AsyncSeenStore.filter_new, texts, namespace=namespace)
            return cast("list[T]", fresh)
        keyed = [(key(item), item) for item in entries]

        def filter_keyed(store: AsyncSeenStore) -> Unawaited[list[tuple[str, T]]]:
            return store.filter_new(keyed, key=itemgetter(0), namespace=namespace)

        return [item for _, item in self._ask(filter_keyed)]

    @overload
    def observe(
        self,
        items: Iterable[str],
        *,
        validators: str | None = None,
        state: str | None = None,
        namespace: str | EllipsisType = ...,
    ) -> Observation[str]: ...

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
    ) -> Observation[T]: ...

    def observe(
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
            feed.observe(entries, key=lambda e: e.id, note=lambda e: e.title)
            for claim in feed.pending():
                with claim:
                    send(claim.note)

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
        listing = Listing.begin(
            items, ItemFields(key, spellings, aliases, digest, note)
        )
        listing.read(0, listing.given)
        return self._call(
            self._store._observe_listing, listing, validators, state, namespace
        )

    def observed_unchanged(
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
        return self._call(
            self._store.observed_unchanged, validators, state=state, namespace=namespace
        )

    def failed(
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
        self._call(self._store.failed, error, state=state, namespace=namespace)

    def source(self, *, namespace: str | EllipsisType = ...) -> Source | None:
        """Return what is known of the source of a namespace.

        ``None`` if it was never observed, and never failed.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.source, namespace=namespace)

    def sources(self) -> list[Source]:
        """Return what is known of the sources of all namespaces, sorted by namespace.

        They are those that ``source`` returns: that were observed, or failed. On Redis,
        this scans all keys.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.sources)

    def pending(
        self,
        *,
        lease: Duration | EllipsisType = ...,
        keep_alive: bool = False,
        wait: bool = False,
        namespace: str | EllipsisType = ...,
    ) -> BlockingPendingClaims:
        """Claim what is pending, one claim a step, the oldest observation first.

        ::

            for claim in feed.pending(lease=60):
                with claim:
                    send(claim.note)

        Arguments, promises and errors are those of ``AsyncSeenStore.pending``.
        """
        claims = self._store.pending(
            lease=lease, keep_alive=keep_alive, wait=wait, namespace=namespace
        )
        return BlockingPendingClaims(self, claims)

    def forget(self, key: str, *, namespace: str | EllipsisType = ...) -> bool:
        """Make a key unseen; true if it was seen or claimed. A claim on it is lost.

        Raises:
            StoreUnavailableError: The store failed; the key is not changed.
            OutcomeUnknownError: The commit failed; the key may be forgotten.
        """
        return self._call(self._store.forget, key, namespace=namespace)

    def forget_many(
        self, keys: Iterable[str], *, namespace: str | EllipsisType = ...
    ) -> int:
        """Make many keys unseen, as ``forget`` does, in one transaction.

        Returns:
            How many of them were seen or claimed.

        Raises:
            StoreUnavailableError: The store failed; no key is changed.
            OutcomeUnknownError: The commit failed; the keys may be forgotten.
        """
        return self._call(
            self._store.forget_many, _materialized(keys), namespace=namespace
        )

    def get(self, key: str, *, namespace: str | EllipsisType = ...) -> Record | None:
        """Return the record of a key in any state; ``None`` if it is unseen.

        ``record.state`` tells whether the key is seen, claimed, released or held.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.get, key, namespace=namespace)

    def count(self, *, namespace: str | EllipsisType | None = ...) -> int:
        """Count the seen keys of one namespace, or of all; reads every row.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.count, namespace=namespace)

    def has_any(self, *, namespace: str | EllipsisType | None = ...) -> bool:
        """Return whether any key is seen, in one namespace or in all.

        It costs no more than a few rows on SQLite and PostgreSQL. Redis is scanned
        until a key is found, so that a large database with few keys takes long.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.has_any, namespace=namespace)

    def namespaces(self) -> list[str]:
        """List the namespaces that have a key which is not unseen, sorted.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.namespaces)

    def records(
        self,
        *,
        state: RecordState | None = None,
        namespace: str | EllipsisType | None = ...,
        prefix: str = "",
        since: float | None = None,
    ) -> Iterator[Record]:
        """Iterate over the records of keys, in no promised order.

        ::

            for record in store.records(state="claimed"):
                print(record.key, record.until, record.note)

        The records are read page by page, while other calls run: a key that changes
        meanwhile is returned in one of its states, and one that is made meanwhile, or
        ends, may be missed.

        Args:
            state: Only keys in this state; ``None`` is any.
            namespace: Only keys of this namespace; ``None`` is any.
            prefix: Only keys that begin so.
            since: Only keys that were marked or claimed at this instant or later, in
                seconds since 1970.

        Raises:
            StoreUnavailableError: The store failed; raised while iterating.
        """
        selection = self._store._selection(
            state=state, namespace=namespace, prefix=prefix, since=since
        )
        return self._records(selection)

    def _records(self, selection: Selection) -> Iterator[Record]:
        page = self._call(self._store._page, selection, None)
        while True:
            yield from page.records
            if page.cursor is None:
                return
            page = self._call(self._store._page, selection, page.cursor)

    def clear(self, *, namespace: str | EllipsisType | None = ...) -> int:
        """Remove every key of a namespace, in any state, as if it had never been used.

        Claims on its keys are lost. A clear is divided into bounded transactions,
        between which other calls run: a key that is marked meanwhile may stay.

        Args:
            namespace: The namespace, by default the view's, or ``""``; ``None`` is
                every namespace of the store.

        Returns:
            The number of keys that were not unseen.

        Raises:
            StoreUnavailableError: The store failed; the keys of earlier transactions
                stay removed.
            OutcomeUnknownError: The commit of one of the transactions failed.
        """
        return self._call(self._store.clear, namespace=namespace)

    def rename(self, new_name: str, *, namespace: str | EllipsisType = ...) -> None:
        """Rename a namespace: its keys keep their states.

        Claims on its keys are lost, because their owners know the old name. On Redis
        the keys are renamed one after the other; after a failure, another call
        completes the first one.

        Args:
            new_name: A name under which there is no key.
            namespace: The namespace, by default the view's, or ``""``.

        Raises:
            ValueError: There are keys under the new name; nothing is changed.
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: The commit failed.
        """
        self._call(self._store.rename, new_name, namespace=namespace)

    def stats(self, *, namespace: str | EllipsisType | None = ...) -> StoreStats:
        """Return statistics; keys are counted in one namespace, or in all.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return self._call(self._store.stats, namespace=namespace)

    def metrics(self) -> StoreMetrics:
        """Return what this store has counted in this process, without any I/O.

        It may be called at any time and from any thread, also before the store is
        opened and after it is closed. ``catalyst_seen.metrics`` exports it to
        Prometheus and OpenTelemetry.

        What only the database knows, such as the number of keys, is read in the
        background after this call, at most once in ``sample_interval``: the first call
        has none of it yet, and later ones have it with its age.
        """
        return self._store.metrics()

    def probe(self) -> None:
        """Return when the database has answered a read and committed a write.

        Both wait for their turn as every call does. The write changes nothing that any
        verb shows, and fails where a mark would fail. ``catalyst_seen.metrics.health``
        makes an answer of it for a readiness probe.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: The commit failed.
        """
        self._call(self._store.probe)

    def check(self, *, full: bool = False) -> CheckReport:
        """Run a health check of the database, while other calls run.

        On SQLite it reads the whole file to detect damage in its structure; with
        ``full`` it also compares every row with every index. On a server it checks for
        settings that would break a promise of the store. The report contains the
        settings in force, and the problems that need an operator.

        Returns:
            A report: true if there is no problem; as text, one line per finding.

        Raises:
            SchemaError: The database is not a store any more.
            StoreUnavailableError: The database is too damaged to be opened, or the
                store failed.
        """
        return self._call(self._store.check, full=full)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy a snapshot of SQLite's database to a file, while other calls run.

        The copy is a complete database: open it as a store, or let it replace a file
        that no program has open. It gets its name when it is complete and on the disk,
        and is readable by its owner only. Other calls wait for the copy if the database
        has no write-ahead log, or is in memory.

        Args:
            path: The path of the copy, which must not exist.

        Raises:
            ConfigurationError: The path exists, or its directory does not; or the
                database is a server's, which has backup tools of its own.
            StoreUnavailableError: The copy failed; no file remains.
        """
        self._call(self._store.backup, path)

    def purge_expired(self, *, namespace: str | EllipsisType | None = ...) -> int:
        """Remove the expired rows of one namespace, or of all; their space is reused.

        Expired keys are unseen with or without a purge. A purge is divided into bounded
        transactions, between which other calls run.

        Returns:
            The number of removed rows.

        Raises:
            StoreUnavailableError: The store failed; the rows of earlier transactions
                stay removed.
            OutcomeUnknownError: The commit of one of the transactions failed.
        """
        return self._call(self._store.purge_expired, namespace=namespace)

    def cleanup_old_entries(
        self, days_old: float = 30, *, namespace: str | EllipsisType | None = ...
    ) -> int:
        """Remove the rows last marked over ``days_old`` days ago, whatever their TTL.

        Live leases and held keys are kept. If the store fails, or the outcome is
        unknown, the result is 0 and an error is logged, as in the old synchronous
        store, unless ``on_error="raise"``; rows may be removed nevertheless. A cleanup
        is divided into bounded transactions, between which other calls run.

        Returns:
            The number of removed rows.

        Raises:
            StoreUnavailableError: The store failed, and ``on_error`` is ``"raise"``.
            OutcomeUnknownError: The commit of one of the transactions failed, and
                ``on_error`` is ``"raise"``.
        """
        return self._call(
            self._store.cleanup_old_entries, days_old, namespace=namespace
        )

    def _call(
        self, verb: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self._tracked_call():
            return self._thread.call(partial(verb, *args, **kwargs))

    def _ask(
        self,
        verb: Callable[Concatenate[AsyncSeenStore, P], Unawaited[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a verb in this thread if the cache has the answer."""
        known = self._answers(verb(self._cached, *args, **kwargs))
        return known[0] if known else self._call(verb, self._store, *args, **kwargs)

    def _answers(self, call: Coroutine[object, object, T]) -> list[T]:
        """Run the call of a verb on ``_cached``; a list with its result, if that knows.

        A closed store knows nothing; ``_call`` has the error.
        """
        with suppress(NotCachedError):
            if self._calls.is_closed or not self._owner.is_current:
                call.close()
                return []
            try:
                call.send(None)
            except StopIteration as done:
                return [cast("T", done.value)]
            call.close()
        return []

    def _call_for_claims(
        self, acquire: Callable[[], Awaitable[list[Claim]]]
    ) -> list[Claim]:
        with self._tracked_call():
            return self._thread.call(acquire, compensate=self._store.release_many)

    @contextmanager
    def _tracked_call(self) -> Iterator[None]:
        """Count the call inside, so that a close waits for it.

        Raises:
            StoreClosedError: The store is closed, or belongs to the parent of a fork.
        """
        self._owner.check(self)
        with self._calls.track(self):
            yield


class _Calls:
    """The calls under way, which a close waits for; shared by the views of a store.

    Its locks are locks of C, for the reason that ``_portal`` has.

    Attributes:
        is_closed: Whether further calls are refused.
    """

    def __init__(self) -> None:
        self.is_closed: bool = False
        self._lock = threading.RLock()  # a signal handler may call the store
        self._active = 0
        self._busy = threading.Lock()  # released when the last call ends after a close
        self._busy.acquire()

    @contextmanager
    def track(self, store: SeenStore) -> Iterator[None]:
        """Count the call inside.

        Raises:
            StoreClosedError: The store is closed.
        """
        with self._lock:
            if self.is_closed:
                raise StoreClosedError(f"{store!r} is closed: make a new store")
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1
                self._release_if_idle()

    def close(self, timeout: float) -> None:
        """Refuse further calls, and wait for those under way."""
        with self._lock:
            self.is_closed = True
            self._release_if_idle()
        if self._busy.acquire(timeout=timeout):
            self._busy.release()  # for other threads that close as well

    def _release_if_idle(self) -> None:
        if self.is_closed and not self._active and self._busy.locked():
            self._busy.release()


def _with_cache_only(store: AsyncSeenStore) -> AsyncSeenStore:
    """Return a view of a store that runs in any thread, and has its cache only."""
    view = copy(store)
    view._parent = store
    view._dispatcher = cast("Dispatcher", CachedAnswers(store._dispatcher))
    return view


explain_calls(SeenStore)


def should_filter(key: str, store: SeenStore | None = None) -> bool:
    """Check whether an item was seen, and mark it as seen; true if it was.

    This is the helper of the old store. It marks an item before the item is handled, so
    that an item whose handling fails is lost. ``check_and_mark`` returns a verdict in
    place of a bool; a claim marks an item after it was handled.

    Args:
        key: The item's identity.
        store: The store; by default the one in the environment variables, opened and
            closed for this call.

    Returns:
        False whenever ``FEATURE_PERSIST_SEEN`` is off (``0``, ``false``, ``no``,
        ``off``); then no store is opened, read or written.

    Raises:
        ConfigurationError: ``FEATURE_PERSIST_SEEN`` is neither on nor off.
        InvalidKeyError: The key is invalid.
        SchemaError: The database in the environment variables is not a store.
        StoreError: The store failed.
        StoreClosedError: The given store is closed.
        TypeError: The key is not a ``str``.
    """
    if not env_flag("FEATURE_PERSIST_SEEN", default=True):
        return False
    if store is not None:
        return not store.check_and_mark(key)
    with SeenStore() as own:
        return not own.check_and_mark(key)


def _materialized(items: Iterable[T]) -> Iterable[T]:
    """Exhaust an iterable: the code of a generator must run in the caller's thread."""
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        # The asynchronous store rejects it.
        return cast("Iterable[T]", items)
    return list(items)
