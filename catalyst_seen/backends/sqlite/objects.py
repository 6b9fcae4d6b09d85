"""The objects of the schema, in each of its versions, and what a file has instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import driver

APPLICATION_ID = int.from_bytes(b"seen")
SCHEMA_VERSION = 3

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
_TABLE = _FIRST.replace("expires_at REAL,", f"expires_at REAL, {', '.join(CLAIMS)},")
_HOLD = "CREATE INDEX seen_hold ON seen (namespace, id) WHERE on_abandoned = 'hold'"

CREATE = (
    _TABLE,
    _HOLD,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

_OBJECTS: dict[int, dict[Object, str]] = {
    1: {("table", "seen"): _FIRST, ("index", "seen_expires_at"): _BY_TIME},
    2: {
        ("table", "seen"): _TABLE,
        ("index", "seen_expires_at"): _BY_TIME,
        ("index", "seen_hold"): _HOLD,
    },
    SCHEMA_VERSION: {("table", "seen"): _TABLE, ("index", "seen_hold"): _HOLD},
}
_READ = """SELECT type, name, sql FROM sqlite_master
    WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"""


def read_objects(db: driver.Connection) -> dict[Object, str]:
    """Return the SQL of every object, but for those that SQLite makes itself."""
    return {(kind, name): sql or "" for kind, name, sql in db.execute(_READ)}


def differences(db: driver.Connection, version: int = SCHEMA_VERSION) -> list[str]:
    """List the objects that differ from those of a version of the schema.

    A trigger may undo what a store writes, and a view may stand for its table.
    """
    found, ours = read_objects(db), _OBJECTS[version]
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
