"""SQLite's synchronous core, without an event loop and without another thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from catalyst_seen import (
    ConfigurationError,
    OutcomeUnknownError,
    Record,
    SchemaError,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
)
from catalyst_seen.backends.base import PageResult
from catalyst_seen.backends.operations import CheckAndMark, Forget, Get, Mark, Operation
from catalyst_seen.backends.sqlite.database import Database
from catalyst_seen.backends.sqlite.shared import SharedState

from ...support.clock import NOON, Clock
from ...support.locks import write_lock
from ...support.scripts import Run
from ...support.sqlite_faults import SqliteFaults, sqlite_error
from ...support.sqlite_files import a_row, read, write

SOON = 0.05
"""Seconds that these databases wait for a lock."""


@pytest.fixture
def faults() -> SqliteFaults:
    """Faults of the connections of ``shared_state``."""
    return SqliteFaults()


@pytest.fixture
def shared_state(path: Path, clock: Clock, faults: SqliteFaults) -> SharedState:
    """The state of a store on a file."""
    config = SeenStoreConfig(path, clock=clock, timeout=SOON, tuning=faults.tuning)
    return SharedState(str(path), config, ttl=60)


@pytest.fixture
def database(shared_state: SharedState) -> Iterator[Database]:
    """An open database."""
    made = Database(shared_state)
    made.open()
    with closing(made):
        yield made


def mark(key: str, ttl: float | None = None) -> Mark:
    """Make an operation."""
    return Mark("", key, ttl)


def apply(database: Database, *operations: Operation[object]) -> list[object]:
    """Execute a batch."""
    return database.apply(operations, sample_version=False).results


def purge(database: Database, **options: object) -> PageResult:
    """Purge one page."""
    page = {"namespace": None, "limit": 10, "cursor": None, "lock_timeout": None}
    return database.purge(**page | options)  # type: ignore[arg-type]


def test_batch(database: Database, path: Path) -> None:
    """A later operation of a batch sees the effect of an earlier one."""
    first, again, forgotten, fresh = apply(
        database,
        CheckAndMark("", "k", None),
        CheckAndMark("", "k", None),
        Forget("", "k"),
        CheckAndMark("", "k", None),
    )
    assert [bool(first), bool(again), forgotten, bool(fresh)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert read(path, "SELECT key FROM seen") == [("k",)]


def test_version(database: Database, path: Path) -> None:
    """The sampled version changes by what others write, and with the connection."""
    before = database.apply([Get("", "k")], sample_version=True).version
    apply(database, mark("k"))
    own = database.apply([Get("", "k")], sample_version=True).version
    write(path, *a_row("", "other"))
    after = database.apply([Get("", "k")], sample_version=True).version
    assert before == own != after
    with closing(Database(database.shared, generation=1)) as second:
        second.open()
        assert second.apply([], sample_version=True).version not in {own, after}


def test_time_never_runs_backwards(database: Database, clock: Clock) -> None:
    """All connections of a store share a clock that is never set back."""
    apply(database, mark("before"))
    clock.advance(-10)
    apply(database, mark("k"))
    reader = Database(database.shared, reads_until=1e12)
    reader.open()
    with closing(reader):
        assert reader.read([Get("", "k")]) == [
            Record("k", "", "seen", NOON, NOON, None)
        ]


def test_purge(database: Database, clock: Clock, path: Path) -> None:
    """Purges go page by page, and remove what has expired."""
    apply(database, *(mark(f"{number:02}", 5) for number in range(15)), mark("kept"))
    clock.advance(10)
    first = purge(database)
    assert (first.removed, first.cursor) == (10, ("1", "09\0"))
    second = purge(database, cursor=first.cursor)
    assert (second.removed, second.cursor) == (5, None)
    assert read(path, "SELECT key FROM seen") == [("kept",)]


def test_vacuum_after_a_purge(database: Database, clock: Clock, path: Path) -> None:
    """Space that a purge has freed is returned in pages of its own."""
    apply(database, *(mark(f"{number:060}", 5) for number in range(5_000)))
    clock.advance(10)
    page = purge(database, limit=10_000)
    assert page.removed == 5_000
    pages = 0
    while page.cursor is not None:
        page = purge(database, cursor=page.cursor)
        pages += 1
    assert pages
    (free,) = read(path, "PRAGMA freelist_count")[0]
    assert isinstance(free, int)
    assert free < 20


def test_cleanup(database: Database, clock: Clock) -> None:
    """A cleanup removes what was marked long ago."""
    apply(database, mark("old"))
    clock.advance(10)
    apply(database, mark("new"))
    page = database.cleanup(5, namespace="", limit=10, cursor=None)
    assert page == PageResult(1, None)
    assert database.count(None) == {"": 1}


def test_inspection(database: Database, path: Path, tmp_path: Path) -> None:
    """Counts, a health check and a backup need nothing but the connection."""
    apply(database, mark("a"), mark("b"))
    assert database.count("") == {"": 2}
    assert database.has_any(None)
    assert database.namespaces() == [""]
    assert database.stats(None).keys_by_namespace == {"": 2}
    assert database.check(is_full=True)
    copy = tmp_path / "copy.db"
    database.backup(str(copy))
    assert read(copy, "SELECT key FROM seen") == [("a",), ("b",)]
    with pytest.raises(ConfigurationError, match="is there already"):
        database.backup(str(path))


def test_failed_batch_is_rolled_back(
    database: Database, path: Path, faults: SqliteFaults
) -> None:
    """A batch that fails in the middle stores nothing, and holds no lock."""

    def fail(insert: Callable[[], object]) -> object:
        insert()
        raise sqlite_error("SQLITE_FULL")

    faults.replace("INSERT OR ROLLBACK INTO seen", fail)
    with pytest.raises(StoreUnavailableError, match="Free some space"):
        apply(database, mark("a"), mark("b"))
    write(path, *a_row("", "other"))
    assert not database.needs_reconnect
    assert database.count(None) == {"": 1}


def test_bug_is_rolled_back(database: Database, path: Path) -> None:
    """A bug passes untouched, stores nothing, and holds no lock."""
    with pytest.raises(KeyError):
        apply(database, mark("a"), Operation("", "b"))
    write(path, *a_row("", "other"))
    assert database.count(None) == {"": 1}


def test_killed_in_a_transaction(path: Path, run_script: Run) -> None:
    """A process that dies between its statements and its commit has stored nothing."""
    script = """
        import os, sqlite3, sys
        from catalyst_seen import SeenStoreConfig
        from catalyst_seen._tuning import Tuning
        from catalyst_seen.backends.operations import Mark
        from catalyst_seen.backends.sqlite.database import Database
        from catalyst_seen.backends.sqlite.shared import SharedState
        inserted = 0
        class Dying(sqlite3.Connection):
            def execute(self, sql, *parameters):
                global inserted
                inserted += sql.startswith("INSERT INTO seen")
                if sql == "COMMIT" and inserted == 2:
                    os._exit(9)
                return super().execute(sql, *parameters)
        config = SeenStoreConfig(sys.argv[1], tuning=Tuning(sqlite_factory=Dying))
        database = Database(SharedState(sys.argv[1], config, None))
        database.open()
        database.apply([Mark("", "first", None)], sample_version=False)
        database.apply([Mark("", "second", None)], sample_version=False)
    """
    assert run_script(script, str(path)).returncode == 9
    assert read(path, "SELECT key FROM seen") == [("first",)]


@pytest.mark.parametrize("is_done", [False, True])
def test_io_error_at_commit(
    database: Database, faults: SqliteFaults, *, is_done: bool
) -> None:
    """Such a batch may be stored or not; its connection is not used again."""
    faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC", [is_done])
    with pytest.raises(OutcomeUnknownError):
        apply(database, mark("k"))
    assert database.needs_reconnect
    for call in (lambda: apply(database, mark("k")), lambda: database.count(None)):
        with pytest.raises(StoreUnavailableError, match="an I/O error came before"):
            call()
    with closing(Database(database.shared)) as second:
        second.open()
        assert bool(second.count(None)) is is_done


@pytest.mark.parametrize(
    ("error", "is_fatal"),
    [
        ("SQLITE_IOERR_READ", True),
        ("SQLITE_CORRUPT", True),
        ("SQLITE_NOTADB", True),
        ("SQLITE_CANTOPEN", True),
        ("SQLITE_FULL", False),
        ("SQLITE_READONLY", False),
        ("SQLITE_ERROR", False),
    ],
)
def test_fatal_errors(
    database: Database, faults: SqliteFaults, error: str, *, is_fatal: bool
) -> None:
    """After an error that may come of a wrong view of the file, another one is needed.

    Nothing was stored, so it is a plain failure.
    """
    faults.refuse("SELECT", error)
    with pytest.raises(StoreUnavailableError, match=error) as caught:
        apply(database, mark("k"))
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert database.needs_reconnect is is_fatal


def test_memory_is_never_replaced(
    shared_state: SharedState, faults: SqliteFaults
) -> None:
    """A new connection to a database in memory would find nothing."""
    config = shared_state.config
    with closing(Database(SharedState(":memory:", config, None))) as database:
        database.open()
        apply(database, mark("k"))
        faults.refuse("SELECT", "SQLITE_IOERR_READ")
        with pytest.raises(StoreUnavailableError):
            apply(database, Get("", "k"))
        assert not database.needs_reconnect
        assert database.count(None) == {"": 1}


def test_locked(database: Database, path: Path) -> None:
    """A batch that writes waits for the lock until its deadline; reads go on."""
    apply(database, mark("k"))
    with write_lock(path):
        with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
            apply(database, mark("new"))
        (sighting,) = apply(database, CheckAndMark("", "k", None))
        assert not sighting
    assert not database.needs_reconnect
    apply(database, mark("new"))


def test_retry_under_the_lock(
    database: Database, path: Path, faults: SqliteFaults, clock: Clock
) -> None:
    """If another process writes between read and write, the batch decides anew."""
    is_first = True

    def meanwhile(insert: Callable[[], object]) -> object:
        nonlocal is_first
        if is_first:
            is_first = False
            write(path, *a_row("", "k"))
            clock.advance(5)
        return insert()

    faults.replace("INSERT", meanwhile)
    lost, won = apply(database, CheckAndMark("", "k", 1), CheckAndMark("", "l", 1))
    assert not lost
    assert won
    assert read(path, "SELECT last_seen FROM seen WHERE key = 'l'") == [(NOON + 5,)]


def test_reader(database: Database) -> None:
    """A reader reads beside the connection for calls, and creates no file."""
    apply(database, mark("k"))
    reader = Database(database.shared, reads_until=1e12)
    reader.open()
    with closing(reader):
        assert reader.read([Get("", "k"), Get("", "l")]) == [
            Record("k", "", "seen", NOON, NOON, None), None,
        ]  # fmt: skip
        assert reader.count(None) == {"": 1}


def test_aborted_reader(database: Database, path: Path, faults: SqliteFaults) -> None:
    """A reader that is aborted ends its statement, and its wait for a lock."""
    apply(database, mark("k"))
    reader = Database(database.shared, reads_until=1e12)
    reader.open()

    def abort(_: Callable[[], object]) -> object:
        reader.abort()
        raise sqlite_error("SQLITE_BUSY")

    faults.replace("SELECT (SELECT name", abort)
    with closing(reader):
        with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
            reader.count(None)
        assert reader.abort_requested
        with pytest.raises(StoreClosedError):
            reader.backup(str(path.with_name("copy.db")))
    assert not path.with_name("copy.db").exists()
    reader.abort()  # after its end it has no effect


def test_failed_open(path: Path, shared_state: SharedState) -> None:
    """A failed open leaves nothing, and may be tried again."""
    path.write_bytes(b"junk" * 1_000)
    database = Database(shared_state)
    for _ in range(2):
        with pytest.raises(SchemaError):
            database.open()
    path.unlink()
    database.open()
    with closing(database):
        assert apply(database, mark("k")) == [None]


def test_file_that_is_gone(database: Database, path: Path) -> None:
    """A file that was moved is noticed before a statement runs."""
    path.rename(path.with_name("away.db"))
    with pytest.raises(StoreUnavailableError, match="not there any more"):
        apply(database, mark("k"))
    path.with_name("away.db").rename(path)
    apply(database, mark("k"))


@pytest.mark.parametrize("page_size", [1_024, 16_384])
def test_checkpoints_count_pages(
    database: Database, path: Path, page_size: int
) -> None:
    """A log of smaller pages is due earlier: a checkpoint costs time for each page."""
    assert database.shared.wal.limit == 1_000 * (4_096 + 24)
    database.truncate_log()
    database.close()
    write(
        path,
        "PRAGMA journal_mode = DELETE",
        f"PRAGMA page_size = {page_size}",
        "VACUUM",
    )
    database.open()
    log = database.shared.wal
    assert log.limit == 1_000 * (page_size + 24)
    while log.bytes < log.limit:
        assert not log.is_due
        apply(database, *(mark(f"{uuid4()}") for _ in range(1_000)))
    assert log.is_due


def test_log(database: Database) -> None:
    """A log that has grown is due for a checkpoint; a regular close truncates it."""
    log = database.shared.wal
    apply(database, mark("k"))
    assert not log.is_due
    apply(database, *(mark(f"{number:0400}") for number in range(10_000)))
    assert log.bytes > log.limit > 0
    assert log.is_due
    database.maintain()
    assert not log.is_due
    assert database.stats(None).checkpoint_failures == 0
    database.truncate_log()
    assert log.bytes == 0


def test_closed_by_another_thread(database: Database) -> None:
    """A connection that was abandoned is closed by whichever thread ends it."""
    thread = threading.Thread(target=database.close)
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="not open"):
        apply(database, mark("k"))
    database.close()


def test_abandoned_wait(shared_state: SharedState) -> None:
    """The deadline of a reader bounds its open as well as its call."""
    with closing(Database(shared_state)) as database:
        database.open()
        apply(database, mark("k"))
        config = replace(shared_state.config, wal_mode=False, timeout=30)
    plain = SharedState(shared_state.path, config, None)
    with closing(Database(plain)) as database:
        database.open()
        with write_lock(Path(plain.path)) as other:
            other.execute("COMMIT")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
                Database(plain, reads_until=0).open()
