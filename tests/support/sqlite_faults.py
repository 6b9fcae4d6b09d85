"""SQL statements of SQLite that fail on purpose."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import pytest

from catalyst_seen.backends.sqlite import worker


def refuse(
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    error: str,
    are_done: Sequence[bool] = (False,),
) -> list[str]:
    """Make a statement fail the first times that a store executes it.

    Args:
        monkeypatch: Restores the connections of stores after the test.
        statement: How the SQL begins.
        error: The name of the error code, such as ``SQLITE_FULL``.
        are_done: For each failure, whether the statement is executed before it.

    Returns:
        The statements that have failed so far.
    """
    execute = worker.Connection.execute
    refused: list[str] = []
    left = list(are_done)

    def fail(self: worker.Connection, work: object, *rest: object) -> object:
        if isinstance(work, str) and work.startswith(statement) and left:
            refused.append(work)
            if left.pop(0):
                execute(self, work, *rest)
            exc = sqlite3.OperationalError("refused")
            exc.sqlite_errorcode = getattr(sqlite3, error)
            exc.sqlite_errorname = error
            raise exc
        return execute(self, work, *rest)

    monkeypatch.setattr(worker.Connection, "execute", fail)
    return refused
