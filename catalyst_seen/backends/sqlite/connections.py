"""The connections of a store: one for its calls, and others for what only reads."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..._errors import OutcomeUnknownError, StoreClosedError, StoreUnavailableError
from ..._logging import log
from .files import MEMORY, DatabaseFile
from .schema import precheck_file, prepare
from .transactions import MISUSE, SUSPECT, primary_code, retry_while_busy, unavailable
from .wal import WriteAheadLog
from .worker import Connection, NoThreadError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..._config import SeenStoreConfig

T = TypeVar("T")

_READERS = 4  # that take long, at once: each has a thread and a connection


class Connections:
    """Makes connections to one file, runs functions on them, and closes them.

    Attributes:
        path: The file, or ``":memory:"``.
        file: Which file it was when it was opened.
        wal: Its write-ahead log.
        made: How many were made for calls.
    """

    def __init__(self, path: str, config: SeenStoreConfig, ttl: float | None) -> None:
        """Connect to nothing yet.

        Args:
            path: The file, or ``":memory:"``.
            config: The SQLite settings.
            ttl: What the rows of an old store's file get, counted from their ``ts``.
        """
        self.path: str = path
        self.file: DatabaseFile = DatabaseFile(path)
        self.wal: WriteAheadLog = WriteAheadLog(
            self.file, is_used=config.wal_mode and path != MEMORY
        )
        self.made: int = 0
        self._config = config
        self._ttl = ttl
        self._worker: Worker | None = None
        self._is_closed = False
        self._places = asyncio.Semaphore(_READERS)
        self._reading: set[Worker] = set()

    async def open(self) -> None:
        """Make the one for calls."""
        self._worker = await self._connected()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function on the one for calls; on another one after an I/O error."""
        self._check_open()
        if self._worker is None or self._worker.is_suspect:
            self._drop()
            self._worker = await self._connected()
            log("warning", "connection_reopened", location=self.path)
        return await self._worker.run(lambda db: self._perform(db, work))

    async def read(self, work: Callable[[Connection], T], *, now: bool = False) -> T:
        """Run a function that only reads over a connection, and thread, of its own.

        Where there is a write-ahead log, that keeps nobody from writing.

        Args:
            work: The function; a database that is locked lets it run again.
            now: Do not wait until others, which may take long, have finished.
        """
        if self.path == MEMORY:
            return await self.run(work)
        if now:
            return await self._read(work)
        async with self._places:
            return await self._read(work)

    async def aclose(self) -> None:
        """Finish what was sent over the one for calls, and close it."""
        self._is_closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            try:
                await worker.run(self.wal.end)
            except BaseException:
                worker.abandon()
                raise
            await worker.aclose()

    def abandon(self) -> None:
        """Close all without waiting, from any thread, with or without a loop."""
        self._is_closed = True
        self._drop()
        for worker in list(self._reading):
            worker.leave()
            worker.abandon()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError("the store was closed before this call was sent")

    async def _connected(self) -> Worker:
        with self._translated():
            worker = self._new_worker(self._connect, self._config.timeout)
            await worker.open()
        self.made += 1
        if self._is_closed:
            worker.abandon()
            raise StoreClosedError("the store was closed while it was connecting")
        return worker

    async def _read(self, work: Callable[[Connection], T]) -> T:
        self._check_open()
        deadline = time.monotonic() + self._config.timeout

        def look(db: Connection) -> T:
            return self._perform(
                db, lambda db: retry_while_busy(lambda: work(db), deadline, db=db)
            )

        with self._translated():
            worker = self._new_worker(self._connect_to_read, timeout=0)
            self._reading.add(worker)
            try:
                return await worker.run_once(look)
            finally:
                self._reading.discard(worker)

    def _new_worker(
        self,
        connect: Callable[[Callable[[], Connection]], Connection],
        timeout: float,
    ) -> Worker:
        database, is_uri = self.path, self.path != MEMORY
        if is_uri:  # what is gone is not made anew
            database = f"{Path(self.path).as_uri()}?mode=rw"
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
                self.path,
                "an I/O error came before",
                "The next call connects again",
            )
        self.file.check()
        try:
            with self._translated():
                return work(db)
        except OutcomeUnknownError:
            db.is_suspect = True
            raise
        except StoreUnavailableError as exc:
            is_lasting = self.path != MEMORY  # another one would find nothing
            db.is_suspect = is_lasting and primary_code(exc.__cause__) in SUSPECT
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MISUSE:
            raise
        except sqlite3.Error as exc:
            raise unavailable(exc, self.path) from exc
        except NoThreadError as exc:
            raise StoreUnavailableError(
                self.path,
                str(exc),
                "Raise the limit of processes (ulimit -u), or end some",
            ) from exc

    def _connect(self, make: Callable[[], Connection]) -> Connection:
        self.file.before_connecting()
        with self._translated():
            precheck_file(self.path, self._config.file_mode)
        db = self._prepared(make, may_create=True)
        self.file.connected(db)
        return db

    def _connect_to_read(self, make: Callable[[], Connection]) -> Connection:
        self.file.check()
        return self._prepared(make, may_create=False)

    def _prepared(
        self, make: Callable[[], Connection], *, may_create: bool
    ) -> Connection:
        deadline = time.monotonic() + self._config.timeout
        with self._translated():
            db = make()

            def work() -> None:
                prepare(db, self.path, self._config, self._ttl, may_create=may_create)

            try:
                retry_while_busy(work, deadline, db=db)
                db.execute("PRAGMA busy_timeout = 0").fetchall()  # see patiently
            except BaseException:
                db.close()
                raise
        return db
