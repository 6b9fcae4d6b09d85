"""The verbs on whole namespaces: list, count, check, clean up, clear, rename."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from ._calls import explained
from ._engine.snapshot import snapshot
from ._errors import ConfigurationError, StoreError
from ._logging import log
from ._targets import check_path, expanded
from ._types import RECORD_STATES, CheckReport, Record, StoreStats
from ._unawaited import verb
from ._validation import (
    check_choice,
    check_flag,
    check_namespace,
    check_prefix,
    days,
    timestamp,
)
from .backends.base import (
    Selection,
    SupportsBackup,
    SupportsInspection,
    SupportsNamespaces,
    SupportsProbe,
)
from .backends.operations import Get

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator
    from types import EllipsisType

    from ._config import SeenStoreConfig
    from ._engine.dispatcher import Dispatcher
    from ._engine.lifecycle import Lifecycle
    from ._engine.maintenance import Maintenance
    from ._engine.sampling import Sampling
    from ._metrics import StoreMetrics
    from ._types import RecordState
    from .backends.base import Cursor, RecordPage

_PAGE = 1_000  # rows that one call of a backend examines


class NamespaceVerbs:
    """The part of ``AsyncSeenStore`` that concerns whole namespaces."""

    _config: SeenStoreConfig
    _lifecycle: Lifecycle
    _dispatcher: Dispatcher
    _maintenance: Maintenance
    _sampling: Sampling
    _name: str | None

    @verb
    async def held(self, *, namespace: str | EllipsisType | None = ...) -> list[Record]:
        """List the keys that are ``HELD``, in one namespace or in all.

        Returns:
            A record per key, ordered by namespace and key; ``last_seen`` is the time of
            the last claim.

        Raises:
            StoreUnavailableError: The store failed.
        """
        selection = Selection(self._one_or_all(namespace), "held")
        records = [record async for record in self._records(selection)]
        return sorted(records, key=attrgetter("namespace", "key"))

    @verb
    async def count(self, *, namespace: str | EllipsisType | None = ...) -> int:
        """Count the seen keys of one namespace, or of all; reads every row.

        Raises:
            StoreUnavailableError: The store failed.
        """
        which = self._one_or_all(namespace)
        inspection = self._inspection()
        counts = await self._lifecycle.read("count", lambda: inspection.count(which))
        return sum(counts.values())

    @verb
    async def has_any(self, *, namespace: str | EllipsisType | None = ...) -> bool:
        """Return whether any key is seen, in one namespace or in all.

        It costs no more than a few rows on SQLite and PostgreSQL. Redis is scanned
        until a key is found, so that a large database with few keys takes long.

        Raises:
            StoreUnavailableError: The store failed.
        """
        which = self._one_or_all(namespace)
        inspection = self._inspection()
        return await self._lifecycle.read("has_any", lambda: inspection.has_any(which))

    @verb
    async def namespaces(self) -> list[str]:
        """List the namespaces that have a key which is not unseen, sorted.

        Raises:
            StoreUnavailableError: The store failed.
        """
        return await self._lifecycle.read("namespaces", self._inspection().namespaces)

    def records(
        self,
        *,
        state: RecordState | None = None,
        namespace: str | EllipsisType | None = ...,
        prefix: str = "",
        since: float | None = None,
    ) -> AsyncIterator[Record]:
        """Iterate over the records of keys, in no promised order.

        ::

            async for record in store.records(state="claimed"):
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
        return self._records(
            self._selection(
                state=state, namespace=namespace, prefix=prefix, since=since
            )
        )

    @verb
    async def stats(self, *, namespace: str | EllipsisType | None = ...) -> StoreStats:
        """Return statistics; keys are counted in one namespace, or in all.

        Raises:
            StoreUnavailableError: The store failed.
        """
        which = self._one_or_all(namespace)
        inspection = self._inspection()
        measured = await self._lifecycle.run_beside(lambda: inspection.stats(which))
        return StoreStats(
            keys=sum(measured.keys_by_namespace.values()),
            keys_by_namespace=measured.keys_by_namespace,
            claimed=measured.claimed,
            released=measured.released,
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
            operations=dict(self._dispatcher.counters.operations.by_verb()),
            batches=self._dispatcher.batcher.batches,
            recent_keys=len(self._dispatcher.cache),
            recent_hits=self._dispatcher.cache.hits.total(),
            engine=measured.engine,
            failures=self._lifecycle.failures.calls(),
            alarms=(*measured.alarms, *self._lifecycle.failures.alarms()),
        )

    @explained
    def metrics(self) -> StoreMetrics:
        """Return what this store has counted in this process, without any I/O.

        It may be called at any time and from any thread, also before the store is
        opened and after it is closed. ``catalyst_seen.metrics`` exports it to
        Prometheus and OpenTelemetry.

        What only the database knows, such as the number of keys, is read in the
        background after this call, at most once in ``sample_interval``: the first call
        has none of it yet, and later ones have it with its age.
        """
        self._sampling.request()
        return snapshot(self._dispatcher, self._maintenance, self._sampling)

    @verb
    async def probe(self) -> None:
        """Return when the database has answered a read and committed a write.

        Both wait for their turn as every call does. The write changes nothing that any
        verb shows, and fails where a mark would fail. ``catalyst_seen.metrics.health``
        makes an answer of it for a readiness probe.

        Raises:
            StoreUnavailableError: The store failed.
            OutcomeUnknownError: The commit failed.
        """
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsProbe):
            raise ConfigurationError(
                "backend", f"{type(backend).__name__} cannot be probed"
            )
        await self._dispatcher.execute(Get("", "probe"))
        await self._maintenance.change("probe", backend.probe, lambda _: False)

    @verb
    async def check(self, *, full: bool = False) -> CheckReport:
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
        check_flag(full, "full")
        inspection = self._inspection()
        report = await self._lifecycle.run_beside(
            lambda: inspection.check(is_full=full)
        )
        alarms = self._lifecycle.failures.alarms()
        return replace(report, problems=(*report.problems, *alarms))

    @verb
    async def backup(self, path: str | os.PathLike[str]) -> None:
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
        check_path(path)
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsBackup):
            raise ConfigurationError(
                "backup",
                f"the database at {backend.location} copies itself: Redis by BGSAVE or"
                " its append-only files, PostgreSQL by pg_dump or pg_basebackup",
            )
        await self._lifecycle.run_beside(partial(backend.backup, expanded(path)))

    @verb
    async def purge_expired(self, *, namespace: str | EllipsisType | None = ...) -> int:
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
        which = self._one_or_all(namespace)
        return await self._maintenance.purge_expired(which)

    @verb
    async def cleanup_old_entries(
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
        which = self._one_or_all(namespace)
        age = days(days_old, "days_old")
        try:
            return await self._maintenance.cleanup(self._namespaces(), age, which)
        except StoreError as exc:
            if self._config.on_error == "raise":
                raise
            log("error", "cleanup_failed", location=exc.location, error=str(exc))
            return 0

    @verb
    async def clear(self, *, namespace: str | EllipsisType | None = ...) -> int:
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
        which = None if namespace is None else self._own(namespace)
        return await self._maintenance.clear(self._namespaces(), which)

    @verb
    async def rename(
        self, new_name: str, *, namespace: str | EllipsisType = ...
    ) -> None:
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
        name, old = check_namespace(new_name, "new_name"), self._own(namespace)
        if name == old:
            return
        if not await self._maintenance.rename(self._namespaces(), old, name):
            raise ValueError(
                f"new_name={name!r} has keys already, and is not overwritten: clear it,"
                " or choose another name"
            )

    def _selection(
        self,
        *,
        state: RecordState | None,
        namespace: str | EllipsisType | None,
        prefix: str,
        since: float | None,
    ) -> Selection:
        if state is not None:
            check_choice(state, RECORD_STATES, "state")
        if since is not None:
            since = timestamp(since, self._lifecycle.backend.now, "since")
        return Selection(
            self._one_or_all(namespace), state, check_prefix(prefix), since
        )

    async def _records(self, selection: Selection) -> AsyncIterator[Record]:
        page = await self._page(selection, None)
        while True:
            for record in page.records:
                yield record
            if page.cursor is None:
                return
            page = await self._page(selection, page.cursor)

    async def _page(self, selection: Selection, cursor: Cursor | None) -> RecordPage:
        inspection = self._inspection()
        return await self._lifecycle.read(
            "records", lambda: inspection.records(selection, limit=_PAGE, cursor=cursor)
        )

    def _own(self, namespace: str | EllipsisType) -> str:
        """Return the namespace of a verb on keys; by default the view's, or ``""``."""
        return (self._name or "") if namespace is ... else check_namespace(namespace)

    def _one_or_all(self, namespace: str | EllipsisType | None) -> str | None:
        """Return the namespace of a verb on rows; by default the view's, or all."""
        if namespace is ...:
            return self._name
        return None if namespace is None else check_namespace(namespace)

    def _inspection(self) -> SupportsInspection:
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsInspection):
            raise ConfigurationError(
                "backend", f"{type(backend).__name__} cannot inspect whole namespaces"
            )
        return backend

    def _namespaces(self) -> SupportsNamespaces:
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsNamespaces):
            raise ConfigurationError(
                "backend", f"{type(backend).__name__} cannot change whole namespaces"
            )
        return backend
