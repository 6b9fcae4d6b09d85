"""One batch: reads the rows of its keys, decides, and writes the changed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._for_each import Expansion
from .._state_machine import transition_batch
from ..base import BatchResult
from ..operations import ForEach
from . import for_each, namespaces, queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    each = {one.namespace for one in operations if isinstance(one, ForEach)}
    if not each:
        return _execute_singles(db, operations, now, {})._replace(version=version)
    ids = namespaces.find_all(db, each)
    done = BatchResult([], [], version)
    singles: list[Operation[object]] = []
    for operation in operations:
        if not isinstance(operation, ForEach):
            singles.append(operation)
            continue
        _extend(done, _execute_singles(db, singles, now, ids))
        singles = []
        outcome = for_each.execute(db, ids, operation, now)
        if outcome is None:
            part = Expansion([operation])
            result = _execute_singles(db, part.operations, now, ids)
            _extend(done, part.regroup_batch(result, now))
        else:
            done.results.append(outcome[0])
            done.rows.append(outcome[1])
    _extend(done, _execute_singles(db, singles, now, ids))
    return done


def _execute_singles(
    db: driver.Connection,
    operations: Sequence[Operation[object]],
    now: float,
    known: dict[str, int],
) -> BatchResult:
    """Execute operations on one key each; ``known`` gets the ids of namespaces."""
    if not operations:
        return BatchResult([], [], None)
    found, ids = queries.read(db, operations)
    result, changes = transition_batch(found, operations, now)
    if changes:
        queries.write(db, ids, found, changes)
    known.update(ids)
    return result


def _extend(done: BatchResult, part: BatchResult) -> None:
    done.results.extend(part.results)
    done.rows.extend(part.rows)
