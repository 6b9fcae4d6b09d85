"""The asynchronous shell: each method sends one function to a worker thread."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..._clock import read_clock
from ..._targets import expanded
from .._settings import SQLITE, check_effective
from ..base import BackendCounters
from . import driver, for_each, transfer
from .connections import Connections
from .database import Database
from .files import MEMORY
from .shared import SharedState

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from ..._config import SeenStoreConfig
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
    from ..operations import Id, Operation, Row

P = ParamSpec("P")
T = TypeVar("T")


class SqliteBackend:
    """Keys in one SQLite file, or in memory.

    Any number of processes on one machine may share a file.
    """

    for_each: frozenset[type[Operation[Any]]] = for_each.SUPPORTED

    def __init__(
        self, path: str | os.PathLike[str], config: SeenStoreConfig, ttl: float | None
    ) -> None:
        """Create a backend; no I/O.

        Args:
            path: The file, or ``":memory:"``.
            config: The SQLite settings and the clock.
            ttl: Time to live of the rows of an old store's file, counted from their
                ``ts``.

        Raises:
            ConfigurationError: A setting has no effect on SQLite, or the library of the
                settings is not installed.
            ValueError: The path begins with the name of an unknown user.
        """
        check_effective(config, SQLITE)
        driver.load(config.sqlite)
        # Absolute, so that neither chdir nor SQLite's own reading of "file:" moves it.
        location = MEMORY if path == MEMORY else str(Path(expanded(path)).absolute())
        self._shared = SharedState(location, config, ttl)
        self._connections = Connections(self._shared)
        self.maintenance_due: asyncio.Event | None = (
            asyncio.Event() if self._shared.is_file else None
        )

    @property
    def config(self) -> SeenStoreConfig:
        return self._shared.config

    @property
    def location(self) -> str:
        return self._shared.path

    @property
    def database(self) -> str:
        return self._shared.database

    def counters(self) -> BackendCounters:
        wal = self._shared.wal
        return BackendCounters(
            checkpoints=wal.checkpoints,
            checkpoint_failures=wal.failures,
            wal_bytes=wal.last_bytes,
        )

    def now(self) -> float:
        return self._shared.now()

    async def open(self) -> None:
        read_clock(self.config.clock)  # refuses one that cannot be used
        await self._connections.open()

    async def aclose(self) -> None:
        await self._connections.aclose()

    def abandon(self) -> None:
        self._connections.abandon()

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        if timeout is None:
            timeout = self.config.timeout_seconds
        return await self._run(
            Database.apply,
            operations,
            sample_version=sample_version,
            until=time.monotonic() + timeout,  # the thread may be busy
        )

    async def read_aside(self, reads: Sequence[Operation[Any]]) -> list[object] | None:
        if not self._shared.is_file:
            return None
        return await self._connections.read_at_once(Database.read, reads)

    async def maintain(self) -> None:
        await self._connections.run(Database.maintain)

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        return await self._run(
            Database.purge,
            namespace=namespace,
            limit=limit,
            cursor=cursor,
            lock_timeout=lock_timeout,
        )

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        return await self._run(
            Database.cleanup,
            age,
            namespace=namespace,
            limit=limit,
            cursor=cursor,
            lock_timeout=lock_timeout,
        )

    async def clear(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        return await self._run(
            Database.clear,
            namespace=namespace,
            limit=limit,
            cursor=cursor,
            lock_timeout=lock_timeout,
        )

    async def probe(self) -> None:
        await self._run(Database.probe)

    async def rename(self, namespace: str, name: str) -> bool:
        return await self._run(Database.rename, namespace, name)

    async def observe(self, request: Observe) -> Observed | None:
        return await self._run(Database.observe, request)

    async def fail(self, failure: Fail) -> None:
        await self._run(Database.fail, failure)

    async def source(self, namespace: str) -> SourceRecord | None:
        return await self._connections.run(Database.source, namespace)

    async def sources(self) -> Mapping[str, SourceRecord]:
        return await self._connections.read(Database.sources)

    async def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        return await self._connections.run(
            Database.waiting, namespace, after=after, limit=limit
        )

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._connections.read(Database.count, namespace)

    async def has_any(self, namespace: str | None) -> bool:
        return await self._connections.read(Database.has_any, namespace)

    async def namespaces(self) -> list[str]:
        return await self._connections.read(Database.namespaces)

    async def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        return await self._connections.read(
            Database.records, selection, limit=limit, cursor=cursor
        )

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._connections.read(Database.stats, namespace)

    async def check(self, *, is_full: bool) -> CheckReport:
        return await self._connections.read(Database.check, is_full=is_full)

    async def backup(self, path: str) -> None:
        await self._connections.read(Database.backup, path)

    def open_unfinished(self) -> None:
        self._shared.opens_unfinished = True

    async def read_rows(self, *, limit: int, cursor: Cursor | None) -> StoredPage:
        return await self._connections.read(
            Database.query, transfer.read_page, self.now, limit, cursor
        )

    async def read_rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        return await self._connections.read(
            Database.query, transfer.read, self.now, ids
        )

    async def write_rows(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows; see ``SupportsTransfer``.

        Rows in no order change the same pages of the file again and again, so that a
        checkpoint at each turn would take longer than the writes.
        """
        await self._connections.run(Database.change, transfer.write, rows)
        if self._shared.wal.is_overgrown:
            await self.maintain()

    async def read_source_states(self) -> dict[str, SourceState]:
        return await self._connections.read(Database.query, transfer.read_states)

    async def write_source_states(
        self, states: Mapping[str, SourceState | None]
    ) -> None:
        await self._run(Database.change, transfer.write_states, states)

    async def _run(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that may write, and schedule a checkpoint if one is due."""
        result = await self._connections.run(function, *args, **kwargs)
        if self._shared.wal.is_due and self.maintenance_due is not None:
            self.maintenance_due.set()
        return result
