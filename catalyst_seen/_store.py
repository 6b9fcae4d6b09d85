"""``AsyncSeenStore``: the verbs of the store, for asyncio programs."""

from __future__ import annotations

import inspect
import secrets
import warnings
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar, Unpack, cast, overload

from ._calls import explained
from ._claims.claim import (
    Claim,
    UnawaitedClaim,
    UnawaitedClaims,
    acquire_claim,
    acquire_claims,
    confirm_all,
    release_all,
)
from ._config import SeenStoreConfig, default_ttl
from ._drop_in import cache_stats, one_target
from ._engine.dispatcher import Dispatcher
from ._engine.lifecycle import Lifecycle
from ._engine.maintenance import Maintenance
from ._engine.sampling import Sampling
from ._errors import ConfigurationError, StoreClosedError, StoreError
from ._items import check_key_function, listed, notes
from ._logging import log
from ._misuse import misused
from ._namespaces import NamespaceVerbs
from ._observing import ObservingVerbs
from ._targets import address_settings, is_url
from ._types import ON_ABANDONED, Once, Record, Sighting
from ._unawaited import Unawaited, verb
from ._validation import (
    Duration,
    check_choice,
    check_flag,
    check_key,
    check_keys,
    check_namespace,
    check_note,
    seconds,
    seconds_or_never,
    timestamp,
    truncated_repr,
    ttl_seconds,
)
from .backends._registry import make_backend
from .backends._urls import bad_url
from .backends.base import Backend
from .backends.operations import (
    Acquire,
    CheckAndMark,
    ForEach,
    Forget,
    Get,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Resolve,
)

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from types import EllipsisType, TracebackType

    from ._config import Clock, OnError
    from ._items import Note
    from ._listings import FeedRules, First
    from ._types import OnAbandoned

T = TypeVar("T")

LEASE = 60.0
"""The default length of a lease, in seconds."""

_TOKENS, _TOKEN = 256, 16  # tokens per draw; characters per token: 96 random bits
_CHUNK = 1_000  # items that are processed before other tasks run


class ClaimOptions(TypedDict, total=False):
    """The options of ``claim`` that ``once`` passes on."""

    lease: Duration | EllipsisType
    ttl: Duration | EllipsisType | None
    wait: Duration
    keep_alive: bool
    on_abandoned: OnAbandoned | EllipsisType
    note: str | None
    namespace: str | EllipsisType


_BLOCKING = (
    "AsyncSeenStore needs `async with AsyncSeenStore(...) as store`; its blocking twin"
    " is `with SeenStore(...) as store`"
)


