"""How a file becomes a store: look before touching, settings, schema, upgrade."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..._errors import ConfigurationError, SchemaError, StoreUnavailableError
from ..._logging import log
from .files import MEMORY, make, size
from .transactions import primary_code, retry_while_busy, under_lock
from .wal import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..._config import SeenStoreConfig

Kind = Literal["ours", "earlier", "old", "empty"]
Object = tuple[str, str]

APPLICATION_ID = int.from_bytes(b"seen")
SCHEMA_VERSION = 3
_OLDEST_SQLITE = (3, 37)  # STRICT tables

_CLAIMS = (
    "token TEXT",
    "attempt INTEGER NOT NULL DEFAULT 0",
    "lease_until REAL",
    "on_abandoned TEXT",
)
_CREATE = (
    f"""CREATE TABLE seen (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        first_seen REAL NOT NULL,
        last_seen REAL NOT NULL,
        expires_at REAL,
        {", ".join(_CLAIMS)},
        PRIMARY KEY (namespace, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE INDEX seen_hold ON seen (namespace, id)
        WHERE on_abandoned = 'hold'""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# A second copy of every key made files and writes twice as large as they need be.
_DROP_INDEX = "DROP INDEX seen_expires_at"
_UPGRADES = {
    1: (
        *(f"ALTER TABLE seen ADD COLUMN {one}" for one in _CLAIMS),
        _DROP_INDEX,
        *_CREATE[1:],
    ),
    2: (_DROP_INDEX, _CREATE[-1]),
}
_VERSIONS: dict[int, Kind] = {SCHEMA_VERSION: "ours", 1: "earlier", 2: "earlier"}
_OBJECTS = (
    "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
)
_OLD_COLUMNS = [("id", "TEXT", 1), ("ts", "INTEGER", 0)]
_SET_ASIDE = "ALTER TABLE seen RENAME TO old_seen"
# No str ever found an id that is NULL or a blob: such a row says nothing of any key.
_UPGRADE = """INSERT INTO seen (namespace, id, first_seen, last_seen, expires_at)
    SELECT '', id, CAST(ts AS REAL), CAST(ts AS REAL), CAST(ts AS REAL) + ?
    FROM old_seen WHERE typeof(id) = 'text'"""


def precheck_file(location: str, mode: int) -> None:
    """Make directory and file, and refuse what is not ours before it can change.

    An ordinary connection changes nothing by looking, but for what a program that
    crashed left behind: it would roll a journal back, or checkpoint a write-ahead log.

    Args:
        location: Path of the file.
        mode: The rights of a new one.

    Raises:
        SchemaError: A newer schema, another program's database, or no database.
        StoreUnavailableError: A directory or a device, in no directory, or read-only.
        ConfigurationError: This Python's SQLite is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            "SQLite",
            f"3.37 is needed at least, this Python has {sqlite3.sqlite_version}",
        )
    if location == MEMORY:
        return
    _make_directory(location)
    real = os.path.realpath(location)  # beside what a link leads to are its other files
    make(real, mode)
    if size(f"{real}-wal"):
        if not size(real):
            raise SchemaError(
                location,
                "it is empty, but its log is not: somebody has emptied it, and SQLite"
                " would throw away what is in the log",
                "Both are untouched; restore a backup, or remove the log to begin anew",
            )
        _look_read_only(location, "mode=ro")
    elif size(f"{real}-journal"):
        try:
            _look_read_only(location, "immutable=1")
        except sqlite3.DatabaseError:
            return  # half a transaction: nobody can tell before it is rolled back


def _make_directory(location: str) -> None:
    path = Path(location)
    if path.is_dir():
        raise StoreUnavailableError(location, "it is a directory", "Name a file in it")
    if path.exists() and not path.is_file():
        raise StoreUnavailableError(location, "it is a device", "Name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreUnavailableError(
            location,
            f"its directory cannot be made: {exc.strerror}",
            "Name a file in a directory that you may write to",
        ) from exc


def _look_read_only(location: str, how: str) -> None:
    read_only = sqlite3.connect(f"{Path(location).as_uri()}?{how}", uri=True)
    with closing(read_only) as db:
        _look(db, location)


def prepare(
    db: sqlite3.Connection,
    location: str,
    config: SeenStoreConfig,
    ttl: float | None,
    *,
    may_create: bool,
) -> None:
    """Apply settings and schema, in the one order of which SQLite ignores nothing.

    Args:
        db: A new connection to what ``look_before`` let pass.
        location: Its path.
        config: The settings.
        ttl: What the rows of an old store get, counted from their ``ts``.
        may_create: Else what is not ours yet is refused.

    Raises:
        SchemaError: It is not ours; nothing is changed.
        StoreUnavailableError: SQLite does not give the journal that was asked for.
    """
    kind = _look(db, location)
    if kind != "ours" and not may_create:
        raise SchemaError(
            location,
            "it was a store when it was opened, and is none any more",
            "It is untouched; restore a backup, and open a new store",
        )
    if kind == "empty":
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _set_journal(db, location, config)
    db.execute(f"PRAGMA synchronous = {config.synchronous}")
    db.execute(f"PRAGMA cache_size = {config.cache_size}")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"PRAGMA journal_size_limit = {LIMIT}").fetchall()
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()  # see _sqlite_wal
    if kind == "ours":
        return
    upgraded = under_lock(db, location, lambda: _create(db, location, ttl))
    if upgraded:
        log("info", "schema_upgraded", location=location, **upgraded)
    # Until it is in the file proper, a power failure could take the schema away.
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _create(db: sqlite3.Connection, location: str, ttl: float | None) -> dict[str, int]:
    """Create or upgrade the schema, unless another process was faster.

    Returns:
        What became of an old store's rows.
    """
    kind = _kind(db, location)
    if kind == "empty":
        _execute(db, _CREATE)
    elif kind == "earlier":
        _execute(db, _UPGRADES[pragma(db, "user_version")])
    elif kind == "old":
        return _upgrade(db, ttl)
    return {}


def missing(db: sqlite3.Connection) -> list[str]:
    """Say what of our schema somebody has removed."""
    there = set(db.execute(_OBJECTS))
    ours = ("table", "seen"), ("index", "seen_hold")
    return [f"no {kind} {name}" for kind, name in ours if (kind, name) not in there]


def _look(db: sqlite3.Connection, location: str) -> Kind:
    """Tell the kind from one snapshot: another process may be creating the schema."""
    db.execute("BEGIN")
    try:
        return _kind(db, location)
    finally:
        if db.in_transaction:  # some errors end it by themselves
            db.execute("ROLLBACK")


def _kind(db: sqlite3.Connection, location: str) -> Kind:
    """Tell an empty database, an old store's and ours apart; refuse every other."""
    try:
        application_id = pragma(db, "application_id")
    except sqlite3.DatabaseError as exc:
        if primary_code(exc) != sqlite3.SQLITE_NOTADB:
            raise
        raise SchemaError(
            location, "not a SQLite database", "It is untouched; name another file"
        ) from exc
    version = pragma(db, "user_version")
    if application_id == APPLICATION_ID:
        if version in _VERSIONS:
            return _VERSIONS[version]
        raise SchemaError(
            location,
            f"its schema has version {version}, this release knows {SCHEMA_VERSION}",
            "It is untouched; upgrade catalyst-seen",
        )
    objects = db.execute(_OBJECTS).fetchall()
    if application_id == version == 0:
        if not objects:
            return "empty"
        if _is_old(db, objects):
            return "old"
    names = ", ".join(f"{kind} {name}" for kind, name in objects) or "no table"
    raise SchemaError(
        location,
        f"another program's database (application_id {application_id},"
        f" user_version {version}, {names})",
        "It is untouched; name another file",
    )


def _is_old(db: sqlite3.Connection, objects: list[Object]) -> bool:
    """Is it one table with the old store's two columns, and at most indexes on it?"""
    others = [kind for kind, name in objects if (kind, name) != ("table", "seen")]
    columns = db.execute("SELECT name, type, pk FROM pragma_table_info('seen')")
    return set(others) <= {"index"} and columns.fetchall() == _OLD_COLUMNS


def _execute(db: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)


def _upgrade(db: sqlite3.Connection, ttl: float | None) -> dict[str, int]:
    """Take the rows over; say how many, and how many no key could ever match."""
    db.execute(_SET_ASIDE)
    _execute(db, _CREATE)
    (old,) = db.execute("SELECT count(*) FROM old_seen").fetchone()
    kept = db.execute(_UPGRADE, (ttl,)).rowcount
    db.execute("DROP TABLE old_seen")
    return {"rows": kept, "skipped": old - kept}


def _set_journal(
    db: sqlite3.Connection, location: str, config: SeenStoreConfig
) -> None:
    wanted = "wal" if config.wal_mode else "delete"
    # Of two that change it at once, SQLite refuses one without waiting.
    (mode,) = retry_while_busy(
        lambda: db.execute(f"PRAGMA journal_mode = {wanted}").fetchone(),
        time.monotonic() + config.timeout,
    )
    if mode != wanted and location != MEMORY:
        raise StoreUnavailableError(
            location,
            f"journal_mode {wanted} was asked for, but SQLite answered {mode}",
            "Use a local disk, or set wal_mode=False",
        )


def pragma(db: sqlite3.Connection, name: str) -> int:
    """Read a setting that is a whole number."""
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)
