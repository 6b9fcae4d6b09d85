"""The backend on PostgreSQL, through asyncpg.

Each method is one request on a ``RetryingChannel`` (``backends/_retry.py``), which
retries it with backoff while its connection fails. There are two channels, each with
its own connection, so that a long read runs beside a batch. The statements, with the
check of the TTL and the INSERT of a row, are in ``queries.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import asyncpg

from ..._config import SeenStoreConfig
from ..._errors import ConfigurationError, StoreUnavailableError
from ..._logging import log
from .._retry import (
    Attempt,
    RetryingChannel,
    ServerClock,
    no_retry,
)
from .._settings import POSTGRES, check_effective
from .._unfinished import MARK, check_finished
from ..base import BackendCounters, KeysLockedError
from . import for_each, inspection, listings, transfer
from .batch import Batch
from .dsn import quote_identifier, redact, server_location
from .errors import LOCKED as LOCKED_ADVICE
from .errors import is_locked, translate_errors
from .health import check
from .listings import Listings
from .locks import LockedKeys
from .pool import Connections, milliseconds
from .removals import Removals
from .schema import (
    SCHEMA_VERSION,
    check_server,
    create_or_upgrade,
    find_version,
)
from .tables import Tables
from .transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..._types import CheckReport
    from ..base import (
        BackendStats,
        BatchResult,
        Cursor,
        PageResult,
        RecordPage,
        Selection,
        StoredPage,
    )
    from ..listings import (
        Fail,
        Observe,
        Observed,
        SourceRecord,
        SourceState,
        WaitingPage,
    )
    from ..operations import Confirm, Id, Operation, Row

P = ParamSpec("P")
T = TypeVar("T")
OnTables = Callable[Concatenate[asyncpg.Connection, Tables, P], Awaitable[T]]
"""A function of ``inspection`` or ``health``."""


class _RollBackError(Exception):
    """Ends a transaction whose effect is not wanted."""


class PostgresBackend:
    """A backend on PostgreSQL 14 or newer.

    Besides ``Backend`` it implements ``SupportsInspection``, ``SupportsNamespaces``,
    ``SupportsPurge``, ``SupportsForEach``, ``SupportsListings``, ``SupportsTransfer``,
    ``SupportsTransactions`` and ``SupportsRehearsal``.

    Attributes:
        for_each: The operations that a ``ForEach`` may repeat.
    """

    for_each: frozenset[type[Operation[Any]]] = for_each.SUPPORTED

    def __init__(
        self, target: str | asyncpg.Pool, config: SeenStoreConfig | None = None
    ) -> None:
        """Keep the settings; no I/O.

        Args:
            target: A URL, or an asyncpg pool of yours, which the backend uses and never
                closes.
            config: ``schema`` and ``timeout`` apply here; the store reads the other
                settings from it.

        Raises:
            ConfigurationError: The URL is not one of PostgreSQL, or a setting has no
                effect on it.
            TypeError: The target is neither a URL nor an asyncpg pool.
        """
        self.config: SeenStoreConfig = config or SeenStoreConfig()
        if not isinstance(target, str | asyncpg.Pool):
            raise TypeError(
                f"target must be a URL or an asyncpg.Pool, not {type(target).__name__}"
            )
        check_effective(self.config, POSTGRES)
        schema, timeout = self.config.schema, self.config.timeout_seconds
        self._clock = ServerClock(self.config.tuning.server_time)
        self._tables = Tables(quote_identifier(schema), self._clock)
        self._engine = ""
        self._opens_unfinished = False
        patience = min(self.config.tuning.lock_patience, timeout / 2)
        self._connections = Connections(target, timeout, patience)
        self._batch_channel = RetryingChannel("", timeout)
        self._read_channel = RetryingChannel("", timeout)
        batches = self._connections, self._batch_channel, self._tables
        self._locked, self._removals = LockedKeys(*batches), Removals(*batches)
        self._source_changes, self._transfer = Listings(*batches), Transfer(*batches)
        url = target if isinstance(target, str) else "postgresql:///"
        self._set_location(redact(url, schema))

    def _set_location(self, location: str) -> None:
        self._location = self._connections.location = location
        self._batch_channel.location = self._read_channel.location = location

    @property
    def location(self) -> str:
        return self._location

    @property
    def database(self) -> str:
        return f"postgresql {self.config.schema}"  # servers with equal schemas collide

    def counters(self) -> BackendCounters:
        channels = self._batch_channel, self._read_channel
        failing = (one.failing for one in channels if one.failing)
        return BackendCounters(
            retries=sum(one.retries for one in channels), failing=next(failing, None)
        )

    def now(self) -> float:
        return self._clock.now()

    async def open(self) -> None:
        await self._connections.open()
        try:
            with no_retry(self._location):
                await self._inspect_or_create()
        except BaseException:
            await self._connections.aclose()
            raise

    async def rehearse_creation(self) -> None:
        await self._connections.open()
        try:
            with no_retry(self._location), suppress(_RollBackError):
                async with self._connections.acquire() as connection:
                    async with self._request_timeout():
                        schema = self.config.schema
                        await create_or_upgrade(connection, schema, self._location)
                    raise _RollBackError
        finally:
            await self._connections.aclose()

    async def _inspect_or_create(self) -> None:
        async with (
            self._connections.acquire(in_transaction=False) as connection,
            self._request_timeout(),
        ):
            version = await self._inspect_server(connection)
            if version == SCHEMA_VERSION:
                await self._check_finished(connection)
                return
        if version is None and not self.config.create:
            raise StoreUnavailableError(
                self._location,
                f"there is no store in the schema {self.config.schema!r}, and"
                " create=False",
                "Name the schema of a store, or open it with create=True",
            )
        async with (
            self._connections.acquire() as connection,
            # An upgrade takes as long as it takes.
            self._request_timeout() if version is None else nullcontext(),
        ):
            # Another process that creates the schema holds its lock for longer.
            lock_timeout = milliseconds(self.config.timeout_seconds)
            await connection.execute(f"SET LOCAL lock_timeout = {lock_timeout}")
            version = await create_or_upgrade(
                connection, self.config.schema, self._location
            )
            await self._check_finished(connection)
        if version is None:
            log("warning", "store_created", location=self._location)
        elif version != SCHEMA_VERSION:
            log("info", "schema_upgraded", location=self._location, version=version)

    async def _check_finished(self, connection: asyncpg.Connection) -> None:
        """Refuse a schema to which a move has not ended."""
        if not self._opens_unfinished:
            (row,) = await transfer.read(connection, self._tables, [MARK])
            check_finished(row, self._location)

    async def _inspect_server(self, connection: asyncpg.Connection) -> int | None:
        """Read version, address and time of the server; return the schema's version."""
        server = await check_server(connection, self.config.tuning.oldest_postgres)
        self._engine = f"PostgreSQL {server['version'].split()[0]}"
        if not self._connections.is_own:  # there was no URL with the location
            self._set_location(server_location(server, self.config.schema))
        sent = self._clock.monotonic()
        now = await inspection.server_time(connection, self._tables)
        self._clock.observe(now, sent)
        return await find_version(connection, self.config.schema, self._location)

    async def aclose(self) -> None:
        await self._batch_channel.aclose()
        await self._read_channel.aclose()
        await self._connections.aclose()

    def abandon(self) -> None:
        self._batch_channel.abandon()
        self._read_channel.abandon()
        self._connections.abandon()

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        batch = Batch(operations, self._tables, self._location)

        async def send(attempt: Attempt) -> BatchResult:
            async with self._connections.acquire(
                in_transaction=not batch.is_single_statement, timeout=attempt.timeout
            ) as connection:
                return await batch.execute(
                    connection,
                    self._clock,
                    maybe_applied=attempt.maybe_applied,
                    timeout=attempt.timeout,
                )

        if batch.is_change:
            suspects = batch.among(self._locked.known)
            ids = await self._locked.among(suspects, timeout)
            if ids:
                raise self._keys_locked("still locked", ids)
        try:
            result = await self._batch_channel.request(
                send, is_change=batch.is_change, timeout=timeout
            )
        except StoreUnavailableError as exc:
            if not is_locked(exc):
                raise
            ids = await self._locked.among(batch.ids(), timeout)
            raise self._keys_locked(exc.cause, ids or batch.ids()) from exc
        return result._replace(version=object() if sample_version else None)

    def _keys_locked(self, cause: str, ids: frozenset[Id]) -> KeysLockedError:
        return KeysLockedError(self._location, cause, LOCKED_ADVICE, ids)

    async def confirm_in_transaction(
        self, transaction: object, confirm: Confirm
    ) -> bool:
        if not isinstance(
            transaction, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
        ):
            raise ConfigurationError(
                "connection",
                f"must be one of asyncpg, not {type(transaction).__name__}",
            )
        try:
            is_in_transaction = transaction.is_in_transaction()
        except asyncpg.InterfaceError as exc:  # the pool has taken a lost one back
            raise StoreUnavailableError(
                self._location,
                f"your connection is lost: {exc}",
                "Nothing was confirmed: let the error end the block of the claim",
            ) from exc
        if not is_in_transaction:
            raise ConfigurationError(
                "connection",
                "must be in a transaction: async with connection.transaction()",
            )
        batch = Batch([confirm], self._tables, self._location)
        with (
            no_retry(self._location),
            translate_errors(
                self._location, maybe_applied=True, connection=transaction
            ),
        ):
            result = await batch.execute(
                transaction, ServerClock(), timeout=self._connections.request_timeout
            )
        return bool(result.results[0])

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        return await self._removals.purge(namespace, limit, cursor, lock_timeout)

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        return await self._removals.cleanup(age, namespace, limit, cursor)

    async def clear(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        return await self._removals.clear(namespace, limit, cursor)

    async def probe(self) -> None:
        await self._removals.probe()

    async def rename(self, namespace: str, name: str) -> bool:
        return await self._removals.rename(namespace, name)

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._scan(inspection.count, namespace)

    async def has_any(self, namespace: str | None) -> bool:
        return await self._probe(inspection.has_any, namespace)

    async def namespaces(self) -> list[str]:
        return await self._probe(inspection.namespaces)

    async def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        return await self._probe(
            inspection.records, selection, limit=limit, cursor=cursor
        )

    async def stats(self, namespace: str | None) -> BackendStats:
        measured = await self._scan(inspection.stats, namespace, self._engine)
        report = await self.check(is_full=False)
        return replace(measured, alarms=report.problems)

    async def check(self, *, is_full: bool) -> CheckReport:
        return await self._scan(check, self._location, self._engine)

    async def observe(self, request: Observe) -> Observed | None:
        return await self._source_changes.observe(request)

    async def fail(self, failure: Fail) -> None:
        await self._source_changes.fail(failure)

    async def source(self, namespace: str) -> SourceRecord | None:
        return await self._probe(listings.source, namespace)

    async def sources(self) -> Mapping[str, SourceRecord]:
        return await self._probe(listings.all_sources)

    async def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        return await self._probe(listings.waiting, namespace, after=after, limit=limit)

    def open_unfinished(self) -> None:
        self._opens_unfinished = True

    async def read_rows(self, *, limit: int, cursor: Cursor | None) -> StoredPage:
        return await self._probe(transfer.read_page, limit=limit, cursor=cursor)

    async def read_rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        return await self._probe(transfer.read, ids)

    async def write_rows(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        await self._transfer.write(rows)

    async def read_source_states(self) -> dict[str, SourceState]:
        return await self._probe(transfer.read_states)

    async def write_source_states(
        self, states: Mapping[str, SourceState | None]
    ) -> None:
        await self._transfer.write_states(states)

    async def _scan(self, read: OnTables[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Scan the tables on the channel of the reads, beside a batch."""

        async def send(_: Attempt) -> T:
            async with (
                self._connections.acquire(read_only=True) as connection,
                self._request_timeout(),
            ):
                return await read(connection, self._tables, *args, **kwargs)

        return await self._read_channel.request(send, is_change=False)

    async def _probe(
        self, read: OnTables[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Read a few rows by an index, on the channel of the reads."""

        async def send(_: Attempt) -> T:
            async with (
                self._connections.acquire(in_transaction=False) as connection,
                self._request_timeout(),
            ):
                return await read(connection, self._tables, *args, **kwargs)

        return await self._read_channel.request(send, is_change=False)

    def _request_timeout(self) -> asyncio.Timeout:
        return asyncio.timeout(self._connections.request_timeout)
