"""How a file becomes a store: detection, settings, schema, upgrade."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..._errors import ConfigurationError, SchemaError, StoreUnavailableError
from ..._logging import log
from . import driver
from .errors import is_no_database
from .files import MEMORY, create_file, path_errors, size
from .objects import (
    APPLICATION_ID,
    CREATE,
    SCHEMA_VERSION,
    Object,
    differences,
    read_objects,
)
from .queries import pragma
from .transactions import in_snapshot, in_write_transaction, retry_while_busy
from .upgrade import upgrade_earlier, upgrade_old_store
from .wal import limit

if TYPE_CHECKING:
    from ..._config import SeenStoreConfig
    from .transactions import Deadline

Kind = Literal["ours", "earlier", "old", "empty"]

_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

_OLDEST_SQLITE = (3, 37)  # STRICT tables

_VERSIONS: dict[int, Kind] = {
    SCHEMA_VERSION: "ours",
    **dict.fromkeys(range(1, SCHEMA_VERSION), "earlier"),
}
_OLD_COLUMNS = [("id", "TEXT", 1), ("ts", "INTEGER", 0)]


def precheck_file(location: str, config: SeenStoreConfig) -> None:
    """Create directory and file, and refuse a foreign file before it can change.

    An ordinary connection that only reads may still change a file that a crashed
    program left behind: it would roll back its journal, or checkpoint its log.

    Args:
        location: Path of the file.
        config: ``create``, and the permissions of a new file.

    Raises:
        SchemaError: A newer schema, another program's database, or no database.
        StoreUnavailableError: A directory or a device, in no directory, or read-only;
            or the system refuses the path.
        ConfigurationError: This Python's SQLite is too old.
    """
    library = driver.load(config.sqlite)
    if library.version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            "SQLite",
            f"3.37 is needed at least, {config.sqlite} has {library.version}",
        )
    if location == MEMORY:
        return
    with path_errors(location):
        real = os.path.realpath(location)  # SQLite's other files are beside the target
        _refuse_place(location, real, config)
        _make_directory(location)
        create_file(real, config.file_mode)
    if size(f"{real}-wal"):
        if not size(real):
            raise SchemaError(
                location,
                "it is empty, but its log is not: somebody has emptied it, and SQLite"
                " would throw away what is in the log",
                "Both are untouched; restore a backup, or remove the log to begin anew",
            )
        _detect_read_only(location, "mode=ro", config.sqlite)
    elif size(f"{real}-journal"):
        try:
            _detect_read_only(location, "immutable=1", config.sqlite)
        except driver.DatabaseError:
            return  # half a transaction: unreadable until it is rolled back


def _refuse_place(location: str, real: str, config: SeenStoreConfig) -> None:
    """Refuse what is no file, and a missing file that must not be made."""
    mode = _mode(location)  # read once: another process may make the file meanwhile
    if stat.S_ISDIR(mode):
        raise StoreUnavailableError(location, "it is a directory", "Name a file in it")
    if stat.S_ISREG(mode):
        return
    if mode:
        raise StoreUnavailableError(location, "it is a device", "Name a file")
    if size(f"{real}-wal"):
        raise SchemaError(
            location,
            "it was deleted, but its log is still there, and SQLite would throw away"
            " what is in the log",
            f"Nothing was made; put the file back, or remove {real}-wal to begin anew",
        )
    if not config.create:
        raise _no_store(location)


def _no_store(location: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        location,
        "there is no store, and create=False",
        "Name the file of a store, or open it with create=True",
    )


def _mode(location: str) -> int:
    """Return the type and permissions of what has a path; 0 if nothing has."""
    try:
        return os.stat(location).st_mode  # noqa: PTH116 - a path as given
    except OSError as exc:
        if exc.errno in _NOTHING_THERE:
            return 0
        raise


def _make_directory(location: str) -> None:
    try:
        Path(location).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreUnavailableError(
            location,
            f"its directory cannot be made: {exc.strerror}",
            "Name a file in a directory that you may write to",
        ) from exc


def is_upgraded_when_opened(location: str, config: SeenStoreConfig) -> bool:
    """Is a path the file of an earlier release? It is only read.

    Args:
        location: The path.
        config: The settings.

    Raises:
        SchemaError: It is no store.
    """
    driver.load(config.sqlite)
    with path_errors(location):
        if not Path(location).is_file():
            return False
        real = os.path.realpath(location)
    option = "mode=ro" if size(f"{real}-wal") else "immutable=1"  # that makes no log
    try:
        return _detect_read_only(location, option, config.sqlite) in {"earlier", "old"}
    except driver.DatabaseError:
        return False  # the opening says what is wrong


def _detect_read_only(location: str, option: str, library: str) -> Kind:
    uri = f"{Path(location).as_uri()}?{option}"
    with closing(driver.connect(uri, is_uri=True, library=library)) as db:
        return _detect(db, location)


def prepare(
    db: driver.Connection,
    location: str,
    config: SeenStoreConfig,
    ttl: float | None,
    deadline: Deadline,
    *,
    may_create: bool,
) -> None:
    """Apply settings and schema, in the only order in which SQLite ignores none.

    Args:
        db: A new connection to a file that passed ``precheck_file``.
        location: Its path.
        config: The settings.
        ttl: Time to live of the rows of an old store, counted from their ``ts``.
        deadline: End of the wait for other connections.
        may_create: May the schema be created or upgraded? Otherwise such a file is
            refused.

    Raises:
        SchemaError: The file is not a store; nothing is changed.
        StoreUnavailableError: SQLite refused the journal mode of the settings.
    """
    # A reader serves the health check as well, which reports the differences.
    kind = _detect(db, location, compare=may_create)
    if kind != "ours" and not may_create:
        raise SchemaError(
            location,
            "it was a store when it was opened, and is none any more",
            "It is untouched; restore a backup, and open a new store",
        )
    if kind == "empty":
        if not config.create:
            raise _no_store(location)
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _set_journal(db, location, config, deadline)
    db.execute(f"PRAGMA synchronous = {config.synchronous}")
    db.execute(f"PRAGMA cache_size = {config.cache_size}")
    db.execute("PRAGMA temp_store = MEMORY")
    # Some systems' SQLite fills every page that it frees with zeros. After a purge of
    # notes these would be most of the log.
    db.execute("PRAGMA secure_delete = FAST").fetchall()
    db.execute(f"PRAGMA journal_size_limit = {limit(db)}").fetchall()
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()  # see wal.py
    if kind == "ours":
        return
    kind, rows = in_write_transaction(db, location, deadline, _create, location, ttl)
    if kind == "empty" and location != MEMORY:
        log("warning", "store_created", location=location)
    elif rows:
        log("info", "schema_upgraded", location=location, **rows)
    # Until the schema is in the database file, a power failure could lose it.
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _create(
    db: driver.Connection, location: str, ttl: float | None
) -> tuple[Kind, dict[str, int]]:
    """Create or upgrade the schema, unless another process was faster.

    Returns:
        What was there before, and the numbers of rows of an upgrade, for the log.
    """
    kind = _detect_in_transaction(db, location)
    if kind == "old":
        return kind, upgrade_old_store(db, ttl)
    if kind == "earlier":
        return kind, upgrade_earlier(db, pragma(db, "user_version"))
    if kind == "empty":
        for statement in CREATE:
            db.execute(statement)
    return kind, {}


def _detect(db: driver.Connection, location: str, *, compare: bool = True) -> Kind:
    """Detect the kind in one snapshot: another process may be creating the schema."""
    return in_snapshot(db, _detect_in_transaction, location, compare=compare)


def _detect_in_transaction(
    db: driver.Connection, location: str, *, compare: bool = True
) -> Kind:
    """Detect an empty database, an old store's or ours; refuse every other.

    Args:
        db: A connection in a transaction.
        location: Its path.
        compare: Refuse a file of ours with objects that differ from the schema's?
    """
    try:
        application_id = pragma(db, "application_id")
    except driver.DatabaseError as exc:
        if not is_no_database(exc):
            raise
        raise SchemaError(
            location, "not a SQLite database", "It is untouched; name another file"
        ) from exc
    version = pragma(db, "user_version")
    if application_id == APPLICATION_ID:
        return _detect_ours(db, location, version, compare=compare)
    objects = list(read_objects(db))
    if application_id == version == 0:
        if not objects:
            return "empty"
        if _is_old_store(db, objects):
            return "old"
    names = ", ".join(f"{kind} {name}" for kind, name in objects) or "no table"
    raise SchemaError(
        location,
        f"another program's database (application_id {application_id},"
        f" user_version {version}, {names})",
        "It is untouched; name another file",
    )


def _detect_ours(
    db: driver.Connection, location: str, version: int, *, compare: bool
) -> Kind:
    if version not in _VERSIONS:
        raise SchemaError(
            location,
            f"its schema has version {version}, this release knows {SCHEMA_VERSION}",
            "It is untouched; upgrade catalyst-seen",
        )
    found = differences(db, version) if compare else []
    if found:
        raise SchemaError(
            location,
            f"its schema was changed by another program: {', '.join(found)}",
            "It is untouched; undo that change, or restore a backup",
        )
    return _VERSIONS[version]


def _is_old_store(db: driver.Connection, objects: list[Object]) -> bool:
    """Is there only one table with the old store's two columns, and its indexes?"""
    others = [kind for kind, name in objects if (kind, name) != ("table", "seen")]
    columns = db.execute("SELECT name, type, pk FROM pragma_table_info('seen')")
    return set(others) <= {"index"} and columns.fetchall() == _OLD_COLUMNS


def _set_journal(
    db: driver.Connection, location: str, config: SeenStoreConfig, deadline: Deadline
) -> None:
    wanted = "wal" if config.wal_mode else "delete"
    # Of two connections that change the mode at once, SQLite refuses one without delay.
    mode = retry_while_busy(deadline, _set_journal_mode, db, wanted)
    if mode != wanted and location != MEMORY:
        raise StoreUnavailableError(
            location,
            f"journal_mode {wanted} was asked for, but SQLite answered {mode}",
            "Use a local disk, or set wal_mode=False",
        )


def _set_journal_mode(db: driver.Connection, mode: str) -> str:
    (actual,) = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    return str(actual)
