"""Keys in a SQLite file: the statements, and how a batch becomes one transaction.

Each method sends one function to the worker thread, which runs a whole transaction
there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import defaultdict
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .._backend import Confirm, Id, Operation, Place
    from .._config import SeenStoreConfig

T = TypeVar("T")

_ROW = """first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned"""
_READ_ONE = f"SELECT {_ROW} FROM seen WHERE namespace = ? AND id = ?"  # noqa: S608
_READ = f"""SELECT {_ROW}, seen.id FROM json_each(?) AS wanted
    CROSS JOIN seen ON namespace = ? AND seen.id = wanted.value"""  # noqa: S608
_WRITE = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MARK = """INSERT OR ROLLBACK INTO seen
        (namespace, id, first_seen, last_seen, expires_at)
    SELECT ?, value, ?, ?, ? FROM json_each(?)"""
_DELETE = "DELETE FROM seen WHERE namespace = ? AND id = ?"
_EXPIRED = "expires_at <= ?"
_OLD = """last_seen < ? AND (lease_until IS NULL OR lease_until <= ?
    AND on_abandoned IS NOT 'hold')"""
_LAST = """SELECT namespace, id FROM seen WHERE {span}
    ORDER BY namespace, id LIMIT 1 OFFSET ?"""
_ANY = "SELECT 1 FROM seen WHERE {span} AND {condition} LIMIT 1"
_REMOVE = "DELETE FROM seen WHERE {span} AND {condition}"
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
_HELD = """SELECT id, namespace, first_seen, last_seen, expires_at
    FROM seen INDEXED BY seen_hold
    WHERE on_abandoned = 'hold' AND lease_until <= ?{scope} ORDER BY namespace, id"""
_SCOPE = " AND namespace = ?"

_AT_ONCE = 1_024  # keys in a statement; a power of two, so that few sizes are compiled


class _Removal(NamedTuple):
    """Which rows a step of a long removal looks at, and which of them go."""

    namespace: str | None
    after: Place | None
    limit: int
    age: float | None
    """Seconds since the last mark; ``None`` takes what is expired."""

    def condition(self, now: float) -> tuple[str, tuple[float, ...]]:
        """Say which rows go, and the values that it needs."""
        if self.age is None:
            return _EXPIRED, (now,)
        return _OLD, (now - self.age, now)

    def span(self, last: Place | None = None) -> tuple[str, list[str]]:
        """Name the rows from ``after`` to ``last`` as SQLite can seek them."""
        if self.namespace is None:
            span, values, place, mark = "true", [], "(namespace, id)", "(?, ?)"
        else:
            span, values, place, mark = "namespace = ?", [self.namespace], "id", "?"
        for comparison, id_ in ((">", self.after), ("<=", last)):
            if id_:
                span += f" AND {place} {comparison} {mark}"
                values += id_ if self.namespace is None else id_[1:]
        return span, values


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
        removal = _Removal(namespace, resume, limit, age=None)
        wait = self.config.timeout if patience is None else patience
        return await self._run(lambda db: self._remove(db, removal, wait))

    async def cleanup(
        self, age: float, *, namespace: str | None, limit: int, resume: Place | None
    ) -> Chunk:
        removal = _Removal(namespace, resume, limit, age)
        wait = self.config.timeout
        return await self._run(lambda db: self._remove(db, removal, wait))

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._look(lambda db: self._count(db, namespace))

    async def held(self, namespace: str | None) -> list[Record]:
        return await self._look(lambda db: self._held(db, namespace))

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
            found = _read(db, operations)
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
                _write(db, found, changes)
            return applied

        return in_transaction(db, self.location, work, self.config.timeout)

    def _remove(self, db: Connection, removal: _Removal, timeout: float) -> Chunk:
        def work() -> Chunk:
            span, values = removal.span()
            last = _LAST.format(span=span), (*values, removal.limit - 1)
            end = db.execute(*last).fetchone()
            span, values = removal.span(end)
            condition, bounds = removal.condition(self._now())
            gone = {"span": span, "condition": condition}
            parameters = *values, *bounds
            if db.execute(_ANY.format(**gone), parameters).fetchone() is None:
                return Chunk(0, end)
            return Chunk(db.execute(_REMOVE.format(**gone), parameters).rowcount, end)

        return in_transaction(db, self.location, work, timeout)

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


def _read(db: Connection, operations: Sequence[Operation[object]]) -> dict[Id, Row]:
    """Read the rows that a batch is about."""
    if len(operations) == 1:
        id_ = operations[0].namespace, operations[0].key
        row = db.execute(_READ_ONE, id_).fetchone()
        return {id_: Row(*row)} if row else {}
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for operation in operations:
        keys[operation.namespace].append(operation.key)
    rows: dict[Id, Row] = {}
    for namespace, names in keys.items():
        for wanted in _in_json(names):
            for *row, name in db.execute(_READ, (wanted, namespace)):
                rows[namespace, name] = Row(*row)
    return rows


def _write(
    db: Connection, found: Mapping[Id, Row], changes: Mapping[Id, Row | None]
) -> None:
    """Write what has changed, in few statements.

    At the end of each one the thread asks for the GIL again, and a busy event loop may
    keep it waiting for milliseconds.
    """
    marks: defaultdict[tuple[str, Row], list[str]] = defaultdict(list)
    rows: list[tuple[object, ...]] = []
    for id_, row in changes.items():
        if row is None:
            db.execute(_DELETE, id_)
        elif row.attempt or id_ in found or len(changes) == 1:
            rows.append(id_ + row)
        else:
            marks[id_[0], row].append(id_[1])
    for (namespace, row), names in marks.items():
        for fresh in _in_json(names):
            db.execute(_MARK, (namespace, *row[:3], fresh))
    size, first = _AT_ONCE, 0
    while first < len(rows):
        while size > len(rows) - first:
            size //= 2
        db.execute(_write_many(size), [*chain(*rows[first : first + size])])
        first += size


@cache
def _write_many(rows: int) -> str:
    return _WRITE + ", (?, ?, ?, ?, ?, ?, ?, ?, ?)" * (rows - 1)


def _in_json(names: list[str]) -> Iterator[str]:
    for first in range(0, len(names), _AT_ONCE):
        yield json.dumps(names[first : first + _AT_ONCE])


def _scope(namespace: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if namespace is None else (_SCOPE, (namespace,))
