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
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from .._backend import Applied, BackendStats, Chunk, Row
from .._errors import (
    ConfigurationError,
    OutcomeUnknownError,
    StoreClosedError,
    StoreUnavailableError,
)
from .._log import log
from .._model import ON_ABANDONED, CheckReport, Record
from .._state import step
from . import _sqlite_rows as rows
from ._sqlite_backup import Copy
from ._sqlite_check import check
from ._sqlite_file import MEMORY, File, size
from ._sqlite_schema import look_before, pragma, prepare
from ._sqlite_space import has_slack, tighten
from ._sqlite_transaction import (
    MISUSE,
    SUSPECT,
    in_transaction,
    is_busy,
    patiently,
    primary_code,
    unavailable,
)
from ._sqlite_wal import WriteAheadLog
from ._worker import Connection, NoThreadError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .._backend import Confirm, Id, Look, Operation, Place
    from .._config import SeenStoreConfig

T = TypeVar("T")

_READERS = 4  # that take long, at once: each has a thread and a connection
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
        self._ttl = ttl
        self.upkeep: asyncio.Event | None = (
            None if self._path == MEMORY else asyncio.Event()
        )
        self._file = File(self._path)
        is_logged = config.wal_mode and self._path != MEMORY
        self._wal = WriteAheadLog(self._file, is_used=is_logged)
        self._aside = asyncio.Semaphore(_READERS)
        self._reading: set[Worker] = set()
        self._worker: Worker | None = None
        self._connections = 0
        self._latest = 0.0
        self._telling = threading.Lock()
        self._is_closed = False

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
        self._worker = await self._connected()

    async def aclose(self) -> None:
        self._is_closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            try:
                await worker.run(self._wal.end)
            except BaseException:
                worker.abandon()
                raise
            await worker.aclose()

    def abandon(self) -> None:
        self._is_closed = True
        self._drop()
        for worker in list(self._reading):
            worker.leave()
            worker.abandon()

    async def apply(
        self, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        return await self._run(lambda db: self._apply(db, operations, look=look))

    async def look(self, looks: Sequence[Look]) -> list[Record | None] | None:
        if self._path == MEMORY:
            return None
        return await self._look_now(lambda db: self._records(db, looks))

    async def look_after(self) -> None:
        await self._run(self._wal.look_after)

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
        return await self._look(lambda db: rows.count(db, namespace, self.now()))

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._look(lambda db: rows.held(db, namespace, self.now()))

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._look(lambda db: self._stats(db, namespace))

    async def check(self, *, is_full: bool) -> CheckReport:
        clock = self.config.clock
        return await self._look(
            lambda db: check(db, self._file, self._wal, clock(), is_full=is_full)
        )

    async def backup(self, path: str) -> None:
        copy = Copy(path, self.config.timeout)
        copy.check()
        async with self._aside:
            await self._read(copy.make)

    async def _look(self, work: Callable[[Connection], T]) -> T:
        async with self._aside:
            return await self._look_now(work)

    async def _look_now(self, work: Callable[[Connection], T]) -> T:
        deadline = time.monotonic() + self.config.timeout
        return await self._read(lambda db: patiently(lambda: work(db), deadline, db=db))

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._is_closed:
            raise StoreClosedError("the store was closed before this call was sent")
        if self._worker is None or self._worker.is_suspect:
            self._drop()
            self._worker = await self._connected()
            log("warning", "connection_reopened", location=self.location)
        answer = await self._worker.run(lambda db: self._perform(db, work))
        if self._wal.is_due and self.upkeep is not None:
            self.upkeep.set()
        return answer

    async def _connected(self) -> Worker:
        with self._translated():
            worker = self._new_worker(self._connect, self.config.timeout)
            await worker.open()
        self._connections += 1
        if self._is_closed:
            worker.abandon()
            raise StoreClosedError("the store was closed while it was connecting")
        return worker

    async def _read(self, work: Callable[[Connection], T]) -> T:
        """Read what takes long over a connection, and on a thread, of its own.

        Where there is a write-ahead log, that keeps nobody from writing.
        """
        if self._path == MEMORY:
            return await self._run(work)
        if self._is_closed:
            raise StoreClosedError("the store was closed before this call was sent")
        with self._translated():
            worker = self._new_worker(self._connect_to_read, timeout=0)
            self._reading.add(worker)
            try:
                return await worker.run_once(lambda db: self._perform(db, work))
            finally:
                self._reading.discard(worker)

    def _new_worker(
        self,
        connect: Callable[[Callable[[], Connection]], Connection],
        timeout: float,
    ) -> Worker:
        database, is_uri = self._path, self._path != MEMORY
        if is_uri:  # what is gone is not made anew
            database = f"{Path(self._path).as_uri()}?mode=rw"
        return Worker(database, connect, timeout=timeout, uri=is_uri)

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
            with self._translated():
                return work(db)
        except OutcomeUnknownError:
            db.is_suspect = True
            raise
        except StoreUnavailableError as exc:
            is_lasting = self._path != MEMORY  # another one would find nothing
            db.is_suspect = is_lasting and primary_code(exc.__cause__) in SUSPECT
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MISUSE:
            raise
        except sqlite3.Error as exc:
            raise unavailable(exc, self.location) from exc
        except NoThreadError as exc:
            raise StoreUnavailableError(
                self.location,
                str(exc),
                "Raise the limit of processes (ulimit -u), or end some",
            ) from exc

    def _apply(
        self, db: Connection, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        def work() -> Applied:
            version = (self._connections, pragma(db, "data_version")) if look else None
            now = self.now()
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

        return self._in_transaction(db, work, self.config.timeout)

    def _records(self, db: Connection, looks: Sequence[Look]) -> list[Record | None]:
        now = self.now()
        found = rows.read(db, looks)
        answers = [
            step(found.get((one.namespace, one.key)), one, now)[0] for one in looks
        ]
        return cast("list[Record | None]", answers)

    def _remove(self, db: Connection, removal: rows.Removal, timeout: float) -> Chunk:
        deadline = time.monotonic() + timeout
        if removal.after == _TIGHTEN:
            is_more = _if_free(lambda: tighten(db), deadline)
            self._wal.written()
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
            self._wal.written()
        return answer

    def _stats(self, db: Connection, namespace: str | None) -> BackendStats:
        now = self.now()
        claims = rows.count_claims(db, namespace, now)
        return BackendStats(
            keys_by_namespace=rows.count(db, namespace, now),
            claimed=claims.get("claimed", 0),
            abandoned={policy: claims.get(policy, 0) for policy in ON_ABANDONED},
            file_bytes=size(self._path),
            wal_bytes=self._wal.bytes,
            free_pages=pragma(db, "freelist_count"),
            checkpoint_failures=self._wal.failures,
            wal_pinned=self._wal.pinned,
            engine=f"SQLite {sqlite3.sqlite_version}",
            alarms=tuple(self._wal.alarms()),
        )

    def _connect(self, make: Callable[[], Connection]) -> Connection:
        self._file.before_connecting()
        with self._translated():
            look_before(self.location, self.config.file_mode)
        db = self._prepared(make, may_create=True)
        self._file.connected(db)
        return db

    def _connect_to_read(self, make: Callable[[], Connection]) -> Connection:
        self._file.check()
        return self._prepared(make, may_create=False)

    def _prepared(
        self, make: Callable[[], Connection], *, may_create: bool
    ) -> Connection:
        deadline = time.monotonic() + self.config.timeout
        with self._translated():
            db = make()

            def work() -> None:
                prepare(
                    db, self.location, self.config, self._ttl, may_create=may_create
                )

            try:
                patiently(work, deadline, db=db)
                db.execute("PRAGMA busy_timeout = 0").fetchall()  # see patiently
            except BaseException:
                db.close()
                raise
        return db


def _if_free(work: Callable[[], bool], deadline: float) -> bool:
    """Do what is a courtesy only: if others keep the lock for long, leave it."""
    try:
        return patiently(work, deadline)
    except sqlite3.OperationalError as exc:
        if not is_busy(exc):
            raise
        return False
