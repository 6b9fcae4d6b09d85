"""The SQLite library of a store: chosen, loaded and connected to in this module only.

There are two: that of Python's ``sqlite3``, and a newer one in ``pysqlite3``, which has
the same interface and its own classes. ``Error`` and its likes are the classes of every
library that is loaded, for ``except`` clauses: they are read when an error is raised.
"""

from __future__ import annotations

import sqlite3
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ..._errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

    from ..._config import SqliteLibrary

__all__ = ["Connection", "connect", "load", "sqlite3"]

Connection = sqlite3.Connection
"""A connection; those of another library have the same interface."""

Errors = tuple[type[sqlite3.Error], ...]

Error: Errors = ()
DatabaseError: Errors = ()
OperationalError: Errors = ()
Misuse: Errors = ()
"""Errors of the caller, not of the database: bugs, which are not translated."""


class Library(NamedTuple):
    """A SQLite library.

    Attributes:
        connection: The class of its connections.
        version: Its version, as a text and as numbers.
    """

    connection: type[Connection]
    version: str
    version_info: tuple[int, int, int]


_libraries: dict[str, Library] = {}

_WAL_RESET_FIXED = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7), (3, 51): (3, 51, 3)}
"""The first version without the WAL-reset bug of a release; of a later one, 3.51.3."""


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Has a version the bug by which several connections may damage a file?

    See sqlite.org/wal.html.
    """
    return version < _WAL_RESET_FIXED.get(version[:2], _WAL_RESET_FIXED[3, 51])


def without_wal_reset_bug() -> SqliteLibrary:
    """Return the name of a library without that bug; ``"stdlib"`` if there is none.

    Python's own is preferred, and nothing else is imported then.
    """
    if not has_wal_reset_bug(load("stdlib").version_info):
        return "stdlib"
    try:
        other = load("pysqlite3")
    except (ConfigurationError, ImportError):
        return "stdlib"  # the other one is not installed, or cannot be loaded
    return "stdlib" if has_wal_reset_bug(other.version_info) else "pysqlite3"


def load(name: str) -> Library:
    """Return a SQLite library; its import may take a moment, and happens once.

    Args:
        name: ``"stdlib"`` or ``"pysqlite3"``.

    Raises:
        ConfigurationError: It is not installed.
    """
    if name not in _libraries:
        _add(name, sqlite3 if name == "stdlib" else _import_pysqlite3())
    return _libraries[name]


def connect(
    database: str,
    *,
    is_uri: bool,
    library: str,
    timeout: float = 5.0,
    factory: type[Connection] | None = None,
) -> Connection:
    """Connect in autocommit mode: every transaction begins with a ``BEGIN``.

    Nothing in the file may call a function that has side effects.

    Args:
        database: A path, ``":memory:"``, or a ``file:`` URI.
        is_uri: Is it a URI?
        library: The name of the library.
        timeout: SQLite's own busy timeout, in seconds.
        factory: Class of the connection; ``None`` is the library's own.
    """
    db = (factory or load(library).connection)(
        database,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,  # an abandoned connection is closed by another thread
        uri=is_uri,
    )
    db.execute("PRAGMA trusted_schema = OFF").fetchall()
    return db


def _import_pysqlite3() -> ModuleType:
    try:
        return import_module("pysqlite3.dbapi2")
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            "sqlite",
            "'pysqlite3' is not installed: pip install pysqlite3 (it has"
            " wheels for Linux); or leave the setting out for Python's own library",
        ) from exc


def _add(name: str, module: ModuleType) -> None:
    global Error, DatabaseError, OperationalError, Misuse  # noqa: PLW0603 - see above
    Error = (*Error, module.Error)
    DatabaseError = (*DatabaseError, module.DatabaseError)
    OperationalError = (*OperationalError, module.OperationalError)
    Misuse = (*Misuse, module.ProgrammingError, module.InterfaceError)
    _libraries[name] = Library(
        module.Connection, module.sqlite_version, module.sqlite_version_info
    )


load("stdlib")
