"""The SQLite library: chosen and connected to in this module only."""

from __future__ import annotations

import sqlite3

__all__ = ["connect", "sqlite3"]


def connect(
    database: str,
    *,
    is_uri: bool,
    timeout: float = 5.0,
    factory: type[sqlite3.Connection] | None = None,
) -> sqlite3.Connection:
    """Connect in autocommit mode: every transaction begins with a ``BEGIN``.

    Nothing in the file may call a function that has side effects.

    Args:
        database: A path, ``":memory:"``, or a ``file:`` URI.
        is_uri: Is it a URI?
        timeout: SQLite's own busy timeout, in seconds.
        factory: Class of the connection; ``None`` is the library's own.
    """
    db = sqlite3.connect(
        database,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,  # an abandoned connection is closed by another thread
        factory=factory or sqlite3.Connection,
        uri=is_uri,
    )
    db.execute("PRAGMA trusted_schema = OFF").fetchall()
    return db
