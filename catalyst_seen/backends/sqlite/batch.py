"""One batch: reads the rows of its keys, decides, and writes the changed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._state_machine import transition
from ..base import BatchResult
from . import queries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..operations import Id, Operation, Row
    from .driver import sqlite3


def execute(
    db: sqlite3.Connection,
    operations: Sequence[Operation[object]],
    clock: Callable[[], float],
    *,
    sample_version: bool,
) -> BatchResult:
    """Execute a batch in order, inside the current transaction.

    A batch that changes no row writes nothing, and needs no write lock.

    Args:
        db: The connection.
        operations: The batch.
        clock: Read once per transaction, as a retry may come much later.
        sample_version: Sample ``data_version`` of the snapshot that the batch reads?
    """
    now = clock()
    version = queries.pragma(db, "data_version") if sample_version else None
    found = queries.read(db, operations)
    result, changes = _decide(found, operations, now)
    if changes:
        queries.write(db, found, changes)
    return result._replace(version=version)


def _decide(
    found: Mapping[Id, Row], operations: Sequence[Operation[object]], now: float
) -> tuple[BatchResult, dict[Id, Row | None]]:
    """Apply the operations in memory; return their results and the changed rows.

    Each operation sees the rows that the earlier ones left.
    """
    result = BatchResult([], [], version=None)
    changes: dict[Id, Row | None] = {}
    for operation in operations:
        id_ = operation.namespace, operation.key
        row = changes[id_] if id_ in changes else found.get(id_)
        answer, after = transition(row, operation, now)
        result.results.append(answer)
        result.rows.append(after)
        if after is not row:
            changes[id_] = after
    return result, changes
