"""SQLite files, read and written by plain ``sqlite3``, without a store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path


def write(
    path: Path, *statements: str, rows: Sequence[tuple[object, ...]] = ()
) -> None:
    """Execute statements on a database; the last one runs once per row."""
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements[: -1 if rows else None]:
            db.execute(statement)
        if rows:
            db.executemany(statements[-1], rows)


def read(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def a_row(
    namespace: str, key: str, expires_at: float | None = None, *, seen_at: float = 0.0
) -> tuple[str, str]:
    """Return the statements that mark a key, as another process would."""
    expiry = "NULL" if expires_at is None else expires_at
    return (
        f"INSERT OR IGNORE INTO namespace (name) VALUES ('{namespace}')",
        f"""INSERT INTO seen (namespace, key, first_seen, last_seen, expires_at)
            SELECT id, '{key}', {seen_at}, {seen_at}, {expiry}
            FROM namespace WHERE name = '{namespace}'""",
    )
