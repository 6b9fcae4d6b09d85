"""Whether a database is well, as ``check`` tells."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    CheckReport,
    SchemaError,
    SeenStore,
    SeenStoreConfig,
    StoreClosedError,
)
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.sqlite.objects import (
    APPLICATION_ID,
    OBJECTS,
    SCHEMA_VERSION,
)

from ...support.clock import Clock
from ...support.locks import transaction
from ...support.sqlite_faults import execute
from ...support.sqlite_files import read, write
from ...support.targets import Target

PAGE = 4_096


@pytest.fixture(params=["async", "blocking"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two stores is asked."""
    return str(request.param)


async def check(kind: str, config: SeenStoreConfig, **options: Any) -> CheckReport:
    """Open a store, ask it, close it."""
    if kind == "blocking":
        with SeenStore(config) as blocking:
            return blocking.check(**options)
    async with AsyncSeenStore(config) as store:
        return await store.check(**options)


async def filled(path: Path, keys: int = 3_000) -> SeenStoreConfig:
    """Make a store's file with many pages."""
    config = SeenStoreConfig(path, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        await store.mark_many(f"key {number:06}" for number in range(keys))
        await store.claim("held", lease=0.001, on_abandoned="hold")
    return config


@pytest.mark.parametrize("full", [False, True])
async def test_healthy(path: Path, kind: str, *, full: bool) -> None:
    """A store that is well is true, and what is in force is said."""
    report = await check(kind, await filled(path), full=full)
    assert report, report
    assert (report.problems, report.integrity) == ((), ())
    assert report.is_full is full
    assert report.engine == f"SQLite {sqlite3.sqlite_version}"
    assert report.location == str(path)
    assert report.schema == SCHEMA_VERSION
    assert report.settings.items() >= {
        "journal_mode": "wal", "synchronous": "NORMAL", "auto_vacuum": "incremental",
        "page_size": PAGE, "cache_size": 10_000,
    }.items()  # fmt: skip
    assert report.file_bytes >= 10 * PAGE
    assert (report.checkpoint_failures, report.clock_behind) == (0, 0)
    assert not report.is_shared
    assert "all is well" in str(report)


async def test_on_every_backend(target: Target) -> None:
    """Every backend tells what it is; what is not safe on a server is a problem."""
    async with AsyncSeenStore(target.config()) as store:
        report = await store.check()
    assert report.engine.startswith(target.engine)
    assert report.integrity == ()
    assert bool(report) is (report.problems == ())
    assert any("fsync is off" in one for one in report.problems) is (
        target.name == "postgres"  # the server of the tests
    )
    assert report or target.name == "postgres"


async def test_other_settings(path: Path, kind: str) -> None:
    """A store without a write-ahead log is as well as any other."""
    config = SeenStoreConfig(path, wal_mode=False, synchronous="FULL")
    report = await check(kind, config)
    assert report, report
    assert report.settings["journal_mode"] == "delete"
    assert report.settings["synchronous"] == "FULL"
    assert report.wal_bytes == 0


@pytest.mark.parametrize("full", [False, True])
async def test_damaged_page(path: Path, kind: str, *, full: bool) -> None:
    """A page that was overwritten is found; the file is left as it is."""
    config = await filled(path)
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // PAGE // 2 * PAGE
    damaged[middle : middle + PAGE] = b"\xa5" * PAGE
    path.write_bytes(damaged)
    report = await check(kind, config, full=full)
    assert not report
    assert report.integrity
    assert any("damaged" in problem for problem in report.problems)
    assert "PROBLEM: the file is damaged" in str(report)
    assert path.read_bytes()[middle : middle + PAGE] == b"\xa5" * PAGE


async def test_damaged_index(path: Path) -> None:
    """An index that lacks a row is found by a full check."""
    config = await filled(path, 10)
    async with AsyncSeenStore(config) as store:
        write(
            path,
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET sql = replace(sql, '= ''hold''', 'IS NULL')"
            " WHERE name = 'seen_held'",
        )
        report = await store.check(full=True)
    assert not report
    assert "missing from index seen_held" in " ".join(report.integrity)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("DROP INDEX seen_held", "no index seen_held"),
        ("CREATE TABLE notes (body TEXT)", "an extra table notes"),
        ("CREATE VIEW old AS SELECT key FROM seen", "an extra view old"),
        ("CREATE INDEX mine ON seen (key)", "an extra index mine"),
        (
            "CREATE TRIGGER mine AFTER INSERT ON seen BEGIN DELETE FROM seen; END",
            "an extra trigger mine",
        ),
        ("ALTER TABLE seen ADD COLUMN mine TEXT", "another table seen"),
    ],
)
async def test_changed_schema(path: Path, change: str, finding: str) -> None:
    """What another program has changed is refused at open, and found by a check.

    The refused file is untouched.
    """
    config = await filled(path, 10)
    async with AsyncSeenStore(config) as store:
        assert await store.check()
        write(path, change)
        report = await store.check()
    assert not report
    assert report.integrity == (finding,)
    assert finding in " ".join(report.problems)
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=f"changed by another program: {finding}"):
        await AsyncSeenStore(config).open()
    assert path.read_bytes() == before


