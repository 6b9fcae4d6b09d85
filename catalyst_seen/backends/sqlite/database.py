"""The synchronous core: one connection to the database of a store.

Nothing here knows an event loop or a thread. A worker runs these methods on its thread,
one at a time; a test calls them directly.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..._errors import OutcomeUnknownError, StoreUnavailableError
from .._unfinished import MARK, check_finished
from ..base import PageResult
from . import (
    batch,
    driver,
    health,
    inspection,
    listings,
    namespaces,
    records,
    transfer,
    wal,
)
from .backup import Backup
from .errors import CORRUPTION_CODES, FATAL_CODES, primary_code, translated
from .files import check_room
from .maintenance import VACUUM, remove_page, vacuum_page
from .removal import Removal
from .schema import precheck_file, prepare
from .transactions import Deadline, in_snapshot, in_transaction, retry_while_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..._types import CheckReport
    from ..base import BackendStats, BatchResult, Cursor, RecordPage, Selection
    from ..listings import Fail, Observe, Observed, SourceRecord, WaitingPage
    from ..operations import Operation
    from .shared import SharedState

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """A connection to the database of a store, and every operation on it.

    There are two kinds: the connection for calls, and short-lived readers that serve
    one read-only call each, beside the first one.

    ``abort`` and the flags may be used by any thread; all else, by one thread at a
    time.

    Attributes:
        shared: The state that all connections of the store share.
        location: The path, for people.
        needs_reconnect: Set after a fatal error: this connection may have a wrong view
            of the file, and must be replaced.
        generation: Number of this connection among those of the store; a reader has
            none.
    """

    def __init__(
        self,
        shared: SharedState,
        *,
        generation: int = 0,
        reads_until: float | None = None,
    ) -> None:
        """Create a closed database; no I/O.

        Args:
            shared: The state of the store.
            generation: Makes the versions that this connection samples unequal to those
                of its predecessor.
            reads_until: End of all waits of a reader, by ``time.monotonic``; ``None``
                for the connection for calls, whose calls each wait for ``timeout``.
        """
        self.shared = shared
        self.location: str = shared.path
        self.generation = generation
        self.needs_reconnect: bool = False
        self._reads_until = reads_until
        self._abort = Event()
        self._db: driver.Connection | None = None

    @property
    def abort_requested(self) -> bool:
        """Was the current call aborted?"""
        return self._abort.is_set()

    def open(self) -> None:
        """Connect, and prepare settings and schema. A failed open leaves nothing.

        Raises:
            ConfigurationError: SQLite is too old.
            SchemaError: The file is not a store; it is untouched.
            StoreUnavailableError: Cannot connect, or a move to it has not ended.
        """
        if self._reads_until is not None:
            self.shared.file.check()
            self._connect(sqlite_timeout=0)
            return
        self.shared.file.check_before_connecting()
        with translated(self.location):
            precheck_file(self.location, self.shared.config)
        self._connect(sqlite_timeout=self.shared.config.timeout_seconds)
        self.shared.file.register(id(self))
        if not self.shared.opens_unfinished:
            self._check_finished()

    def close(self) -> None:
        """Disconnect. Idempotent."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
            self.shared.file.unregister(id(self))

    def abort(self) -> None:
        """End the current call soon, from another thread; only for a reader.

        Its statement is interrupted, its retries end. On a connection that callers
        share, an interrupt could hit the statement of another call.
        """
        self._abort.set()
        db = self._db
        if db is not None:
            with suppress(*driver.Misuse):  # it is closed already
                db.interrupt()

    def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        until: float | None = None,
    ) -> BatchResult:
        """Execute a batch in one transaction.

        Args:
            operations: The batch.
            sample_version: Sample ``data_version``?
            until: End of its waits for locks, by ``time.monotonic``; ``None`` is
                ``timeout`` from now.
        """
        deadline = self._deadline() if until is None else Deadline(until, self._abort)
        with self._guarded() as db:
            result = in_transaction(
                db,
                self.location,
                deadline,
                batch.execute,
                operations,
                self.shared.now,
                sample_version=sample_version,
            )
        if sample_version:
            return result._replace(version=(self.generation, result.version))
        return result

    def read(self, reads: Sequence[Operation[object]]) -> list[object]:
        """Read keys; as a batch would, but never with the write lock."""
        result = self._retried(
            in_snapshot, batch.execute, reads, self.shared.now, sample_version=False
        )
        return result.results

    def query(
        self,
        function: Callable[Concatenate[driver.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that only reads, on one snapshot."""
        with self._guarded() as db:
            return retry_while_busy(
                self._deadline(), lambda: in_snapshot(db, function, *args, **kwargs)
            )

    def change(
        self,
        function: Callable[Concatenate[driver.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that writes, in one transaction; perhaps twice."""
        with self._guarded() as db:
            return in_transaction(
                db, self.location, self._deadline(), function, *args, **kwargs
            )

    def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        """Remove the expired rows of one page."""
        removal = Removal("expired", namespace, limit, cursor)
        return self._remove(removal, self._deadline(lock_timeout))

    def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        """Remove those rows of one page that were last marked ``age`` seconds ago."""
        removal = Removal("old", namespace, limit, cursor, age)
        return self._remove(removal, self._deadline(lock_timeout))

    def clear(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        """Remove all rows of one page."""
        removal = Removal("all", namespace, limit, cursor)
        return self._remove(removal, self._deadline(lock_timeout))

    def rename(self, namespace: str, name: str) -> bool:
        """Rename a namespace; false if the new name is occupied."""
        return self.change(namespaces.rename, namespace, name, self.shared.now)

    def probe(self) -> None:
        """Commit a write that changes nothing, on a disk with room for more."""
        self.change(namespaces.probe)
        if self.shared.is_file:
            check_room(self.shared.path)

    def observe(self, request: Observe) -> Observed | None:
        """Record the listing of a source."""
        return self.change(listings.observe, request, self.shared.now)

    def fail(self, failure: Fail) -> None:
        """Record that a source could not be polled."""
        self.change(listings.fail, failure)

    def source(self, namespace: str) -> SourceRecord | None:
        """Read the state of a source."""
        return self.query(listings.read_source, namespace, self.shared.now())

    def sources(self) -> dict[str, SourceRecord]:
        """Read the states of all sources."""
        return self.query(listings.read_sources, self.shared.now())

    def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        """Read the keys that were observed and can be claimed."""
        now = self.shared.now()
        return self.query(listings.read_waiting, namespace, now, after, limit)

    def count(self, namespace: str | None) -> Mapping[str, int]:
        """Count the seen keys of each namespace that has any."""
        return self._retried(inspection.count, namespace, self.shared.now())

    def has_any(self, namespace: str | None) -> bool:
        """Is there a seen key?"""
        return self._retried(inspection.has_any, namespace, self.shared.now())

    def namespaces(self) -> list[str]:
        """List the namespaces that have a key which is not unseen."""
        return self._retried(inspection.names, self.shared.now())

    def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        """Read a page of records."""
        now = self.shared.now()
        return self.query(records.read_page, selection, now, limit, cursor)

    def stats(self, namespace: str | None) -> BackendStats:
        """Measure the database."""
        return self._retried(health.stats, self.shared, namespace)

    def check(self, *, is_full: bool) -> CheckReport:
        """Run a health check."""
        return self._retried(health.check, self.shared, is_full=is_full)

    def backup(self, path: str) -> None:
        """Copy the database to a new file."""
        with self._guarded() as db:
            Backup(path, self.shared.config.sqlite).create(db, self._deadline())

    def maintain(self) -> None:
        """Run a checkpoint, if one is due."""
        with self._guarded() as db:
            self.shared.wal.maintain(db)

    def truncate_log(self) -> None:
        """Empty the write-ahead log before a regular close."""
        self.shared.wal.truncate(self._open_connection())

    def _connect(self, sqlite_timeout: float) -> None:
        config, location = self.shared.config, self.location
        deadline = self._deadline()
        is_uri, database = self.shared.is_file, location
        if is_uri:  # "rw" does not create a file that is missing
            database = f"{Path(location).as_uri()}?mode=rw"
        with translated(location):
            self._db = db = driver.connect(
                database,
                is_uri=is_uri,
                library=config.sqlite,
                timeout=sqlite_timeout,
                factory=config.tuning.sqlite_factory,
            )
            try:
                retry_while_busy(
                    deadline,
                    prepare,
                    db,
                    location,
                    config,
                    self.shared.ttl,
                    deadline,
                    may_create=self._reads_until is None,
                )
                db.execute("PRAGMA busy_timeout = 0").fetchall()  # see retry_while_busy
                self.shared.wal.limit = wal.limit(db)
            except BaseException:
                self.close()
                raise

    def _check_finished(self) -> None:
        """Refuse a file to which a move has not ended.

        A damaged page is left to the calls that need it, and to a check: a close after
        a failed open would write the log into a file that should stay as it is.
        """
        try:
            # A mark never expires, so that no time is asked for.
            (row,) = self.query(transfer.read, lambda: 0.0, [MARK])
            check_finished(row, self.location)
        except BaseException as exc:
            if primary_code(exc.__cause__) in CORRUPTION_CODES:
                self.needs_reconnect = False
                return
            self.close()
            raise

    def _open_connection(self) -> driver.Connection:
        if self._db is None:
            raise driver.Misuse[0]("the database is not open")
        return self._db

    @contextmanager
    def _guarded(self) -> Iterator[driver.Connection]:
        """Check that the connection is usable, and watch what happens on it.

        A cancelled call may still be queued behind one that met an I/O error. It must
        not run after the calls that its caller has sent since, over a new connection.
        """
        db = self._open_connection()
        if self.needs_reconnect:
            raise StoreUnavailableError(
                self.location,
                "an I/O error came before",
                "The next call connects again",
            )
        self.shared.file.check()
        changes = db.total_changes
        try:
            with translated(self.location):
                yield db
        except OutcomeUnknownError:
            self.needs_reconnect = True
            raise
        except StoreUnavailableError as exc:
            # A new connection to a database in memory would find nothing.
            is_fatal = primary_code(exc.__cause__) in FATAL_CODES
            self.needs_reconnect = is_fatal and self.shared.is_file
            raise
        finally:
            if db.total_changes != changes:
                self.shared.wal.record_write()

    def _deadline(self, timeout: float | None = None) -> Deadline:
        if self._reads_until is not None:
            return Deadline(self._reads_until, self._abort)
        if timeout is None:
            timeout = self.shared.config.timeout_seconds
        return Deadline(time.monotonic() + timeout, self._abort)

    def _retried(
        self,
        function: Callable[Concatenate[driver.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that only reads, and retry while the database is locked."""
        with self._guarded() as db:
            return retry_while_busy(self._deadline(), function, db, *args, **kwargs)

    def _remove(self, removal: Removal, deadline: Deadline) -> PageResult:
        with self._guarded() as db:
            if removal.cursor == VACUUM:
                cursor = vacuum_page(db, deadline)
                self.shared.wal.record_write()
                return PageResult(0, cursor)
            removed, cursor = remove_page(
                db, self.location, deadline, removal, self.shared.now
            )
            return PageResult(removed, cursor)
