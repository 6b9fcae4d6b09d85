"""Keys in a SQLite file: how a batch becomes one transaction.

Each method sends one function to the worker thread, which runs a whole transaction
there.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from ..._types import ON_ABANDONED, CheckReport, Record
from .._state_machine import transition
from ..base import BackendStats, BatchResult, PageResult
from ..operations import Row
from . import queries
from ._space import has_slack, tighten
from .backup import Backup
from .connections import Connections
from .files import MEMORY, size
from .health import check
from .schema import pragma
from .transactions import in_transaction, is_busy, retry_while_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..._config import SeenStoreConfig
    from ..base import Cursor
    from ..operations import Get, Id, Operation
    from .worker import Connection

T = TypeVar("T")

_TIGHTEN = ("", "")  # no row is there: a key has at least one character


class SqliteBackend:
    """Keys in one SQLite file, or in memory.

    Any number of processes on one machine may share a file.
    """

    def __init__(
        self, path: str | os.PathLike[str], config: SeenStoreConfig, ttl: float | None
    ) -> None:
        """Remember the settings; no I/O.

        Args:
            path: The file, or ``":memory:"``.
            config: The SQLite settings and the clock.
            ttl: What the rows of an old store's file get, counted from their ``ts``.
        """
        # Absolute, so that neither chdir nor SQLite's own reading of "file:" moves it.
        self._path = MEMORY if path == MEMORY else str(Path(path).absolute())
        self.config = config
        self.maintenance_due: asyncio.Event | None = (
            None if self._path == MEMORY else asyncio.Event()
        )
        self._connections = Connections(self._path, config, ttl)
        self._latest = 0.0
        self._telling = threading.Lock()

    @property
    def location(self) -> str:
        return self._path

    @property
    def database(self) -> str:
        return os.path.realpath(self._path)

    def now(self) -> float:
        """Wall time that never runs backwards while this store is open."""
        now = self.config.clock()
        with self._telling:  # who reads aside asks as well
            self._latest = max(self._latest, now)
            return self._latest

    async def open(self) -> None:
        await self._connections.open()

    async def aclose(self) -> None:
        await self._connections.aclose()

    def abandon(self) -> None:
        self._connections.abandon()

    async def apply(
        self, operations: Sequence[Operation[object]], *, sample_version: bool
    ) -> BatchResult:
        return await self._run(
            lambda db: self._apply(db, operations, sample_version=sample_version)
        )

    async def read_aside(self, gets: Sequence[Get]) -> list[Record | None] | None:
        if self._path == MEMORY:
            return None
        return await self._connections.read(
            lambda db: self._records(db, gets), now=True
        )

    async def maintain(self) -> None:
        await self._run(self._connections.wal.maintain)

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        removal = queries.Removal(namespace, cursor, limit, age=None)
        wait = self.config.timeout if lock_timeout is None else lock_timeout
        return await self._run(lambda db: self._remove(db, removal, wait))

    async def cleanup(
        self, age: float, *, namespace: str | None, limit: int, cursor: Cursor | None
    ) -> PageResult:
        removal = queries.Removal(namespace, cursor, limit, age)
        wait = self.config.timeout
        return await self._run(lambda db: self._remove(db, removal, wait))

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._connections.read(
            lambda db: queries.count(db, namespace, self.now())
        )

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._connections.read(
            lambda db: queries.held(db, namespace, self.now())
        )

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._connections.read(lambda db: self._stats(db, namespace))

    async def check(self, *, is_full: bool) -> CheckReport:
        clock, connections = self.config.clock, self._connections
        return await connections.read(
            lambda db: check(
                db,
                connections.file,
                connections.wal,
                clock(),
                self.config.tuning.wal_reset_fixed,
                is_full=is_full,
            )
        )

    async def backup(self, path: str) -> None:
        copy = Backup(path, self.config.timeout)
        copy.check()
        await self._connections.read(copy.make)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        answer = await self._connections.run(work)
        if self._connections.wal.is_due and self.maintenance_due is not None:
            self.maintenance_due.set()
        return answer

    # From here on everything runs on the worker thread.

    def _apply(
        self,
        db: Connection,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
    ) -> BatchResult:
        def work() -> BatchResult:
            version = (
                (self._connections.made, pragma(db, "data_version"))
                if sample_version
                else None
            )
            now = self.now()
            found = queries.read(db, operations)
            applied, changes = _decide(found, operations, now)
            if changes:
                queries.write(db, found, changes)
            return applied._replace(version=version)

        return self._in_transaction(db, work, self.config.timeout)

    def _records(self, db: Connection, looks: Sequence[Get]) -> list[Record | None]:
        now = self.now()
        applied, _ = _decide(queries.read(db, looks), looks, now)
        return cast("list[Record | None]", applied.results)

    def _remove(
        self, db: Connection, removal: queries.Removal, timeout: float
    ) -> PageResult:
        deadline = time.monotonic() + timeout
        if removal.after == _TIGHTEN:
            is_more = _if_free(lambda: tighten(db), deadline)
            self._connections.wal.written()
            return PageResult(0, _TIGHTEN if is_more else None)
        removed, end = self._in_transaction(
            db, lambda: queries.remove(db, removal, self.now()), timeout
        )
        if end is None and _if_free(lambda: has_slack(db), deadline):
            end = _TIGHTEN
        return PageResult(removed, end)

    def _in_transaction(
        self, db: Connection, work: Callable[[], T], timeout: float
    ) -> T:
        changes = db.total_changes
        answer = in_transaction(db, self.location, work, timeout)
        if db.total_changes != changes:
            self._connections.wal.written()
        return answer

    def _stats(self, db: Connection, namespace: str | None) -> BackendStats:
        now = self.now()
        claims = queries.count_claims(db, namespace, now)
        return BackendStats(
            keys_by_namespace=queries.count(db, namespace, now),
            claimed=claims.get("claimed", 0),
            abandoned={policy: claims.get(policy, 0) for policy in ON_ABANDONED},
            file_bytes=size(self._path),
            wal_bytes=self._connections.wal.bytes,
            free_pages=pragma(db, "freelist_count"),
            checkpoint_failures=self._connections.wal.failures,
            wal_pinned=self._connections.wal.pinned,
            engine=f"SQLite {sqlite3.sqlite_version}",
            alarms=tuple(self._connections.wal.alarms()),
        )


def _decide(
    found: Mapping[Id, Row], operations: Sequence[Operation[object]], now: float
) -> tuple[BatchResult, dict[Id, Row | None]]:
    """Answer each operation by what the ones before it left; say what has changed."""
    applied = BatchResult([], [], version=None)
    changes: dict[Id, Row | None] = {}
    for operation in operations:
        id_ = operation.namespace, operation.key
        row = changes[id_] if id_ in changes else found.get(id_)
        answer, after = transition(row, operation, now)
        applied.results.append(answer)
        applied.rows.append(after)
        if after is not row:
            changes[id_] = after
    return applied, changes


def _if_free(work: Callable[[], bool], deadline: float) -> bool:
    """Do what is a courtesy only: if others keep the lock for long, leave it."""
    try:
        return retry_while_busy(work, deadline)
    except sqlite3.OperationalError as exc:
        if not is_busy(exc):
            raise
        return False
