"""AsyncSeenStore: the verbs, as asyncio programs use them."""

from __future__ import annotations

import asyncio
import os
import secrets
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar, cast, overload

from ._claims.claim import Claim, PendingClaim, confirm_all, release_all
from ._claims.lease import acquire, acquire_many
from ._config import SeenStoreConfig, check_path
from ._engine.dispatcher import Dispatcher
from ._engine.lifecycle import Lifecycle
from ._engine.maintenance import Maintenance
from ._errors import ConfigurationError, StoreClosedError, StoreUnavailableError
from ._logging import log
from ._types import ON_ABANDONED, CheckReport, Record, Sighting, StoreStats
from ._validation import (
    Duration,
    check_choice,
    check_flag,
    check_key,
    check_keys,
    check_namespace,
    days,
    seconds,
    seconds_or_never,
    timestamp,
    truncated_repr,
)
from .backends._registry import is_url, make_backend
from .backends.base import Backend, SupportsBackup, SupportsInspection
from .backends.operations import Acquire, CheckAndMark, Forget, Get, Mark, Resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import EllipsisType, TracebackType

    from ._config import Clock, OnError
    from ._types import OnAbandoned

T = TypeVar("T")

LEASE = 60.0
"""Seconds that a claim lasts by default."""

_TOKENS, _TOKEN = 256, 16  # drawn at once; characters in one: 96 random bits
_CHUNK = 1_000  # items that are worked on without letting others have a turn


