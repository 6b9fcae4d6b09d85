"""Keys in PostgreSQL, through asyncpg.

A batch is one statement, which reads, decides and writes; only a batch that asks for
one key several times, or for very many, is a transaction of more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from ..._config import SeenStoreConfig
from ..._errors import ConfigurationError, OutcomeUnknownError
from .._retry import RetryingChannel, ServerClock, no_retry
from . import maintenance
from .batch import Batch
from .dsn import describe, located, quoted
from .errors import translated
from .health import check
from .pool import Connections
from .queries import Table
from .schema import check_server, create, is_prepared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ..._types import CheckReport, Record
    from ..base import BackendStats, BatchResult, Cursor, PageResult
    from ..operations import Confirm, Operation

T = TypeVar("T")


class PostgresBackend:
    """Keys in a table of PostgreSQL 14, or of what is newer."""

    def __init__(
        self, target: str | asyncpg.Pool, config: SeenStoreConfig | None = None
    ) -> None:
        """Remember the settings; no I/O.

        Args:
            target: A URL, or a pool of asyncpg of yours, which is used and never
                closed.
            config: ``schema`` and ``timeout`` count here; the store takes the others
                from it.

        Raises:
            ConfigurationError: The URL is none of PostgreSQL.
            TypeError: The target is neither a URL nor such a pool.
        """
        self.config: SeenStoreConfig = config or SeenStoreConfig()
        if not isinstance(target, str | asyncpg.Pool):
            raise TypeError(
                f"target must be a URL or an asyncpg.Pool, not {type(target).__name__}"
            )
        schema = self.config.schema
        self._clock = ServerClock(self.config.tuning.server_time)
        self._table = Table(f"{quoted(schema)}.seen", self._clock)
        self._engine = ""
        timeout = self.config.timeout
        self._connections = Connections(target, timeout)
        self._exchanges, self._aside = (
            RetryingChannel("", timeout),
            RetryingChannel("", timeout),
        )
        self._locate(
            describe(target, schema)
            if isinstance(target, str)
            else f"postgresql:///?schema={schema}"
        )

    def _locate(self, location: str) -> None:
        self._location = self._connections.location = location
        self._exchanges.location = self._aside.location = location

    @property
    def location(self) -> str:
        return self._location

    @property
    def database(self) -> str:
        # Who takes two databases for one forgets more than need be, and nothing worse.
        return f"postgresql {self.config.schema}"

    def now(self) -> float:
        return self._clock.now()

    async def open(self) -> None:
        await self._connections.open()
        try:
            with no_retry(self._location):
                await self._prepare()
        except BaseException:
            await self._connections.aclose()
            raise

    async def _prepare(self) -> None:
        async with self._connections.one(together=False) as connection:
            is_there = await self._in_time(self._look(connection))
        if not is_there:
            async with self._connections.one(together=True) as connection:
                await self._in_time(
                    create(connection, self.config.schema, self._location)
                )

    async def _look(self, connection: asyncpg.Connection) -> bool:
        """See what the server is and what time it has; is the table there?"""
        facts = await check_server(connection, self.config.tuning.oldest_postgres)
        self._engine = f"PostgreSQL {facts['version'].split()[0]}"
        if not self._connections.is_own:  # only now anybody knows
            self._locate(located(facts, self.config.schema))
        sent = self._clock.monotonic()
        self._clock.observe(await maintenance.now(connection, self._table), sent)
        return await is_prepared(connection, self.config.schema, self._location)

    async def aclose(self) -> None:
        await self._exchanges.aclose()
        await self._aside.aclose()
        await self._connections.aclose()

    def abandon(self) -> None:
        self._exchanges.abandon()
        self._aside.abandon()
        self._connections.abandon()

    async def apply(
        self, operations: Sequence[Operation[object]], *, sample_version: bool
    ) -> BatchResult:
        batch = Batch(operations, self._table, self._location)

        async def attempt(again: bool) -> BatchResult:  # noqa: FBT001 - Exchanges calls it
            together = not batch.is_simple
            async with self._connections.one(together=together) as connection:
                return await batch.send(
                    connection, self._clock, again=again, limit=self._connections.limit
                )

        applied = await self._exchanges.request(attempt, is_change=batch.is_change)
        return applied._replace(version=object() if sample_version else None)

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
        if not transaction.is_in_transaction():
            raise ConfigurationError(
                "connection",
                "must be in a transaction: async with connection.transaction()",
            )
        batch = Batch([confirm], self._table, self._location)
        with (
            no_retry(self._location),
            translated(self._location, maybe_applied=True, connection=transaction),
        ):
            applied = await batch.send(
                transaction, ServerClock(), limit=self._connections.limit
            )
        return bool(applied.results[0])

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        return await self._remove(
            lambda connection: maintenance.purge(
                connection,
                self._table,
                namespace,
                limit=limit,
                cursor=cursor,
                is_patient=lock_timeout is None,
            )
        )

    async def cleanup(
        self, age: float, *, namespace: str | None, limit: int, cursor: Cursor | None
    ) -> PageResult:
        return await self._remove(
            lambda connection: maintenance.cleanup(
                connection,
                self._table,
                namespace,
                age=age,
                limit=limit,
                cursor=cursor,
            )
        )

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._read(
            lambda connection: maintenance.count(connection, self._table, namespace)
        )

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._read(
            lambda connection: maintenance.held(connection, self._table, namespace)
        )

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._read(
            lambda connection: maintenance.stats(
                connection, self._table, namespace, self._engine
            )
        )

    async def check(self, *, is_full: bool) -> CheckReport:
        return await self._read(
            lambda connection: check(
                connection, self.config.schema, self._location, self._engine
            )
        )

    async def _remove(
        self, work: Callable[[asyncpg.Connection], Awaitable[PageResult]]
    ) -> PageResult:
        async def attempt(again: bool) -> PageResult:  # noqa: FBT001 - Exchanges calls it
            if again:
                raise OutcomeUnknownError(
                    self._location,
                    "the connection broke, and how many rows were removed before it"
                    " did, nobody knows",
                    "Call it again to remove what is left",
                )
            async with self._connections.one(together=False) as connection:
                return await self._in_time(work(connection))

        return await self._exchanges.request(attempt, is_change=True)

    async def _read(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Look at the whole table, while other calls go on."""

        async def attempt(_: bool) -> T:  # noqa: FBT001 - Exchanges calls it
            async with self._connections.one(read_only=True) as connection:
                return await self._in_time(work(connection))

        return await self._aside.request(attempt, is_change=False)

    async def _in_time(self, work: Awaitable[T]) -> T:
        """Wait for a server as long as for any statement."""
        async with asyncio.timeout(self._connections.limit):
            return await work
