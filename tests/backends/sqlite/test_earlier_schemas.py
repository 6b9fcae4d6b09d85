"""Files of the earlier schemas of this program."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, Record, SchemaError
from catalyst_seen.backends.sqlite.objects import APPLICATION_ID, SCHEMA_VERSION

from ...support.clock import NOON, Clock
from ...support.sqlite_files import read, write

HOUR = 3_600.0
TABLE = """CREATE TABLE seen (
        namespace TEXT NOT NULL, id TEXT NOT NULL, first_seen REAL NOT NULL,
        last_seen REAL NOT NULL, expires_at REAL{claims}, PRIMARY KEY (namespace, id)
    ) STRICT, WITHOUT ROWID"""
CLAIMS = """, token TEXT, attempt INTEGER NOT NULL DEFAULT 0, lease_until REAL,
        on_abandoned TEXT"""
BY_TIME = """CREATE INDEX seen_expires_at ON seen (expires_at)
    WHERE expires_at IS NOT NULL"""
HOLD = "CREATE INDEX seen_hold ON seen (namespace, id) WHERE on_abandoned = 'hold'"
SCHEMAS = {
    1: (TABLE.format(claims=""), BY_TIME),
    2: (TABLE.format(claims=CLAIMS), BY_TIME, HOLD),
    3: (TABLE.format(claims=CLAIMS), HOLD),
}
MARK = """INSERT INTO seen (namespace, id, first_seen, last_seen, expires_at)
    VALUES (?, ?, ?, ?, ?)"""
CLAIM = "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SQL_OF_SCHEMA_3 = [
    """SELECT first_seen, last_seen, expires_at, token, attempt, lease_until,
        on_abandoned FROM seen WHERE namespace = '' AND id = 'k'""",
    """SELECT first_seen, seen.id FROM json_each('["k"]') AS wanted
        CROSS JOIN seen ON namespace = '' AND seen.id = wanted.value""",
    "INSERT OR REPLACE INTO seen VALUES ('', 'k', 1, 1, 2, NULL, 0, NULL, NULL)",
    """INSERT OR ROLLBACK INTO seen
        (namespace, id, first_seen, last_seen, expires_at)
    SELECT '', value, 1, 1, 2 FROM json_each('["new"]')""",
    "DELETE FROM seen WHERE namespace = '' AND id = 'k'",
    "SELECT namespace, id FROM seen ORDER BY namespace, id LIMIT 1 OFFSET 999",
]
"""What a store of the release before executes on the connection that it has open."""


def make(path: Path, version: int) -> None:
    """Make a file of an earlier schema, without rows."""
    write(
        path,
        "PRAGMA auto_vacuum = INCREMENTAL",
        "PRAGMA journal_mode = WAL",
        *SCHEMAS[version],
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {version}",
    )


@pytest.mark.parametrize("version", SCHEMAS)
async def test_objects(path: Path, version: int) -> None:
    """An upgraded file has the very objects of a new one, and is healthy."""
    make(path, version)
    write(path, MARK, rows=[("n", "k", 1, 2, None)])
    fresh = path.with_name("fresh.db")
    async with AsyncSeenStore(path) as store, AsyncSeenStore(fresh):
        assert await store.check(full=True)
    objects = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert read(path, objects) == read(fresh, objects)
    assert read(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert read(path, "PRAGMA application_id") == [(APPLICATION_ID,)]


@pytest.mark.parametrize("version", SCHEMAS)
async def test_marks(path: Path, clock: Clock, version: int) -> None:
    """Every mark keeps its namespace, instants and TTL; expired ones stay expired."""
    names = ["", "n", "ä☃𝄞", "N", "https://news.example/feed?q=a", "n" * 256]
    make(path, version)
    rows = [
        (name, f"key {number}", NOON - number, NOON, expires_at)
        for name in names
        for number, expires_at in enumerate([None, NOON + HOUR, NOON, NOON - 1.5])
    ]
    write(path, MARK, rows=rows)
    for _ in range(2):
        async with AsyncSeenStore(path, clock=clock, purge_interval=None) as store:
            assert await store.namespaces() == sorted(names)
            assert {one async for one in store.records()} == {
                Record(key, name, "seen", first, last, expires_at)
                for name, key, first, last, expires_at in rows
                if expires_at is None or expires_at > NOON
            }
            assert not await store.check_and_mark("key 0", namespace="n")
    assert read(path, "SELECT count(*) FROM seen") == [(len(rows),)]
    assert read(path, "SELECT count(*) FROM detail") == [(0,)]


@pytest.mark.parametrize("version", [2, 3])
async def test_claims(path: Path, clock: Clock, version: int) -> None:
    """Claims keep their state, their token and their attempt."""
    make(path, version)
    now, later = NOON, NOON + HOUR
    write(path, CLAIM, rows=[
        ("n", "claimed", 1, 2, None, "t", 3, later, "retry"),
        ("n", "released", 1, 2, None, "t", 1, now, None),
        ("n", "delayed", 1, 2, None, "t", 1, later, None),
        ("n", "held", 1, 2, None, "t", 1, now, "hold"),
        ("n", "dropped", 1, 2, None, "t", 1, now, "drop"),
        ("n", "confirmed", 1, 2, later, "t", 1, None, None),
    ])  # fmt: skip
    async with AsyncSeenStore(path, clock=clock) as store:
        assert {one.key: one.state async for one in store.records()} == {
            "claimed": "claimed", "released": "released", "delayed": "released",
            "held": "held", "dropped": "seen", "confirmed": "seen",
        }  # fmt: skip
        assert await store.get("claimed", namespace="n") == Record(
            "claimed", "n", "claimed", 1, 2, None, until=later, attempt=3
        )
        assert [record.key for record in await store.held()] == ["held"]
        assert await store.resolve("held", handled=True, namespace="n")
    tokens = "SELECT key, token FROM seen WHERE key <> 'held'"
    assert {token for _, token in read(path, tokens)} == {"t"}


async def test_upgrade_is_logged(path: Path) -> None:
    """An upgrade rewrites the file, and logs how many rows, once."""
    make(path, 3)
    write(path, MARK, rows=[("n", str(number), 1, 2, None) for number in range(10)])
    with capture_logs() as logs:
        for _ in range(2):
            async with AsyncSeenStore(path):
                pass
    assert [(log["event"], log["rows"]) for log in logs] == [("schema_upgraded", 10)]


@pytest.mark.parametrize("sql", SQL_OF_SCHEMA_3, ids=range(len(SQL_OF_SCHEMA_3)))
async def test_open_store_of_an_earlier_release(path: Path, sql: str) -> None:
    """A store of an earlier release with the file open fails, and changes nothing."""
    make(path, 3)
    write(path, MARK, rows=[("", "k", 1, 2, None)])
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute(sql).fetchall()
        async with AsyncSeenStore(path) as store:
            before = {one async for one in store.records()}
            for begin in ("BEGIN", "BEGIN IMMEDIATE"):
                old.execute(begin)
                with pytest.raises(sqlite3.OperationalError, match=r"id|9 values"):
                    old.execute(sql)
                if old.in_transaction:
                    old.execute("COMMIT")
            assert {one async for one in store.records()} == before
            assert await store.check(full=True)


async def test_newer_schema_is_refused(path: Path) -> None:
    """A file of the next schema is refused, and untouched."""
    async with AsyncSeenStore(path) as store:
        await store.mark_seen("k", note="text")
    write(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="has version 5, this release knows 4"):
        await AsyncSeenStore(path).open()
    assert path.read_bytes() == before


async def test_columns_of_listings(path: Path) -> None:
    """What an observation stored outlives marks; only the order of what waits ends."""
    async with AsyncSeenStore(path) as store:
        await store.mark_many(["a", "b"])
        columns = "seq, listed_poll, listed_at, kept_until"
        write(path, f"UPDATE seen SET ({columns}) = (1, 2, 3.5, 4.5)")
        await store.mark_seen("a")
        await store.refresh(["a", "b"])
        await store.forget("b")
        async with store.claim("b"):
            pass
    rows = f"SELECT key, {columns} FROM seen ORDER BY key"
    assert read(path, rows) == [("a", None, 2, 3.5, 4.5), ("b", None, None, None, None)]
