"""The statements that SQLite stores execute, and the plans of SQLite for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from catalyst_seen._tuning import Tuning


class SqliteStatements:
    """Records the statements of all connections with its ``tuning``.

    Attributes:
        tuning: Limits of a store whose statements are recorded.
        executed: The statements so far, with their parameters.
    """

    def __init__(self, **limits: Any) -> None:
        """Record nothing yet.

        Args:
            limits: Other limits of the store.
        """
        self.executed: list[tuple[str, Any]] = []
        factory = type("RecordedConnection", (_Connection,), {"log": self.executed})
        self.tuning = Tuning(sqlite_factory=factory, **limits)

    @contextmanager
    def recorded(self, table: str) -> Iterator[list[str]]:
        """Record what a block executes on a table; the list is filled at its end."""
        statements: list[str] = []
        first = len(self.executed)
        yield statements
        statements += [sql for sql, _ in self.executed[first:] if table in sql.split()]

    def plans(self, path: Path) -> list[str]:
        """Return the steps of SQLite's plans for all recorded statements."""
        with closing(sqlite3.connect(path)) as db:
            return [
                step
                for sql, parameters in self.executed
                if sql.startswith(("SELECT", "DELETE", "UPDATE"))
                for *_, step in db.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
            ]


class _Connection(sqlite3.Connection):
    log: ClassVar[list[tuple[str, Any]]]

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        self.log.append((sql, parameters))
        return super().execute(sql, parameters)