class AsyncSeenStore:
    """Remembers which items have been handled, for asyncio programs.

    ::

        async with AsyncSeenStore("seen.db", ttl=timedelta(days=7)) as store:
            if await store.check_and_mark(item.id, namespace=feed):
                await send(item)

    Any number of tasks may use one store, in the event loop and process that opened it;
    any number of stores and processes may share a database. Constructing does no I/O.

    A store that fails raises ``StoreUnavailableError``; it never answers "seen" or
    "new" on a guess. A call that is cancelled may or may not take effect, and disturbs
    nothing else.

    What is said of one transaction holds for SQLite and PostgreSQL. On Redis each key
    of a call is done for itself; if some fail, that is an ``OutcomeUnknownError``.

    Every verb raises ``TypeError`` or ``ValueError`` for a bad argument before any I/O
    (for a key or a namespace ``InvalidKeyError``, a ``ValueError``), and
    ``StoreClosedError`` where the store is not open.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | SeenStoreConfig | Backend | None = None,
        *,
        ttl: Duration | EllipsisType | None = ...,
        purge_interval: Duration | EllipsisType | None = ...,
        on_error: OnError | EllipsisType = ...,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        clock: Clock | EllipsisType = ...,
    ) -> None:
        """Choose the database; nothing is opened yet.

        Args:
            target: A path, a URL (``sqlite:///seen.db``, ``valkey://host``,
                ``postgresql://host/db``), a configuration, a backend that has a client
                of yours (``catalyst_seen.backends.redis``, ``.postgres``), or ``None``
                for what the environment describes.
            ttl: How long a mark counts, in seconds or as a ``timedelta``; ``None`` is
                for ever. This and the following settings go before the configuration's.
            purge_interval: As in ``SeenStoreConfig``.
            on_error: As in ``SeenStoreConfig``.
            on_abandoned: As in ``SeenStoreConfig``.
            clock: As in ``SeenStoreConfig``.

        Raises:
            ConfigurationError: The URL or an environment variable is wrong, or the
                driver that it needs is not installed.
            TypeError: A setting has the wrong type.
            ValueError: A setting is out of its range.
        """
        config = _configuration(target)
        given = {
            "purge_interval": purge_interval,
            "on_error": on_error,
            "on_abandoned": on_abandoned,
            "clock": clock,
        }
        changes = {name: value for name, value in given.items() if value is not ...}
        self._config = replace(config, **changes)  # type: ignore[arg-type]
        self._ttl = config.ttl if ttl is ... else seconds_or_never(ttl, "ttl")
        if not isinstance(target, Backend):
            target = make_backend(self._config, self._ttl)
        tuning = self._config.tuning
        self._lifecycle = Lifecycle(target, tuning.close_timeout)
        self._dispatcher = Dispatcher(self._lifecycle, self._config)
        self._maintenance = Maintenance(self._lifecycle, self._dispatcher.cache, tuning)
        self._tokens: list[str] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._lifecycle}>"

    @property
    def location(self) -> str:
        """Where the keys are: an absolute path, ``:memory:``, or a server's URL.

        It never holds a password.
        """
        return self._lifecycle.backend.location

    async def open(self) -> None:
        """Open the store; the same as entering ``async with``.

        Creates the database, or upgrades one that the old synchronous store wrote, and
        starts the background purge without waiting for it. An open that fails or is
        cancelled leaves nothing behind and may be tried again.

        Raises:
            ConfigurationError: A server's settings would break promises: Redis evicts
                keys.
            SchemaError: It has a newer schema or is not a store; it is untouched.
            StoreUnavailableError: It cannot be opened.
            StoreClosedError: The store is open already, or was closed.
        """
        await self._lifecycle.open()
        interval = seconds_or_never(self._config.purge_interval, "purge_interval")
        self._maintenance.start(interval)

    async def aclose(self) -> None:
        """Close the store; the same as leaving ``async with``.

        Calls made before finish first, later ones raise ``StoreClosedError``. It takes
        at most five seconds, even if the disk hangs. Closing again, or from many tasks
        at once, is closing once. In a forked child it does nothing.

        Blocks of claims that end while the store is closing still confirm or release;
        ``keep_alive`` ends with the store. What is claimed and not ended by then stays
        so until its lease ends; who waits for a key is told that it is ``IN_FLIGHT``.
        """
        with suppress(StoreClosedError):
            self._lifecycle.check_open()
            self._dispatcher.waiters.close()
        await self._lifecycle.aclose()

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
        if lifecycle is None:
            return
        leak = f"{self!r} was never closed: use `async with`, or await its aclose()"
        is_leaking = lifecycle.is_leaking
        lifecycle.abandon()
        if is_leaking:
            warnings.warn(leak, ResourceWarning, source=self, stacklevel=2)

    async def is_seen(self, key: str, *, namespace: str = "") -> bool:
        """Tell whether a key was marked and has not expired.

        If the store fails the answer is False and an error is logged, as the old store
        promised, unless ``on_error="raise"``.

        Raises:
            StoreUnavailableError: The store failed, and ``on_error`` is ``"raise"``.
        """
        get = Get(check_namespace(namespace), check_key(key))
        try:
            record = await self._dispatcher.query(get)
        except StoreUnavailableError as exc:
            if self._config.on_error == "raise":
                raise
            log("error", "lookup_failed", location=exc.location, error=str(exc))
            return False
        return record is not None

    async def mark_seen(
        self,
        key: str,
        ts: float | None = None,
        *,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str = "",
    ) -> None:
        """Mark a key as seen, whatever it was before; a claim on it is lost.

        The TTL counts from this mark. ``first_seen`` stays what it was, ``last_seen``
        moves; a mark from the past never takes a later one back.

        Args:
            key: The item's identity.
            ts: When it was seen, in seconds since 1970; now by default. A key whose
                TTL, counted from ``ts``, is over is marked and unseen.
            ttl: For this mark, in seconds or as a ``timedelta``; ``None`` is for ever,
                and by default the store's.
            namespace: Whose key it is.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: It failed while committing; the mark may be there.
        """
        mark = Mark(
            check_namespace(namespace), check_key(key), self._seconds(ttl), _instant(ts)
        )
        await self._dispatcher.execute(mark)

    async def mark_many(
        self,
        keys: Iterable[str],
        ts: float | None = None,
        *,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str = "",
    ) -> None:
        """Mark many keys as ``mark_seen`` does, in one transaction: all or nothing.

        Raises:
            StoreUnavailableError: The store failed; nothing is marked.
            OutcomeUnknownError: It failed while committing; all or none are marked.
        """
        namespace, lasting = check_namespace(namespace), self._seconds(ttl)
        instant = _instant(ts)
        mark = partial(Mark, namespace, ttl=lasting, ts=instant)
        await self._dispatcher.execute_many(await _for_each(keys, mark))

    async def check_and_mark(
        self,
        key: str,
        *,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str = "",
    ) -> Sighting:
        """Mark a key unless it is seen or claimed, and say which; true if it marked.

        Atomic: of any number of tasks, threads and processes that ask for one key,
        exactly one gets a true answer per TTL. Any other is left as it is and costs no
        write.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: It failed while committing; the mark may be there.
        """
        check = CheckAndMark(
            check_namespace(namespace), check_key(key), self._seconds(ttl)
        )
        return await self._dispatcher.query(check)

    async def check_and_mark_many(
        self,
        keys: Iterable[str],
        *,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str = "",
    ) -> list[Sighting]:
        """Do ``check_and_mark`` for many keys in one transaction: all or nothing.

        Returns:
            A sighting per key, in order. Of a key that comes twice, the first is new.

        Raises:
            StoreUnavailableError: The store failed; nothing is marked.
            OutcomeUnknownError: It failed while committing; all or none are marked.
        """
        namespace, lasting = check_namespace(namespace), self._seconds(ttl)
        check = partial(CheckAndMark, namespace, ttl=lasting)
        return await self._dispatcher.query_many(await _for_each(keys, check))

    def claim(
        self,
        key: str,
        *,
        lease: Duration = LEASE,
        ttl: Duration | EllipsisType | None = ...,
        wait: Duration = 0,
        keep_alive: bool = False,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        namespace: str = "",
    ) -> PendingClaim:
        """Claim a key while its item is handled; true when the caller owns it.

        Await it, and confirm or release by hand; or enter it with ``async with``, which
        confirms at the end of the block, or releases at an exception or cancellation.

        Of any number of tasks, threads and processes exactly one owns a key at a time.
        An owner that never comes back loses it when the lease ends. A claim that is
        cancelled before it is taken is given back; one that was taken, and whose result
        nobody reads, is not, as when a sibling fails in ``asyncio.gather``: claim many
        keys by ``claim_many``.

        Args:
            key: The item's identity.
            lease: How long the key is the caller's, in seconds or as a ``timedelta``:
                longer than handling an item ever takes.
            ttl: How long the mark counts that ``confirm`` makes, as in ``mark_seen``;
                and how long after its lease an abandoned claim is remembered, unless it
                is held. After that the key is new again.
            wait: How long to wait for the owner of a key that is in flight: until it
                confirms (``DUPLICATE``), or releases or loses it (then it is claimed).
                A release in this store is noticed at once, in another process within a
                second.
            keep_alive: Renew the lease at every third of it while the block runs; a
                claim without a block is not renewed. If it is lost all the same, the
                block is cancelled and ``LeaseLostError`` raised.
            on_abandoned: As in ``SeenStoreConfig``, for this claim; by default the
                store's.
            namespace: Whose key it is.

        Raises:
            StoreUnavailableError: The store failed; nothing is claimed.
            OutcomeUnknownError: It failed while committing; it is given back.
        """
        check_flag(keep_alive, "keep_alive")
        claim = Acquire(
            check_namespace(namespace),
            check_key(key),
            self._token(),
            seconds(lease, "lease"),
            self._seconds(ttl),
            self._policy(on_abandoned),
        )
        waiting = seconds(wait, "wait", least=0)
        return PendingClaim(self._claim(claim, waiting, keep_alive=keep_alive))

    async def _claim(self, claim: Acquire, wait: float, *, keep_alive: bool) -> Claim:
        state = await acquire(self._dispatcher, claim, wait)
        return Claim(self._dispatcher, claim, state, keep_alive=keep_alive)

    async def claim_many(
        self,
        keys: Iterable[str],
        *,
        lease: Duration = LEASE,
        ttl: Duration | EllipsisType | None = ...,
        on_abandoned: OnAbandoned | EllipsisType = ...,
        namespace: str = "",
    ) -> list[Claim]:
        """Claim many keys in one transaction: all that are free, or none.

        The lease begins for all of them now: it must last until the last one is
        handled, unless that one is renewed.

        Returns:
            A claim per key, in order; those that are true are owned. Of a key that
            comes twice, the second is ``IN_FLIGHT``.

        Raises:
            StoreUnavailableError: The store failed; nothing is claimed.
            OutcomeUnknownError: It failed while committing; they are given back.
        """
        namespace, lasting = check_namespace(namespace), self._seconds(ttl)
        leasing, policy = seconds(lease, "lease"), self._policy(on_abandoned)
        claims = await _for_each(
            keys,
            lambda key: Acquire(
                namespace,
                key,
                self._token(),
                leasing,
                lasting,
                policy,
            ),
        )
        states = await acquire_many(self._dispatcher, claims)
        return [
            Claim(self._dispatcher, claim, state, keep_alive=False)
            for claim, state in zip(claims, states, strict=True)
        ]

    async def confirm_many(
        self, claims: Iterable[Claim], *, ttl: Duration | EllipsisType | None = ...
    ) -> list[bool]:
        """Confirm claims, as ``Claim.confirm`` does, in one transaction.

        Any of the claims that this store made may be given, from any number of batches.

        Returns:
            For each claim, in order, whether it is confirmed; false is what
            ``Claim.confirm`` raises ``LeaseLostError`` for. Lost claims are also
            logged, in one warning.

        Raises:
            StoreUnavailableError: The store failed; none is confirmed.
            OutcomeUnknownError: It failed while committing; confirm again to learn.
        """
        confirmed = await confirm_all(self._dispatcher, claims, ttl)
        lost = confirmed.count(False)
        if lost:
            log(
                "warning",
                "claims_lost",
                location=self.location,
                lost=lost,
                confirmed=len(confirmed) - lost,
            )
        return confirmed

    async def release_many(
        self, claims: Iterable[Claim], *, delay: Duration = 0
    ) -> list[bool]:
        """Release claims, as ``Claim.release`` does, in one transaction.

        Returns:
            For each claim, in order, whether it was given back; false if it was not
            owned any more.

        Raises:
            StoreUnavailableError: The store failed; their leases run on.
            OutcomeUnknownError: It failed while committing.
        """
        return await release_all(self._dispatcher, claims, delay)

    async def held(self, *, namespace: str | None = None) -> list[Record]:
        """List the keys that are ``HELD``, of one namespace or of all, in their order.

        Returns:
            A record per key; ``last_seen`` is when it was last claimed.

        Raises:
            StoreUnavailableError: The store failed.
        """
        which = _one_or_all(namespace)
        inspection = self._inspection()
        return await self._lifecycle.read(lambda: inspection.held(which))

    async def resolve(
        self,
        key: str,
        *,
        handled: bool,
        ttl: Duration | EllipsisType | None = ...,
        namespace: str = "",
    ) -> bool:
        """Say of a key that is ``HELD`` whether its item was handled.

        If it was, the key is marked as seen; if not, the next caller may claim it.

        Returns:
            True if the key was held; else nothing was changed.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: It failed while committing.
        """
        check_flag(handled, "handled")
        resolve = Resolve(
            check_namespace(namespace), check_key(key), handled, self._seconds(ttl)
        )
        return await self._dispatcher.execute(resolve)

    @overload
    async def filter_new(
        self, items: Iterable[str], *, namespace: str = ""
    ) -> list[str]: ...

    @overload
    async def filter_new(
        self, items: Iterable[T], *, key: Callable[[T], str], namespace: str = ""
    ) -> list[T]: ...

    async def filter_new(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str] | None = None,
        namespace: str = "",
    ) -> list[T]:
        """Return the items that are not seen, in order; it only reads.

        Of items with the same key the first is kept. What is claimed or held is not
        seen yet. Others may mark or claim a key between this answer and what you do
        with it; ``check_and_mark_many`` and ``claim_many`` leave no such gap.

        Args:
            items: Any iterable of items.
            key: Gives the key of an item; by default the item is its key.
            namespace: Whose keys they are.

        Raises:
            StoreUnavailableError: The store failed.
        """
        namespace = check_namespace(namespace)
        first: dict[str, T] = {}
        async for start, chunk in _chunks(items, "items"):
            names = cast("list[str]", chunk) if key is None else list(map(key, chunk))
            check_keys(names, "key of items", start)
            for name, item in zip(names, chunk, strict=True):
                first.setdefault(name, item)
        self._lifecycle.check_open()
        fresh: list[T] = []
        async for _, names in _chunks(first, "items"):
            gets = [Get(namespace, name) for name in names]
            records = await self._dispatcher.query_many(gets)
            fresh += [
                first[name]
                for name, record in zip(names, records, strict=True)
                if record is None
            ]
        return fresh

    async def forget(self, key: str, *, namespace: str = "") -> bool:
        """Make a key unseen; true if it was seen or claimed. A claim on it is lost.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: It failed while committing.
        """
        return await self._dispatcher.execute(
            Forget(check_namespace(namespace), check_key(key))
        )

    async def get(self, key: str, *, namespace: str = "") -> Record | None:
        """Return what is stored of a seen key, ``None`` for any other.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return await self._dispatcher.execute(
            Get(check_namespace(namespace), check_key(key))
        )

    async def count(self, *, namespace: str | None = None) -> int:
        """Count the seen keys of one namespace, or of all; reads every row of them.

        Raises:
            StoreUnavailableError: The store failed.
        """
        which = _one_or_all(namespace)
        inspection = self._inspection()
        counts = await self._lifecycle.read(lambda: inspection.count(which))
        return sum(counts.values())

    async def stats(self, *, namespace: str | None = None) -> StoreStats:
        """Measure the store; keys are counted in one namespace, or in all.

        Raises:
            StoreUnavailableError: The store failed.
        """
        which = _one_or_all(namespace)
        inspection = self._inspection()
        measured = await self._lifecycle.read(lambda: inspection.stats(which))
        return StoreStats(
            keys=sum(measured.keys_by_namespace.values()),
            keys_by_namespace=measured.keys_by_namespace,
            claimed=measured.claimed,
            abandoned=measured.abandoned,
            file_bytes=measured.file_bytes,
            wal_bytes=measured.wal_bytes,
            free_pages=measured.free_pages,
            checkpoint_failures=measured.checkpoint_failures,
            wal_pinned=measured.wal_pinned,
            purge_runs=self._maintenance.runs,
            purge_rows=self._maintenance.rows,
            purge_failures=self._maintenance.failures,
            last_purge=self._maintenance.last,
            operations=dict(self._dispatcher.executor.executed),
            batches=self._dispatcher.batcher.batches,
            recent_keys=len(self._dispatcher.cache),
            recent_hits=self._dispatcher.cache.hits,
            engine=measured.engine,
            alarms=(*measured.alarms, *self._maintenance.alarms()),
        )

    async def check(self, *, full: bool = False) -> CheckReport:
        """Look whether the database is well, while other calls go on.

        On SQLite it reads the whole file to find damage in its structure; with ``full``
        it also compares every row with every index. It tells what is in force, and what
        somebody should do something about. On a server it looks at settings that would
        break promises.

        Returns:
            A report: true if there is no problem; as text, a line for each.

        Raises:
            SchemaError: It is no store any more.
            StoreUnavailableError: It is so far gone that it cannot be opened.
        """
        check_flag(full, "full")
        inspection = self._inspection()
        return await self._lifecycle.read(lambda: inspection.check(is_full=full))

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy SQLite's database, as it is at one moment, while other calls go on.

        The copy is a database of its own: open it as a store, or put it in the place of
        one that nobody has open. It appears under its name when it is complete and on
        the disk, readable by its owner only. Without a write-ahead log, and in memory,
        other calls wait meanwhile.

        Args:
            path: Where to; nothing may be there yet.

        Raises:
            ConfigurationError: Something is there, or its directory is missing; or it
                is a server, which has means of its own.
            StoreUnavailableError: It could not be copied; there is no copy.
        """
        check_path(path)
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsBackup):
            raise ConfigurationError(
                "backup",
                f"the database at {backend.location} copies itself: Redis by BGSAVE or"
                " its append-only files, PostgreSQL by pg_dump or pg_basebackup",
            )
        await self._lifecycle.read(partial(backend.backup, os.fspath(path)))

    async def purge_expired(self, *, namespace: str | None = None) -> int:
        """Remove expired rows, of one namespace or of all; their space is used again.

        Expired keys are unseen with or without it. It works in bounded transactions and
        lets other callers in between.

        Returns:
            How many rows were removed.

        Raises:
            StoreUnavailableError: The store failed; what was removed stays removed.
            OutcomeUnknownError: It failed while committing a step.
        """
        which = _one_or_all(namespace)
        return await self._maintenance.purge_expired(which)

    async def cleanup_old_entries(
        self, days_old: float = 30, *, namespace: str | None = None
    ) -> int:
        """Remove the rows last marked more than so many days ago, whatever their TTL.

        If the store fails the answer is 0 and an error is logged, as the old store
        promised, unless ``on_error="raise"``. It works in bounded transactions and lets
        other callers in between.

        Returns:
            How many rows were removed.

        Raises:
            StoreUnavailableError: The store failed, and ``on_error`` is ``"raise"``.
            OutcomeUnknownError: The same, while committing a step.
        """
        which = _one_or_all(namespace)
        age = days(days_old, "days_old")
        try:
            return await self._maintenance.cleanup(self._inspection(), age, which)
        except StoreUnavailableError as exc:
            if self._config.on_error == "raise":
                raise
            log("error", "cleanup_failed", location=exc.location, error=str(exc))
            return 0

    def _inspection(self) -> SupportsInspection:
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsInspection):
            raise ConfigurationError(
                "backend", f"{type(backend).__name__} cannot inspect whole namespaces"
            )
        return backend

    def _token(self) -> str:
        """Draw a random token; many at once, for asking the system takes its time.

        They are this store's, which no forked process can use.
        """
        if not self._tokens:
            drawn = secrets.token_urlsafe(_TOKENS * _TOKEN * 6 // 8)
            places = range(0, len(drawn), _TOKEN)
            self._tokens = [drawn[place : place + _TOKEN] for place in places]
        return self._tokens.pop()

    def _policy(self, on_abandoned: OnAbandoned | EllipsisType) -> OnAbandoned:
        if on_abandoned is ...:
            return self._config.on_abandoned
        check_choice(on_abandoned, ON_ABANDONED, "on_abandoned")
        return on_abandoned

    def _seconds(self, ttl: Duration | EllipsisType | None) -> float | None:
        return self._ttl if ttl is ... else seconds_or_never(ttl, "ttl")


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
        return SeenStoreConfig(url=target)
    return SeenStoreConfig(path=target)


def _one_or_all(namespace: str | None) -> str | None:
    return None if namespace is None else check_namespace(namespace)


def _instant(ts: float | None) -> float | None:
    return None if ts is None else timestamp(ts)


async def _for_each(keys: Iterable[str], make: Callable[[str], T]) -> list[T]:
    """Check keys and make an operation of each."""
    operations: list[T] = []
    async for first, chunk in _chunks(keys, "keys"):
        operations += map(make, check_keys(chunk, "keys", first))
    return operations


async def _chunks(
    items: Iterable[T], argument: str
) -> AsyncIterator[tuple[int, list[T]]]:
    """Cut items into chunks, each with the place of its first; let others in between.

    A str is an iterable of its characters, which is never what was meant.
    """
    if isinstance(items, str | bytes):
        raise TypeError(
            f"{argument} must be an iterable of keys, not {truncated_repr(items)}"
        )
    listed = list(items)
    for first in range(0, len(listed), _CHUNK):
        if first:
            await asyncio.sleep(0)
        yield first, listed[first : first + _CHUNK]
