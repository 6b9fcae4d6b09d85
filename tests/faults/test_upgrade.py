"""Group C: files of earlier releases, of later ones, and of other programs."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import SchemaError, SeenStore

from .harness.checker import History
from .harness.killing import add_round, copied, sweep
from .harness.processes import command
from .harness.report import Fault
from .harness.zygote import Zygote

ROWS = 2_000
OURS = int.from_bytes(b"seen")
FIRST = """CREATE TABLE seen (
        namespace TEXT NOT NULL, id TEXT NOT NULL, first_seen REAL NOT NULL,
        last_seen REAL NOT NULL, expires_at REAL{claims}, PRIMARY KEY (namespace, id)
    ) STRICT, WITHOUT ROWID"""
CLAIMS = """, token TEXT, attempt INTEGER NOT NULL DEFAULT 0, lease_until REAL,
        on_abandoned TEXT"""
BY_TIME = """CREATE INDEX seen_expires_at ON seen (expires_at)
    WHERE expires_at IS NOT NULL"""
HELD = "CREATE INDEX seen_hold ON seen (namespace, id) WHERE on_abandoned = 'hold'"
INSERT = """INSERT INTO seen (namespace, id, first_seen, last_seen, expires_at)
    VALUES ('', ?, 1, 2, 9e9)"""
RELEASES = {
    "the synchronous store": (
        "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)",
        "INSERT INTO seen VALUES (?, 4000000000)",
    ),
    "schema 1": (
        FIRST.format(claims=""), BY_TIME, f"PRAGMA application_id = {OURS}",
        "PRAGMA user_version = 1", INSERT,
    ),
    "schema 2": (
        FIRST.format(claims=CLAIMS), BY_TIME, HELD, f"PRAGMA application_id = {OURS}",
        "PRAGMA user_version = 2", INSERT,
    ),
    "schema 3": (
        FIRST.format(claims=CLAIMS), HELD, f"PRAGMA application_id = {OURS}",
        "PRAGMA user_version = 3", INSERT,
    ),
}  # fmt: skip
DIFFERENT = (
    """UPDATE seen SET namespace = CASE id % 3 WHEN 0 THEN '' ELSE 'n' || id % 7 END,
        first_seen = id / 7.0, last_seen = id / 3.0,
        expires_at = CASE id % 5 WHEN 0 THEN NULL ELSE 8e9 + id END""",
    """UPDATE seen SET token = 'token ' || id, attempt = 1 + id % 4,
        lease_until = CASE id % 11 WHEN 0 THEN NULL ELSE id / 2.0 END,
        on_abandoned = CASE id % 3 WHEN 0 THEN 'hold' WHEN 1 THEN 'drop' END
    WHERE id % 2 = 0""",
)
"""Rows in several namespaces, and claims, which schema 1 has not."""

COLUMNS = """first_seen, last_seen, expires_at, token, attempt, lease_until,
    on_abandoned"""
CONTENTS = {
    0: "SELECT '', id, ts, ts FROM seen",
    1: "SELECT namespace, id, first_seen, last_seen, expires_at FROM seen",
    2: f"SELECT namespace, id, {COLUMNS} FROM seen",
    3: f"SELECT namespace, id, {COLUMNS} FROM seen",
    4: f"""SELECT name, key, {COLUMNS} FROM seen JOIN namespace
        ON namespace.id = seen.namespace""",
}
"""Everything that a file of each version contains."""
STRANGERS = {
    "a newer schema": (
        FIRST.format(claims=CLAIMS), f"PRAGMA application_id = {OURS}",
        "PRAGMA user_version = 99",
    ),
    "ours, of no known version": (
        FIRST.format(claims=""), f"PRAGMA application_id = {OURS}",
    ),
    "an unknown version of nobody's": (
        "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)",
        "PRAGMA user_version = 7",
    ),
    "a table seen with other columns": ("CREATE TABLE seen (id TEXT, at TEXT)",),
    "another table": ("CREATE TABLE notes (body TEXT)",),
    "another program's id": (
        "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)",
        "PRAGMA application_id = 1",
    ),
}  # fmt: skip


def make(path: Path, *statements: str, rows: int = 0) -> None:
    """Make a file with plain sqlite3; the last statement runs once per row."""
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements[: -1 if rows else None]:
            db.execute(statement)
        if rows:
            db.executemany(statements[-1], ((str(number),) for number in range(rows)))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("call", "wal_mode"),
    [("write", True), ("sync", True), ("truncate", True), ("write", False)],
)
def test_killed_in_upgrade(
    path: Path,
    fault: Fault,
    zygote: Zygote,
    release: str,
    call: str,
    *,
    wal_mode: bool,
    torture: bool,
) -> None:
    """An upgrade that is killed anywhere leaves the old schema or the new one.

    No row is lost, and the next store finishes it. The upgrade needs more pages than
    the cache has, so that some are written before its commit.
    """
    mode = "" if wal_mode else ", without a log"
    row = fault("C3", f"killed at each {call} of the upgrade from {release}{mode}")
    make(path, *RELEASES[release], rows=ROWS)
    old = version(path)
    make(path, *DIFFERENT[:old])
    before = contents(path)
    seen = set()
    history = History([(str(number), "new") for number in range(ROWS)])
    step = 1 if torture else {"write": 17, "sync": 5}.get(call, 2)
    words = command(
        path, count=0, synchronous="FULL", cache_size=-20, wal_mode=wal_mode
    )
    for _ in sweep(zygote, words, path, call, step):
        seen.add(version(copied(path)))
        width = len(next(iter(before)))
        assert {one[:width] for one in contents(copied(path))} == before
        add_round(row, zygote, path, history)
        assert version(path) == 4
    assert row.rounds > 1
    assert seen <= {old, 4}
    row.note(f"schemas found: {sorted(seen)}")


def test_files_of_earlier_releases_are_upgraded(
    path: Path, fault: Fault, zygote: Zygote
) -> None:
    """A file of each earlier release is upgraded with all its rows."""
    row = fault("C8", f"files of {len(RELEASES)} earlier releases")
    history = History([(str(number), "new") for number in range(ROWS)])
    for number, statements in enumerate(RELEASES.values()):
        place = path.with_name(f"{number}.db")
        make(place, *statements, rows=ROWS)
        with SeenStore(place, ttl=None) as store:
            assert store.count() == ROWS
            assert store.filter_new(map(str, range(ROWS + 1))) == [str(ROWS)]
        add_round(row, zygote, place, history)
        assert version(place) == 4


def test_foreign_or_newer_file_is_untouched(path: Path, fault: Fault) -> None:
    """A foreign file, or one of a newer release, is refused and untouched."""
    row = fault("C8", f"{len(STRANGERS)} files that are not ours, or newer")
    for number, statements in enumerate(STRANGERS.values()):
        place = path.with_name(str(number)) / path.name
        place.parent.mkdir()
        make(place, *statements)
        before = look_at_folder(place.parent)
        refused(place, r"[Nn]ewer|version|another program")
        assert look_at_folder(place.parent) == before
        row.rounds += 1
        row.intact += 1


def refused(path: Path, words: str) -> None:
    """See a store refuse a file, twice, for it must not be a matter of luck."""
    for _ in range(2):
        with pytest.raises(SchemaError, match=words) as caught:
            SeenStore(path)
        assert str(path) in str(caught.value)


def look_at_folder(folder: Path) -> dict[str, str]:
    """Tell every file and what is in it."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
    }


def version(path: Path) -> int:
    """Read which schema a file has."""
    with closing(sqlite3.connect(path)) as db:
        ((found,),) = db.execute("PRAGMA user_version")
        return int(found)


def contents(path: Path) -> set[tuple[object, ...]]:
    """Read all rows of whatever schema."""
    with closing(sqlite3.connect(path)) as db:
        ((version,),) = db.execute("PRAGMA user_version")
        rows = db.execute(CONTENTS[version]).fetchall()
    assert len(rows) == ROWS
    return set(rows)
