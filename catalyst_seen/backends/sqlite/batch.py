"""One batch: reads the rows of its keys, decides, and writes the changed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._state_machine import transition_batch
from . import queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..base import BatchResult
    from ..operations import Operation
    from . import driver


def execute(
    db: driver.Connection,
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
    found, ids = queries.read(db, operations)
    result, changes = transition_batch(found, operations, now)
    if changes:
        queries.write(db, ids, found, changes)
    return result._replace(version=version)
