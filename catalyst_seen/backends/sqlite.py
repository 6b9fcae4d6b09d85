"""Keys in a SQLite file: the statements, and how a batch becomes one transaction.

Each method sends one function to the worker thread, which runs a whole transaction
there.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .._backend import BackendStats, Chunk
from .._errors import StoreClosedError, StoreUnavailableError
from .._log import log
from .._model import ON_ABANDONED, Record
from .._state import Row, step
from ._sqlite_file import MEMORY, File, size
from ._sqlite_schema import look_before, pragma, prepare
from ._sqlite_transaction import primary_code, transaction, translated
from ._worker import Connection, Worker

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .._backend import Operation
    from .._config import SeenStoreConfig

T = TypeVar("T")
Id = tuple[str, str]

_READ = """SELECT first_seen, last_seen, expires_at,
        token, attempt, lease_until, on_abandoned
    FROM seen WHERE namespace = ? AND id = ?"""
_WRITE = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM seen WHERE namespace = ? AND id = ?"
_PURGE = """DELETE FROM seen WHERE (namespace, id) IN (
    SELECT namespace, id FROM seen WHERE expires_at <= ? LIMIT ?)"""
_EXPIRED = "SELECT 1 FROM seen WHERE expires_at <= ? LIMIT 1"
_WALK = """SELECT namespace, id, {condition} FROM seen WHERE true{scope}{after}
    ORDER BY namespace, id LIMIT ?"""
_COUNT = """SELECT namespace, count(*) FROM seen
    WHERE (expires_at IS NULL OR expires_at > ?)
        AND (lease_until IS NULL OR lease_until <= ? AND on_abandoned = 'drop'){scope}
    GROUP BY namespace"""
_CLAIMS = """SELECT
        CASE WHEN lease_until > ? THEN 'claimed' ELSE on_abandoned END AS state,
        count(*)
    FROM seen
    WHERE lease_until IS NOT NULL AND (expires_at IS NULL OR expires_at > ?){scope}
    GROUP BY state"""
_OLD = """last_seen < ? AND (lease_until IS NULL OR lease_until <= ?
    AND on_abandoned IS NOT 'hold')"""
_HELD = """SELECT id, namespace, first_seen, last_seen, expires_at
    FROM seen INDEXED BY seen_hold
    WHERE on_abandoned = 'hold' AND lease_until <= ?{scope} ORDER BY namespace, id"""
_SCOPE = " AND namespace = ?"
_AFTER = " AND (namespace, id) > (?, ?)"


class _Condition(NamedTuple):
    """Which rows to remove."""

    sql: str
    bounds: tuple[float, ...]


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
        self._config = config
        self._ttl = ttl
        self._file = File(self._path)
        self._worker: Worker | None = None
        self._latest = 0.0
        self._is_closed = False

    @property
    def location(self) -> str:
        return self._path

    def now(self) -> float:
        """Wall time that never runs backwards while this store is open."""
        return max(self._latest, self._config.clock())

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

    async def apply(self, operations: Sequence[Operation[object]]) -> list[object]:
        return await self._run(lambda db: self._apply(db, operations))

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        resume: Id | None,
        patience: float | None,
    ) -> Chunk:
        def work(db: Connection) -> Chunk:
            with _waiting(db, patience):
                if namespace is None:
                    return self._purge(db, limit)
                expired = _Condition("expires_at <= ?", (self._now(),))
                return self._remove(db, expired, namespace, limit, resume)

        return await self._run(work)

    async def cleanup(
        self, age: float, *, namespace: str | None, limit: int, resume: Id | None
    ) -> Chunk:
        def work(db: Connection) -> Chunk:
            now = self._now()
            old = _Condition(_OLD, (now - age, now))
            return self._remove(db, old, namespace, limit, resume)

        return await self._run(work)

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._run(lambda db: self._count(db, namespace))

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._run(lambda db: self._held(db, namespace))

    async def stats(self, namespace: str | None) -> BackendStats:
        return await self._run(lambda db: self._stats(db, namespace))

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._is_closed:
            raise StoreClosedError("the store was closed before this call was sent")
        if self._worker is None or self._worker.is_suspect:
            self._drop()
            self._worker = await self._connected()
            log("warning", "connection_reopened", location=self.location)
        return await self._worker.run(lambda db: self._perform(db, work))

    async def _connected(self) -> Worker:
        worker = Worker(self._path, self._connect, timeout=self._config.timeout)
        await worker.open()
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
        try:
            self._file.check()
            with translated(self.location):
                return work(db)
        except StoreUnavailableError as exc:
            if primary_code(exc.__cause__) == sqlite3.SQLITE_IOERR:
                db.is_suspect = True
            raise

    def _now(self) -> float:
        self._latest = self.now()
        return self._latest

    def _apply(
        self, db: Connection, operations: Sequence[Operation[object]]
    ) -> list[object]:
        """Decide without a lock; only what changes something takes the write lock."""
        answers, changes = self._decide(db, operations, up_to_change=True)
        if changes:
            with transaction(db, self.location):
                answers, changes = self._decide(db, operations)
                _write(db, changes)
        return answers

    def _decide(
        self,
        db: Connection,
        operations: Sequence[Operation[object]],
        *,
        up_to_change: bool = False,
    ) -> tuple[list[object], dict[Id, Row | None]]:
        now = self._now()
        answers: list[object] = []
        rows: dict[Id, Row | None] = {}
        changes: dict[Id, Row | None] = {}
        for operation in operations:
            id_ = (operation.namespace, operation.key)
            row = rows[id_] if id_ in rows else _read(db, id_)
            answer, after = step(row, operation, now)
            answers.append(answer)
            rows[id_] = after
            if after is not row:
                changes[id_] = after
                if up_to_change:
                    break
        return answers, changes

    def _purge(self, db: Connection, limit: int) -> Chunk:
        """Remove what the index on ``expires_at`` names first; or only read."""
        now = self._now()
        if db.execute(_EXPIRED, (now,)).fetchone() is None:
            return Chunk(removed=0, resume=None)
        with transaction(db, self.location):
            removed = db.execute(_PURGE, (now, limit)).rowcount
        return Chunk(removed, resume=("", "") if removed == limit else None)

    def _remove(
        self,
        db: Connection,
        condition: _Condition,
        namespace: str | None,
        limit: int,
        resume: Id | None,
    ) -> Chunk:
        """Of the next rows in order, remove those that meet the condition."""
        scope, names = _scope(namespace)
        walk = _WALK.format(
            condition=condition.sql, scope=scope, after=_AFTER if resume else ""
        )
        values = (*condition.bounds, *names, *(resume or ()), limit)
        rows = db.execute(walk, values).fetchall()
        met = [(*id_, *condition.bounds) for *id_, is_met in rows if is_met]
        if met:
            with transaction(db, self.location):
                removal = f"{_DELETE} AND {condition.sql}"
                removed = db.executemany(removal, met).rowcount
        else:
            removed = 0
        return Chunk(removed, resume=rows[-1][:2] if len(rows) == limit else None)

    def _count(self, db: Connection, namespace: str | None) -> dict[str, int]:
        return self._counts(db, _COUNT, namespace)

    def _counts(
        self, db: Connection, query: str, namespace: str | None
    ) -> dict[str, int]:
        scope, names = _scope(namespace)
        now = self._now()
        return dict(db.execute(query.format(scope=scope), (now, now, *names)))

    def _held(self, db: Connection, namespace: str | None) -> list[Record]:
        scope, names = _scope(namespace)
        held = db.execute(_HELD.format(scope=scope), (self._now(), *names))
        return [Record(*row) for row in held]

    def _stats(self, db: Connection, namespace: str | None) -> BackendStats:
        claims = self._counts(db, _CLAIMS, namespace)
        return BackendStats(
            keys_by_namespace=self._count(db, namespace),
            claimed=claims.get("claimed", 0),
            abandoned={policy: claims.get(policy, 0) for policy in ON_ABANDONED},
            file_bytes=size(self._path),
            wal_bytes=size(f"{self._path}-wal"),
            free_pages=pragma(db, "freelist_count"),
            sqlite_version=sqlite3.sqlite_version,
        )

    def _connect(self, make: Callable[[], Connection]) -> Connection:
        self._file.before_connecting()
        with translated(self.location):
            look_before(self.location)
            db = make()
            try:
                prepare(db, self.location, self._config, self._ttl)
            except BaseException:
                db.close()
                raise
        self._file.connected(db)
        return db


def _read(db: Connection, id_: Id) -> Row | None:
    row = db.execute(_READ, id_).fetchone()
    return row and Row(*row)


def _write(db: Connection, changes: Mapping[Id, Row | None]) -> None:
    db.executemany(_WRITE, [(*id_, *row) for id_, row in changes.items() if row])
    db.executemany(_DELETE, [id_ for id_, row in changes.items() if row is None])


@contextmanager
def _waiting(db: Connection, patience: float | None) -> Iterator[None]:
    """Wait for other writers only so long, in seconds; ``None`` changes nothing."""
    if patience is None:
        yield
        return
    usual = pragma(db, "busy_timeout")
    db.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}").fetchall()
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {usual}").fetchall()


def _scope(namespace: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if namespace is None else (_SCOPE, (namespace,))
