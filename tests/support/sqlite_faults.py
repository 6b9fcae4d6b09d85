"""Faults of SQLite, injected into the connections of a store by their class."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from catalyst_seen import AsyncSeenStore
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.sqlite.database import Database

Hook = Callable[[Callable[[], object]], object]
"""Runs in place of a statement; its argument executes the statement."""


class SqliteFaults:
    """Changes what chosen statements do, on all connections with its ``tuning``.

    Attributes:
        tuning: Limits of a store, with connections that fail.
    """

    def __init__(self, **limits: Any) -> None:
        """Inject nothing yet.

        Args:
            limits: Other limits of the store.
        """
        self._hooks: list[tuple[str, Hook]] = []
        factory = type("FaultyConnection", (_Connection,), {"faults": self})
        self.tuning = Tuning(sqlite_factory=factory, **limits)

    def refuse(
        self, statement: str, error: str, are_done: Sequence[bool] = (False,)
    ) -> list[str]:
        """Let a statement fail the first times it comes, executed or not.

        Args:
            statement: How the statement begins.
            error: Name of SQLite's error code.
            are_done: For each failure: was the statement executed all the same?

        Returns:
            A list that grows with the statements that failed.
        """
        refused: list[str] = []
        left = list(are_done)

        def fail(execute: Callable[[], object]) -> object:
            if not left:
                return execute()
            refused.append(statement)
            if left.pop(0):
                execute()
            raise sqlite_error(error)

        self.replace(statement, fail)
        return refused

    def replace(self, statement: str, hook: Hook) -> None:
        """Call a hook in place of every statement that begins so."""
        self._hooks.append((statement, hook))

    def execute(self, sql: str, execute: Callable[[], object]) -> object:
        """Execute a statement, or the first hook that was made for it."""
        for statement, hook in self._hooks:
            if sql.startswith(statement):
                return hook(execute)
        return execute()


class _Connection(sqlite3.Connection):
    faults: ClassVar[SqliteFaults]

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        plain = super().execute
        return self.faults.execute(sql, lambda: plain(sql, parameters))


def sqlite_error(name: str) -> sqlite3.OperationalError:
    """Make an error as SQLite would raise it, by the name of its code."""
    error = sqlite3.OperationalError("refused")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


async def execute(store: AsyncSeenStore, sql: str) -> list[tuple[Any, ...]]:
    """Execute a statement on a store's own connection."""
    connections: Any = store._lifecycle.backend._connections  # type: ignore[attr-defined]
    rows: list[tuple[Any, ...]] = await connections.run(_execute, sql)
    return rows


def _execute(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database._guarded() as db:
        return db.execute(sql).fetchall()