async def test_index_on_other_columns(path: Path) -> None:
    """An index that another program has made anew, on less, is not ours."""
    config = await filled(path, 10)
    write(path, "DROP INDEX seen_held", "CREATE INDEX seen_held ON seen (namespace)")
    with pytest.raises(SchemaError, match="another index seen_held"):
        await AsyncSeenStore(config).open()


async def test_what_sqlite_makes(path: Path) -> None:
    """The statistics of ``ANALYZE`` are no change of the schema."""
    config = await filled(path, 10)
    write(path, "ANALYZE")
    assert read(path, "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'")
    async with AsyncSeenStore(config) as store:
        assert await store.check(full=True)


async def test_view_in_place_of_the_table(path: Path) -> None:
    """A view that is named like the table is refused."""
    write(
        path,
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
        "CREATE VIEW seen AS SELECT '' AS namespace, '' AS key WHERE 0",
    )
    with pytest.raises(SchemaError, match=r"no table seen.*an extra view seen"):
        await AsyncSeenStore(path).open()


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_trigger_in_an_earlier_schema(path: Path, version: int) -> None:
    """A file of an earlier schema that was changed is not upgraded."""
    write(
        path,
        *OBJECTS[version].values(),
        "CREATE TRIGGER planted AFTER INSERT ON seen BEGIN SELECT 1; END",
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {version}",
    )
    with pytest.raises(SchemaError, match="an extra trigger planted"):
        await AsyncSeenStore(path).open()
    assert read(path, "PRAGMA user_version") == [(version,)]


async def test_untrusted_schema(path: Path) -> None:
    """No function that has side effects runs from what a file contains."""
    async with AsyncSeenStore(path) as store:
        assert await execute(store, "PRAGMA trusted_schema") == [(0,)]


async def test_clock_behind(path: Path, kind: str, clock: Clock) -> None:
    """A clock that is behind the newest mark is told, with the seconds."""
    config = SeenStoreConfig(path, clock=clock, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        await store.mark_seen("k")
        assert await store.check()
        clock.advance(-3_600)
        assert 3_599 < (await store.check()).clock_behind <= 3_600
    report = await check(kind, config)
    assert not report
    assert 3_599 < report.clock_behind <= 3_600
    assert "3,600 s behind" in report.problems[0]
    clock.advance(3_600)
    assert await check(kind, config)


@pytest.mark.parametrize("others", ["a store", "a process"])
async def test_shared(path: Path, kind: str, others: str) -> None:
    """A file that several have open is told; it is a problem where SQLite has one."""
    config = await filled(path, 10)

    async def shared(*version: int) -> CheckReport:
        major, minor, patch = version
        tuned = replace(config, tuning=Tuning(sqlite_version=(major, minor, patch)))
        if others == "a store":
            async with AsyncSeenStore(tuned):
                return await check(kind, tuned)
        with transaction(path, "SELECT * FROM seen"):
            return await check(kind, tuned)

    report = await shared(3, 51, 2)
    assert report.is_shared
    assert not report
    assert "WAL-reset bug" in report.problems[0]
    assert "SQLite 3.51.2" in report.problems[0]
    assert await check(kind, config), "alone, it is no matter"
    report = await shared(3, 51, 3)
    assert report.is_shared
    assert report


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True),
        ((3, 49, 9), True), ((3, 50, 6), True), ((3, 50, 7), False), ((3, 51, 2), True),
        ((3, 51, 3), False), ((3, 53, 0), False), ((4, 0, 0), False),
    ],
)  # fmt: skip
async def test_versions_with_the_bug(
    path: Path, version: tuple[int, int, int], *, has_bug: bool
) -> None:
    """Only the versions that have the bug are named, in the alarms as in the check."""
    config = SeenStoreConfig(path, tuning=Tuning(sqlite_version=version))
    async with AsyncSeenStore(config) as store, AsyncSeenStore(config):
        problems = (await store.check()).problems
        assert problems == (await store.stats()).alarms
    assert ["WAL-reset" in problem for problem in problems] == [True] * has_bug


async def test_never_shrinks(path: Path, kind: str) -> None:
    """A file of the old store, most of which is free, cannot shrink by itself."""
    write(
        path,
        "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)",
        "INSERT INTO seen VALUES (?, ?)",
        rows=[(f"key {number}", int(time.time())) for number in range(3_000)],
    )
    config = SeenStoreConfig(path, purge_interval=None)
    report = await check(kind, config)
    assert report.settings["auto_vacuum"] == "none"
    assert report.free_pages > 10
    assert not report
    assert "VACUUM" in report.problems[0]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
    report = await check(kind, config)
    assert report, report
    assert report.settings["auto_vacuum"] == "incremental"


@pytest.mark.slow
async def test_while_others_mark(path: Path) -> None:
    """Marks go on while a check reads the whole file."""
    async with AsyncSeenStore(await filled(path, 100_000)) as store:
        checking = store._lifecycle.track(store.check(full=True))
        marks = 0
        while not checking.done():
            assert await store.check_and_mark(f"m{marks}")
            marks += 1
        assert await checking
    assert marks > 5


async def test_misuse(path: Path) -> None:
    """What is no switch, or of a store that is not open, is refused."""
    async with AsyncSeenStore(path) as store:
        with pytest.raises(TypeError, match="full"):
            await store.check(full=1)  # type: ignore[arg-type]
    with pytest.raises(StoreClosedError):
        await store.check()
