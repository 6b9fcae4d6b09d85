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
    copy_docstrings,
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
            StoreUnavailableError: The database cannot be opened.
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
        return self._store.location

    @property
    def cfg(self) -> SeenStoreConfig:
        return self._store.cfg

    def get_cache_stats(self) -> dict[str, float]:
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
                return Once(owned.verdict, None)
            result = function()
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError(
                    f"function must not return a coroutine, as {function!r} does: take"
                    " AsyncSeenStore, whose once awaits it"
                )
        return Once(owned.verdict, result)

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
        return self._call(self._store.confirm_many, unwrapped(claims), ttl=ttl)

    def release_many(
        self, claims: Iterable[BlockingClaim], *, delay: Duration = 0
    ) -> list[bool]:
        return self._call(self._store.release_many, unwrapped(claims), delay=delay)

    def held(self, *, namespace: str | EllipsisType | None = ...) -> list[Record]:
        return self._call(self._store.held, namespace=namespace)

    def resolve(
        self,
        key: str,
        *,
        handled: bool,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str | EllipsisType = ...,
    ) -> bool:
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
        self._call(self._store.failed, error, state=state, namespace=namespace)

    def source(self, *, namespace: str | EllipsisType = ...) -> Source | None:
        return self._call(self._store.source, namespace=namespace)

    def sources(self) -> list[Source]:
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
        return self._call(self._store.forget, key, namespace=namespace)

    def forget_many(
        self, keys: Iterable[str], *, namespace: str | EllipsisType = ...
    ) -> int:
        return self._call(
            self._store.forget_many, _materialized(keys), namespace=namespace
        )

    def get(self, key: str, *, namespace: str | EllipsisType = ...) -> Record | None:
        return self._call(self._store.get, key, namespace=namespace)

    def count(self, *, namespace: str | EllipsisType | None = ...) -> int:
        return self._call(self._store.count, namespace=namespace)

    def has_any(self, *, namespace: str | EllipsisType | None = ...) -> bool:
        return self._call(self._store.has_any, namespace=namespace)

    def namespaces(self) -> list[str]:
        return self._call(self._store.namespaces)

    def records(
        self,
        *,
        state: RecordState | None = None,
        namespace: str | EllipsisType | None = ...,
        prefix: str = "",
        since: float | None = None,
    ) -> Iterator[Record]:
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
        return self._call(self._store.clear, namespace=namespace)

    def rename(self, new_name: str, *, namespace: str | EllipsisType = ...) -> None:
        self._call(self._store.rename, new_name, namespace=namespace)

    def stats(self, *, namespace: str | EllipsisType | None = ...) -> StoreStats:
        return self._call(self._store.stats, namespace=namespace)

    def metrics(self) -> StoreMetrics:
        return self._store.metrics()

    def probe(self) -> None:
        self._call(self._store.probe)

    def check(self, *, full: bool = False) -> CheckReport:
        return self._call(self._store.check, full=full)

    def backup(self, path: str | os.PathLike[str]) -> None:
        self._call(self._store.backup, path)

    def purge_expired(self, *, namespace: str | EllipsisType | None = ...) -> int:
        return self._call(self._store.purge_expired, namespace=namespace)

    def cleanup_old_entries(
        self, days_old: float = 30, *, namespace: str | EllipsisType | None = ...
    ) -> int:
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
copy_docstrings(SeenStore, AsyncSeenStore)


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
