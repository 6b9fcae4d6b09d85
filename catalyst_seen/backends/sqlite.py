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

from .._backend import Applied, BackendStats, Chunk, Row
from .._errors import ConfigurationError
from .._model import ON_ABANDONED, CheckReport, Record
from .._state import step
from . import _sqlite_rows as rows
from ._sqlite_backup import Copy
from ._sqlite_check import check
from ._sqlite_connections import Connections
from ._sqlite_file import MEMORY, size
from ._sqlite_schema import pragma
from ._sqlite_space import has_slack, tighten
from ._sqlite_transaction import in_transaction, is_busy, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._backend import Confirm, Id, Look, Operation, Place
    from .._config import SeenStoreConfig
    from ._worker import Connection

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
        self.upkeep: asyncio.Event | None = (
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
        self, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        return await self._run(lambda db: self._apply(db, operations, look=look))

    async def look(self, looks: Sequence[Look]) -> list[Record | None] | None:
        if self._path == MEMORY:
            return None
        return await self._connections.read(
            lambda db: self._records(db, looks), now=True
        )

    async def look_after(self) -> None:
        await self._run(self._connections.wal.look_after)

    async def confirm_within(self, transaction: object, confirm: Confirm) -> bool:
        raise ConfigurationError(
            "connection",
            "SQLite's connection is the store's own; only a store on PostgreSQL can"
            " confirm in a transaction of yours",
        )

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        resume: Place | None,
        patience: float | None,
    ) -> Chunk:
        removal = rows.Removal(namespace, resume, limit, age=None)
        wait = self.config.timeout if patience is None else patience
        return await self._run(lambda db: self._remove(db, removal, wait))

    async def cleanup(
        self, age: float, *, namespace: str | None, limit: int, resume: Place | None
    ) -> Chunk:
        removal = rows.Removal(namespace, resume, limit, age)
        wait = self.config.timeout
        return await self._run(lambda db: self._remove(db, removal, wait))

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._connections.read(
            lambda db: rows.count(db, namespace, self.now())
        )

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._connections.read(
            lambda db: rows.held(db, namespace, self.now())
        )

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._connections.read(lambda db: self._stats(db, namespace))

    async def check(self, *, is_full: bool) -> CheckReport:
        clock, connections = self.config.clock, self._connections
        return await connections.read(
            lambda db: check(
                db, connections.file, connections.wal, clock(), is_full=is_full
            )
        )

    async def backup(self, path: str) -> None:
        copy = Copy(path, self.config.timeout)
        copy.check()
        await self._connections.read(copy.make)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        answer = await self._connections.run(work)
        if self._connections.wal.is_due and self.upkeep is not None:
            self.upkeep.set()
        return answer

    # From here on everything runs on the worker thread.

    def _apply(
        self, db: Connection, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        def work() -> Applied:
            version = (
                (self._connections.made, pragma(db, "data_version")) if look else None
            )
            now = self.now()
            found = rows.read(db, operations)
            applied, changes = _decide(found, operations, now)
            if changes:
                rows.write(db, found, changes)
            return applied._replace(version=version)

        return self._in_transaction(db, work, self.config.timeout)

    def _records(self, db: Connection, looks: Sequence[Look]) -> list[Record | None]:
        now = self.now()
        applied, _ = _decide(rows.read(db, looks), looks, now)
        return cast("list[Record | None]", applied.answers)

    def _remove(self, db: Connection, removal: rows.Removal, timeout: float) -> Chunk:
        deadline = time.monotonic() + timeout
        if removal.after == _TIGHTEN:
            is_more = _if_free(lambda: tighten(db), deadline)
            self._connections.wal.written()
            return Chunk(0, _TIGHTEN if is_more else None)
        removed, end = self._in_transaction(
            db, lambda: rows.remove(db, removal, self.now()), timeout
        )
        if end is None and _if_free(lambda: has_slack(db), deadline):
            end = _TIGHTEN
        return Chunk(removed, end)

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
        claims = rows.count_claims(db, namespace, now)
        return BackendStats(
            keys_by_namespace=rows.count(db, namespace, now),
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
) -> tuple[Applied, dict[Id, Row | None]]:
    """Answer each operation by what the ones before it left; say what has changed."""
    applied = Applied([], [], version=None)
    changes: dict[Id, Row | None] = {}
    for operation in operations:
        id_ = operation.namespace, operation.key
        row = changes[id_] if id_ in changes else found.get(id_)
        answer, after = step(row, operation, now)
        applied.answers.append(answer)
        applied.rows.append(after)
        if after is not row:
            changes[id_] = after
    return applied, changes


def _if_free(work: Callable[[], bool], deadline: float) -> bool:
    """Do what is a courtesy only: if others keep the lock for long, leave it."""
    try:
        return patiently(work, deadline)
    except sqlite3.OperationalError as exc:
        if not is_busy(exc):
            raise
        return False