@misused(enter=_BLOCKING, exit=_BLOCKING)
class AsyncSeenStore(NamespaceVerbs, ObservingVerbs):
    """Remembers which items have been handled, for asyncio programs.

    ::

        async with AsyncSeenStore("seen.db", ttl="7d") as store:
            if await store.check_and_mark(item.id, namespace=feed):
                await send(item)

    Any number of tasks may use one store, in the event loop and process that opened it;
    any number of stores and processes may share a database. Constructing does no I/O.

    A store that fails raises ``StoreUnavailableError`` if nothing was done,
    ``OutcomeUnknownError`` if that is unknown, both a ``StoreError``; it never guesses
    "seen" or "new" (``is_seen`` and ``cleanup_old_entries`` have inherited exceptions
    to this rule). A call that is cancelled may or may not take effect, and affects no
    other call.

    "One transaction" refers to SQLite and PostgreSQL. On Redis each key of a call is
    processed on its own; if some keys fail, the call raises ``OutcomeUnknownError``.

    Every verb raises ``TypeError`` or ``ValueError`` for an invalid argument before any
    I/O (for a key or a namespace ``InvalidKeyError``, a ``ValueError``), and
    ``StoreClosedError`` if the store is not open.
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
        """Choose the database, without opening it.

        Args:
            target: A path, a URL (``sqlite:///seen.db``, ``valkey://host``,
                ``postgresql://host/db``), a configuration, a backend with a connected
                client (``catalyst_seen.backends.redis``, ``.postgres``), or ``None``
                for the configuration in the environment variables.
            ttl: The time to live of a mark: seconds, a ``timedelta``, or a text such as
                ``"7d"``; ``None`` is for ever. This and the following settings override
                those of the configuration.
            purge_interval: As in ``SeenStoreConfig``.
            on_error: As in ``SeenStoreConfig``.
            on_abandoned: As in ``SeenStoreConfig``.
            clock: As in ``SeenStoreConfig``.
            create: As in ``SeenStoreConfig``.
            config: The target, by its name in the old synchronous store.

        Raises:
            ConfigurationError: The URL or an environment variable is invalid, or the
                driver of the database is not installed.
            TypeError: A setting has the wrong type.
            ValueError: A setting is out of its range.
        """
        target = one_target(target, config)
        settings = _configuration(target)
        given = {
            "purge_interval": purge_interval,
            "on_error": on_error,
            "on_abandoned": on_abandoned,
            "clock": clock,
            "create": create,
        }
        changes = {name: value for name, value in given.items() if value is not ...}
        self._config = replace(settings, **changes)  # type: ignore[arg-type]
        self._ttl = default_ttl(ttl, settings)
        if not isinstance(target, Backend):
            target = make_backend(self._config, self._ttl)
        elif clock is not ...:
            raise ConfigurationError(
                "clock",
                f"has no effect beside {target!r}, which has its own: give it to the"
                " backend, as in MemoryBackend(SeenStoreConfig(clock=...))",
            )
        tuning = self._config.tuning
        self._lifecycle = Lifecycle(target, tuning.close_timeout)
        self._dispatcher = Dispatcher(self._lifecycle, self._config)
        self._maintenance = Maintenance(self._lifecycle, self._dispatcher.cache, tuning)
        sample_interval = self._config.sample_interval
        self._sampling = Sampling(
            self._lifecycle, seconds_or_never(sample_interval, "sample_interval")
        )
        self._tokens: list[str] = []
        self._lease = LEASE
        self._rules = self._config.feeds
        self._parent: Self | None = None
        self._name: str | None = None

    def __repr__(self) -> str:
        where = "" if self._name is None else f", namespace {self._name!r}"
        return f"<{type(self).__name__} {self._lifecycle}{where}>"

    @property
    def location(self) -> str:
        """The address of the database: an absolute path, ``:memory:`` or a URL.

        It never contains a password.
        """
        return self._lifecycle.backend.location

    @property
    def cfg(self) -> SeenStoreConfig:
        """The configuration, by its name in the old synchronous store.

        A ``ttl`` that was passed to the store does not change its ``ttl_days``.
        """
        return self._config

    def get_cache_stats(self) -> dict[str, float]:
        """Return the statistics of the cache of seen keys, as the old store did.

        ``enabled``, ``size``, ``max_size``, ``hits``, ``misses``, ``hit_rate_percent``;
        ``stats`` has more. It does no I/O.
        """
        return cache_stats(self._dispatcher)

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
                >= 5: await claim.hold(error)``.
            feeds: The rules for its listings; by default those of the configuration.

        Raises:
            InvalidKeyError: The name is invalid.
            TypeError: This is a view itself.
        """
        self._refuse_view("has no views of its own: call namespace() on the store")
        view = copy(self)
        view._parent = self
        view._name = check_namespace(name)
        view._ttl = ttl_seconds(ttl, self._ttl)
        view._lease = self._length(lease)
        given = {"first": first, "changes": changes, "max_attempts": max_attempts}
        changed = {rule: value for rule, value in given.items() if value is not ...}
        rules = self._rules if feeds is ... else feeds
        view._rules = replace(rules, **changed)  # type: ignore[arg-type]
        return view

    @verb
    async def open(self) -> None:
        """Open the store; the same as entering ``async with``.

        Creates the database, or upgrades one that the old synchronous store wrote, and
        starts the background purge without waiting for it. An open that fails or is
        cancelled releases everything that it acquired, and may be retried.

        Raises:
            ConfigurationError: The settings of the server would break a promise of the
                store: Redis evicts keys.
            SchemaError: The database has a newer schema or is not a store; it is left
                unchanged.
            StoreUnavailableError: The database cannot be opened, or a move to it has
                not ended.
            StoreClosedError: The store is open already, or was closed.
        """
        self._refuse_view("is open as long as its store: open that")
        await self._lifecycle.open()
        interval = seconds_or_never(self._config.purge_interval, "purge_interval")
        self._maintenance.start(interval)
        self._sampling.start()

    @verb
    async def aclose(self) -> None:
        """Close the store; the same as leaving ``async with``.

        Earlier calls complete first, later calls raise ``StoreClosedError``. A close
        takes at most five seconds, even if the disk hangs. It is idempotent, also if
        many tasks close at once. In a forked child it has no effect.

        Blocks of claims that end while the store is closing still confirm or release;
        ``keep_alive`` ends with the store. A claim that is still open after the close
        stays in flight until its lease ends; callers that wait for a key get
        ``IN_FLIGHT``.
        """
        self._refuse_view("is open as long as its store: close that")
        with suppress(StoreClosedError):
            self._lifecycle.check_open()
            self._dispatcher.waiters.close()
        await self._lifecycle.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        lifecycle: Lifecycle | None = getattr(self, "_lifecycle", None)
        if lifecycle is None or getattr(self, "_parent", None) is not None:
            return
        leak = f"{self!r} was never closed: use `async with`, or await its aclose()"
        is_leaking = lifecycle.is_leaking
        lifecycle.abandon()
        if is_leaking:
            warnings.warn(leak, ResourceWarning, source=self, stacklevel=2)

    @verb
    async def is_seen(self, key: str, *, namespace: str | EllipsisType = ...) -> bool:
        """Return whether a key was marked and has not expired.

        If the store fails in any way (a ``StoreError``), the result is False and an
        error is logged, as in the old synchronous store, unless ``on_error="raise"``.

        Raises:
            StoreError: The store failed, and ``on_error`` is ``"raise"``.
        """
        question = IsSeen(self._own(namespace), check_key(key))
        try:
            return await self._dispatcher.query(question)
        except StoreError as exc:
            if self._config.on_error == "raise":
                raise
            log("error", "lookup_failed", location=exc.location, error=str(exc))
            return False

    @verb
    async def mark_seen(
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
        mark = Mark(
            self._own(namespace),
            check_key(key),
            ttl_seconds(ttl, self._ttl),
            self._instant(ts),
            check_note(note),
        )
        await self._dispatcher.execute(mark)

    @verb
    async def mark_many(
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
        namespace, lasting = self._own(namespace), ttl_seconds(ttl, self._ttl)
        instant = self._instant(ts)
        await self._on_each(
            keys, lambda text: Mark(namespace, "", lasting, instant, text), note
        )

    @verb
    async def check_and_mark(
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
        check = CheckAndMark(
            self._own(namespace),
            check_key(key),
            ttl_seconds(ttl, self._ttl),
            check_note(note),
        )
        return await self._dispatcher.query(check)

    @verb
    async def check_and_mark_many(
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
        namespace, lasting = self._own(namespace), ttl_seconds(ttl, self._ttl)
        if note is None:
            each = ForEach.of(
                CheckAndMark(namespace, "", lasting), listed(keys, "keys")
            )
            known = await self._dispatcher.query_each(each)
            if known is not None:
                return known
            each.keys = await self._checked_keys(each.keys)
            return await self._dispatcher.execute_each(each)
        return await self._on_each(
            keys, lambda text: CheckAndMark(namespace, "", lasting, text), note
        )

    @verb
    async def refresh(
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
        refresh = Refresh(self._own(namespace), "", ttl_seconds(ttl, self._ttl))
        each = ForEach.of(refresh, await self._checked_keys(keys))
        return sum(await self._dispatcher.execute_each(each))

    @explained
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
    ) -> UnawaitedClaim:
        """Claim a key while its item is handled; true if the caller owns it.

        Either await the result, and confirm or release explicitly; or enter it with
        ``async with``, which confirms at the end of the block, and releases after an
        exception or a cancellation.

        Of any number of tasks, threads and processes, exactly one owns a key at a time.
        An owner that does not end its claim loses it when the lease ends. If the call
        is cancelled, the claim is released. A completed claim whose result is discarded
        is not, for example when a sibling in ``asyncio.gather`` fails: use
        ``claim_many`` to claim many keys.

        Args:
            key: The item's identity.
            lease: The length of the lease, such as ``60`` or ``"1m"``: longer than
                handling an item ever takes. The default is that of the view, or 60
                seconds.
            ttl: The TTL of the mark that ``confirm`` makes, as in ``mark_seen``; also
                the time for which an abandoned claim is kept after its lease, unless
                the key is held. After that the key is new again.
            wait: The longest wait for the owner of a key that is in flight: until the
                owner confirms (``DUPLICATE``), or releases or loses the key, which is
                then claimed. A release by this store is noticed at once, one by another
                process within a second.
            keep_alive: Renew the lease at every third of its length while the block
                runs; a claim without a block is not renewed. If the lease is lost
                nevertheless, or is over because no renewal was acknowledged, the block
                is cancelled and raises ``LeaseLostError``.
            on_abandoned: As in ``SeenStoreConfig``, for this claim; the default is the
                store's. A key that was observed is not dropped: ``"drop"`` is
                ``"retry"`` for it.
            note: As in ``mark_seen``, if the claim is owned; ``claim.note`` has the
                note of the key.
            namespace: The namespace of the key.
            required: Raise before the block if the claim is false.

        Raises:
            ClaimNotOwnedError: The claim is false, and it is ``required``, or its block
                ended without having read its truth or verdict.
            StoreUnavailableError: The store failed; the key is not claimed.
            OutcomeUnknownError: The commit failed; the claim is released.
        """
        policy = self._policy(on_abandoned)
        operation = Acquire(
            token=self._token(),
            namespace=self._own(namespace),
            key=check_key(key),
            lease=self._length(lease),
            ttl=ttl_seconds(ttl, self._ttl),
            on_abandoned=policy,
            note=check_note(note),
        )
        waiting = seconds(wait, "wait", least=0)
        check_flag(keep_alive, "keep_alive")
        check_flag(required, "required")
        return UnawaitedClaim(
            acquire_claim(
                self._dispatcher,
                operation,
                waiting,
                keep_alive=keep_alive,
                is_required=required,
            )
        )

    @overload
    def once(
        self,
        key: str,
        function: Callable[[], Awaitable[T]],
        **claim: Unpack[ClaimOptions],
    ) -> Unawaited[Once[T]]: ...

    @overload
    def once(
        self, key: str, function: Callable[[], T], **claim: Unpack[ClaimOptions]
    ) -> Unawaited[Once[T]]: ...

    @verb
    async def once(
        self,
        key: str,
        function: Callable[[], object],
        **claim: Unpack[ClaimOptions],
    ) -> Once[object]:
        """Call a function if the key can be claimed; true if it was called.

        ::

            await store.once(item.id, partial(send, item), namespace=feed)

        The key is claimed, the function is called in the caller's task, and awaited if
        it returns an awaitable. Then the claim is confirmed: the key is seen. If the
        function raises or is cancelled, the claim is released and the exception
        propagates: the item can be handled again.

        Args:
            key: The item's identity.
            function: A function without arguments; ``functools.partial`` binds them.
            **claim: The arguments of ``claim``, but ``required``.

        Returns:
            The verdict on the key, and the result of the function.

        Raises:
            LeaseLostError: The lease ended before the function did, and another caller
                has claimed the key; or, with ``keep_alive``, it was lost meanwhile.
            StoreUnavailableError: The store failed; if the function was called, its
                item may be handled again.
            OutcomeUnknownError: The commit failed.
        """
        check_function(function)
        async with self.claim(key, **claim) as owned:
            if not owned:
                return Once(owned.verdict, None, owned.attempt, owned.retry_after)
            result = function()
            if inspect.isawaitable(result):
                result = await result
        return Once(owned.verdict, result, owned.attempt)

    @explained
    def claim_many(
        self,
        keys: Iterable[str],
        *,
        lease: Duration | EllipsisType = ...,
        ttl: Duration | EllipsisType | None = ...,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        note: Note = None,
        namespace: str | EllipsisType = ...,
    ) -> UnawaitedClaims:
        """Claim many keys in one transaction: all claimable keys, or none.

        ::

            async with store.claim_many(keys) as claims:
                for claim in claims:
                    async with claim:
                        await send(claim.key)

        As a block it yields the owned claims; the end of the block releases those that
        were neither confirmed nor released. All leases begin now: a lease must last
        until the last item is handled, unless its claim is renewed. ``note`` is as in
        ``mark_many``, for the owned claims.

        Returns:
            When awaited: a claim per key, in order; a claim that is true is owned. If a
            claimable key occurs twice, its first claim is owned, the second
            ``IN_FLIGHT``.

        Raises:
            StoreUnavailableError: The store failed; no key is claimed.
            OutcomeUnknownError: The commit failed; the claims are released.
        """
        acquire = Acquire(
            self._own(namespace),
            "",
            "",
            self._length(lease),
            ttl_seconds(ttl, self._ttl),
            self._policy(on_abandoned),
            None if callable(note) else check_note(note),
        )
        note_of = notes(note) if callable(note) else None
        return UnawaitedClaims(self._claim_all(keys, acquire, note_of))

    async def _claim_all(
        self,
        keys: Iterable[str],
        acquire: Acquire,
        note_of: Callable[[str], str | None] | None,
    ) -> list[Claim]:
        names = await self._checked_keys(keys)
        each = ForEach.of(acquire, names, [self._token() for _ in names])
        return await acquire_claims(self._dispatcher, each, note_of)

    @verb
    async def confirm_many(
        self, claims: Iterable[Claim], *, ttl: Duration | EllipsisType | None = ...
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
        confirmed = await confirm_all(self._dispatcher, claims, ttl)
        lost = confirmed.count(False)
        self._dispatcher.counters.leases_lost += lost
        if lost:
            log(
                "warning",
                "claims_lost",
                location=self.location,
                lost=lost,
                confirmed=len(confirmed) - lost,
            )
        return confirmed

    @verb
    async def release_many(
        self, claims: Iterable[Claim], *, delay: Duration = 0
    ) -> list[bool]:
        """Release claims, as ``Claim.release`` does, in one transaction.

        Returns:
            For each claim, in order, whether it was released; false if it was no longer
            owned.

        Raises:
            StoreUnavailableError: The store failed; the leases continue.
            OutcomeUnknownError: The commit failed; the claims may be released.
        """
        return await release_all(self._dispatcher, claims, delay)

    @verb
    async def resolve(
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
        check_flag(handled, "handled")
        resolve = Resolve(
            self._own(namespace),
            check_key(key, may_end_in_break=True),
            handled,
            ttl_seconds(ttl, self._ttl),
        )
        return await self._dispatcher.execute(resolve)

    @overload
    def filter_new(
        self, items: Iterable[str], *, namespace: str | EllipsisType = ...
    ) -> Unawaited[list[str]]: ...

    @overload
    def filter_new(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str],
        namespace: str | EllipsisType = ...,
    ) -> Unawaited[list[T]]: ...

    @verb
    async def filter_new(
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
        namespace = self._own(namespace)
        all_items, question = listed(items, "items"), IsSeen(namespace, "")
        asked = ForEach.of(question, cast("list[str]", all_items))
        if key is None and await self._dispatcher.are_seen(asked):
            return []
        first: dict[str, T] = {}
        async for start, chunk in self._chunks(all_items):
            names = cast("list[str]", chunk) if key is None else list(map(key, chunk))
            names = list(check_keys(names, "key of items", start))
            if key is None:  # equal items are the same
                first.update(zip(names, chunk, strict=True))
                continue
            for name, item in zip(names, chunk, strict=True):
                first.setdefault(name, item)
        self._dispatcher.check_open()
        fresh: list[T] = []
        async for _, names in self._chunks([*first]):
            is_asked = key is None and names == asked.keys
            each = asked if is_asked else ForEach.of(question, names)
            if is_asked or not await self._dispatcher.are_seen(each):
                answers = await self._dispatcher.execute_each(each)
                pairs = zip(names, answers, strict=True)
                fresh += [first[name] for name, is_seen in pairs if not is_seen]
        return fresh

    @verb
    async def forget(self, key: str, *, namespace: str | EllipsisType = ...) -> bool:
        """Make a key unseen; true if it was seen or claimed. A claim on it is lost.

        Raises:
            StoreUnavailableError: The store failed; the key is not changed.
            OutcomeUnknownError: The commit failed; the key may be forgotten.
        """
        return await self._dispatcher.execute(
            Forget(self._own(namespace), check_key(key, may_end_in_break=True))
        )

    @verb
    async def forget_many(
        self, keys: Iterable[str], *, namespace: str | EllipsisType = ...
    ) -> int:
        """Make many keys unseen, as ``forget`` does, in one transaction.

        Returns:
            How many of them were seen or claimed.

        Raises:
            StoreUnavailableError: The store failed; no key is changed.
            OutcomeUnknownError: The commit failed; the keys may be forgotten.
        """
        forget = Forget(self._own(namespace), "")
        each = ForEach.of(forget, await self._checked_keys(keys, may_end_in_break=True))
        return sum(await self._dispatcher.execute_each(each))

    @verb
    async def get(
        self, key: str, *, namespace: str | EllipsisType = ...
    ) -> Record | None:
        """Return the record of a key in any state; ``None`` if it is unseen.

        ``record.state`` tells whether the key is seen, claimed, released or held.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return await self._dispatcher.execute(Get(self._own(namespace), check_key(key)))

    async def _on_each(
        self,
        keys: Iterable[str],
        operation: Callable[[str | None], Operation[T]],
        note: Note,
    ) -> list[T]:
        """Execute an operation on each key, with its note."""
        if not callable(note):
            made = operation(check_note(note))
            each = ForEach.of(made, await self._checked_keys(keys))
            return await self._dispatcher.execute_each(each)
        note_of = notes(note)
        operations = []
        for key in await self._checked_keys(keys):
            operations.append(operation(note_of(key)))
            operations[-1].key = key
        return await self._dispatcher.execute_many(operations)

    async def _checked_keys(
        self, keys: Iterable[str], *, may_end_in_break: bool = False
    ) -> list[str]:
        """Validate keys; other tasks run between."""
        check = partial(check_keys, may_end_in_break=may_end_in_break)
        keys = listed(keys, "keys")
        if len(keys) <= _CHUNK:
            return [*check(keys, "keys", 0)]
        checked: list[str] = []
        async for first, chunk in self._chunks(keys):
            checked += check(chunk, "keys", first)
        return checked

    async def _chunks(self, items: list[T]) -> AsyncIterator[tuple[int, list[T]]]:
        """Yield chunks of items, with the index of the first; others run between."""
        for first in range(0, len(items), _CHUNK):
            if first:
                await self._dispatcher.give_turn()
            yield first, items[first : first + _CHUNK]

    def _refuse_view(self, problem: str) -> None:
        if self._parent is not None:
            raise TypeError(f"{self!r} is a view, and {problem}")

    def _length(self, lease: Duration | EllipsisType) -> float:
        return self._lease if lease is ... else seconds(lease, "lease")

    def _token(self) -> str:
        """Return a random token from a pool, because a system call for each is slow.

        The pool belongs to this store, so that no forked process repeats its tokens.
        Any thread may call this.
        """
        try:
            return self._tokens.pop()
        except IndexError:
            drawn = secrets.token_urlsafe(_TOKENS * _TOKEN * 6 // 8)
            starts = range(_TOKEN, len(drawn), _TOKEN)
            self._tokens.extend(drawn[start : start + _TOKEN] for start in starts)
            return drawn[:_TOKEN]

    def _instant(self, ts: float | None) -> float | None:
        return None if ts is None else timestamp(ts, self._lifecycle.backend.now)

    def _policy(self, on_abandoned: OnAbandoned | EllipsisType) -> OnAbandoned:
        if on_abandoned is ...:
            return self._config.on_abandoned
        check_choice(on_abandoned, ON_ABANDONED, "on_abandoned")
        return on_abandoned


def _configuration(
    target: str | os.PathLike[str] | SeenStoreConfig | Backend | None,
) -> SeenStoreConfig:
    if target is None:
        return SeenStoreConfig.from_env()
    if isinstance(target, SeenStoreConfig):
        return target
    if isinstance(target, Backend):
        return target.config
    if isinstance(target, str) and is_url(target):
        try:
            given = address_settings(target)
        except ValueError as exc:
            raise bad_url(target, str(exc)) from exc
        return SeenStoreConfig(**given)  # type: ignore[arg-type]
    return SeenStoreConfig(path=target)


def check_function(function: Callable[[], object]) -> None:
    """Raise ``TypeError`` unless ``once`` can call it; a coroutine is discarded."""
    if callable(function):
        return
    if inspect.iscoroutine(function):
        function.close()
    raise TypeError(
        f"function must be a function, not {truncated_repr(function)}: bind its"
        " arguments with functools.partial(send, item), instead of calling it"
    )
