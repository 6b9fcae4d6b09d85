"""Keys in a SQLite file: how a batch becomes one transaction.

Each method sends one function to the worker thread, which runs a whole transaction
there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from .._backend import Applied, BackendStats, Chunk, Row
from .._errors import (
    ConfigurationError,
    OutcomeUnknownError,
    StoreClosedError,
    StoreUnavailableError,
)
from .._log import log
from .._model import ON_ABANDONED, Record
from .._state import step
from . import _sqlite_rows as rows
from ._sqlite_file import MEMORY, File, size
from ._sqlite_schema import look_before, pragma, prepare
from ._sqlite_transaction import (
    MISUSE,
    in_transaction,
    patiently,
    primary_code,
    unavailable,
)
from ._worker import Connection, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._backend import Confirm, Id, Operation, Place
    from .._config import SeenStoreConfig

T = TypeVar("T")


class SqliteBackend:
    """Keys in one SQLite file, or in memory.

    Any number of processes on one machine may share a file.
    """

    can_read_aside: ClassVar[bool] = False

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
        self._ttl = ttl
        self._file = File(self._path)
        self._worker: Worker | None = None
        self._connections = 0
        self._latest = 0.0
        self._is_closed = False

    @property
    def location(self) -> str:
        return self._path

    @property
    def database(self) -> str:
        return os.path.realpath(self._path)

    def now(self) -> float:
        """Wall time that never runs backwards while this store is open."""
        return max(self._latest, self.config.clock())

    async def open(self) -> None:
        self._worker = await self._connected()

    async def aclose(self) -> None:
        self._is_closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.aclose()

    def abandon(self) -> None:
        self._is_closed = True
        self._drop()

    async def apply(
        self, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        return await self._run(lambda db: self._apply(db, operations, look=look))

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
        return await self._look(lambda db: rows.count(db, namespace, self._now()))

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._look(lambda db: rows.held(db, namespace, self._now()))

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._look(lambda db: self._stats(db, namespace))

    async def _look(self, work: Callable[[Connection], T]) -> T:
        timeout = self.config.timeout
        return await self._run(
            lambda db: patiently(lambda: work(db), time.monotonic() + timeout)
        )

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._is_closed:
            raise StoreClosedError("the store was closed before this call was sent")
        if self._worker is None or self._worker.is_suspect:
            self._drop()
            self._worker = await self._connected()
            log("warning", "connection_reopened", location=self.location)
        return await self._worker.run(lambda db: self._perform(db, work))

    async def _connected(self) -> Worker:
        worker = Worker(self._path, self._connect, timeout=self.config.timeout)
        await worker.open()
        self._connections += 1
        if self._is_closed:
            worker.abandon()
            raise StoreClosedError("the store was closed while it was connecting")
        return worker

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abandon()

    # From here on everything runs on the worker thread.

    def _perform(self, db: Connection, work: Callable[[Connection], T]) -> T:
        # What was cancelled may still be queued here after an I/O error, and must not
        # overtake what its caller has sent since, over the next connection.
        if db.is_suspect:
            raise StoreUnavailableError(
                self.location,
                "an I/O error came before",
                "The next call connects again",
            )
        self._file.check()
        try:
            return work(db)
        except OutcomeUnknownError:
            db.is_suspect = True
            raise
        except MISUSE:
            raise
        except sqlite3.Error as exc:
            db.is_suspect = primary_code(exc) == sqlite3.SQLITE_IOERR
            raise unavailable(exc, self.location) from exc

    def _now(self) -> float:
        self._latest = self.now()
        return self._latest

    def _apply(
        self, db: Connection, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        def work() -> Applied:
            version = (self._connections, pragma(db, "data_version")) if look else None
            now = self._now()
            applied = Applied([], [], version)
            found = rows.read(db, operations)
            changes: dict[Id, Row | None] = {}
            for operation in operations:
                id_ = operation.namespace, operation.key
                row = changes[id_] if id_ in changes else found.get(id_)
                answer, after = step(row, operation, now)
                applied.answers.append(answer)
                applied.rows.append(after)
                if after is not row:
                    changes[id_] = after
            if changes:
                rows.write(db, found, changes)
            return applied

        return in_transaction(db, self.location, work, self.config.timeout)

    def _remove(self, db: Connection, removal: rows.Removal, timeout: float) -> Chunk:
        def work() -> Chunk:
            return Chunk(*rows.remove(db, removal, self._now()))

        return in_transaction(db, self.location, work, timeout)

    def _stats(self, db: Connection, namespace: str | None) -> BackendStats:
        now = self._now()
        claims = rows.count_claims(db, namespace, now)
        return BackendStats(
            keys_by_namespace=rows.count(db, namespace, now),
            claimed=claims.get("claimed", 0),
            abandoned={policy: claims.get(policy, 0) for policy in ON_ABANDONED},
            file_bytes=size(self._path),
            wal_bytes=size(f"{self._path}-wal"),
            free_pages=pragma(db, "freelist_count"),
            engine=f"SQLite {sqlite3.sqlite_version}",
        )

    def _connect(self, make: Callable[[], Connection]) -> Connection:
        self._file.before_connecting()
        try:
            look_before(self.location)
            db = make()
            try:
                prepare(db, self.location, self.config, self._ttl)
                db.execute("PRAGMA busy_timeout = 0").fetchall()  # see patiently
            except BaseException:
                db.close()
                raise
        except MISUSE:
            raise
        except sqlite3.Error as exc:
            raise unavailable(exc, self.location) from exc
        self._file.connected(db)
        return db
