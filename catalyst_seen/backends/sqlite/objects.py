"""The objects of the schema, in each of its versions, and what a file has instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import driver

APPLICATION_ID = int.from_bytes(b"seen")
SCHEMA_VERSION = 4

Object = tuple[str, str]
"""Type and name."""

CLAIMS = (
    "token TEXT",
    "attempt INTEGER NOT NULL DEFAULT 0",
    "lease_until REAL",
    "on_abandoned TEXT",
)
_FIRST = """CREATE TABLE seen (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        first_seen REAL NOT NULL,
        last_seen REAL NOT NULL,
        expires_at REAL,
        PRIMARY KEY (namespace, id)
    ) STRICT, WITHOUT ROWID"""
_BY_TIME = """CREATE INDEX seen_expires_at ON seen (expires_at)
        WHERE expires_at IS NOT NULL"""
# ALTER TABLE adds a column at the same place of the text.
_SECOND = _FIRST.replace("expires_at REAL,", f"expires_at REAL, {', '.join(CLAIMS)},")
_HOLD = "CREATE INDEX seen_hold ON seen (namespace, id) WHERE on_abandoned = 'hold'"

# A namespace has an id, which is shorter than its name. What is more is the state of
# its source; texts are JSON where there are several numbers. A row of seen has what
# every key has, and where its source lists it; the texts of a few are in detail.
_NAMESPACE = """CREATE TABLE namespace (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        recipe TEXT,
        polls INTEGER NOT NULL DEFAULT 0,
        poll_clock REAL NOT NULL DEFAULT 0,
        first_poll REAL,
        last_poll REAL,
        digest BLOB,
        listed INTEGER,
        largest INTEGER,
        recent_sizes TEXT,
        baseline_at REAL,
        validators TEXT,
        poller_state TEXT,
        last_error TEXT,
        observation TEXT,
        summary TEXT,
        totals TEXT
    ) STRICT"""
_SEEN = """CREATE TABLE seen (
        namespace INTEGER NOT NULL,
        key TEXT NOT NULL,
        first_seen REAL NOT NULL,
        last_seen REAL NOT NULL,
        expires_at REAL,
        token TEXT,
        attempt INTEGER NOT NULL DEFAULT 0,
        lease_until REAL,
        on_abandoned TEXT,
        seq INTEGER,
        listed_poll INTEGER,
        listed_at REAL,
        kept_until REAL,
        has_detail INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (namespace, key)
    ) STRICT, WITHOUT ROWID"""
_PENDING = "CREATE INDEX seen_pending ON seen (namespace, seq) WHERE seq IS NOT NULL"
_HELD = "CREATE INDEX seen_held ON seen (namespace, key) WHERE on_abandoned = 'hold'"
_DETAIL = """CREATE TABLE detail (
        namespace INTEGER NOT NULL,
        key TEXT NOT NULL,
        note TEXT,
        alias TEXT,
        digest BLOB,
        last_error TEXT,
        PRIMARY KEY (namespace, key)
    ) STRICT, WITHOUT ROWID"""
_ALIAS = """CREATE INDEX detail_alias ON detail (namespace, alias)
        WHERE alias IS NOT NULL"""

OBJECTS: dict[int, dict[Object, str]] = {
    1: {("table", "seen"): _FIRST, ("index", "seen_expires_at"): _BY_TIME},
    2: {
        ("table", "seen"): _SECOND,
        ("index", "seen_expires_at"): _BY_TIME,
        ("index", "seen_hold"): _HOLD,
    },
    3: {("table", "seen"): _SECOND, ("index", "seen_hold"): _HOLD},
    SCHEMA_VERSION: {
        ("table", "namespace"): _NAMESPACE,
        ("table", "seen"): _SEEN,
        ("index", "seen_pending"): _PENDING,
        ("index", "seen_held"): _HELD,
        ("table", "detail"): _DETAIL,
        ("index", "detail_alias"): _ALIAS,
    },
}
"""The objects of each version."""

CREATE = (
    *OBJECTS[SCHEMA_VERSION].values(),
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
"""Creates the schema in an empty database."""

_READ = """SELECT type, name, sql FROM sqlite_master
    WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"""


def read_objects(db: driver.Connection) -> dict[Object, str]:
    """Return the SQL of every object, but for those that SQLite makes itself."""
    return {(kind, name): sql or "" for kind, name, sql in db.execute(_READ)}


def differences(db: driver.Connection, version: int = SCHEMA_VERSION) -> list[str]:
    """List the objects that differ from those of a version of the schema.

    A trigger may undo what a store writes, and a view may stand for its table.
    """
    found, ours = read_objects(db), OBJECTS[version]
    return [
        *(f"no {kind} {name}" for kind, name in sorted(ours.keys() - found.keys())),
        *(
            f"an extra {kind} {name}"
            for kind, name in sorted(found.keys() - ours.keys())
        ),
        *(
            f"another {kind} {name}"
            for kind, name in sorted(ours.keys() & found.keys())
            if _words(found[kind, name]) != _words(ours[kind, name])
        ),
    ]


def _words(sql: str) -> str:
    return "".join(sql.split())
