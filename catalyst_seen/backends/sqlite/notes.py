"""The notes of keys, in a table of their own, so that rows without one stay short."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ..operations import Acquire, Get
from . import bulk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..operations import Id, Operation, Row
    from . import driver

UNREAD = "\0"
"""Stands in a row for a note that was not read. No note contains a NUL."""

_READ = """SELECT detail.key, note, last_error FROM json_each(?) AS wanted
    CROSS JOIN detail ON namespace = ? AND detail.key = wanted.value"""
_INSERT = "INSERT INTO detail (namespace, key, note, last_error)"
_REPLACE = """ON CONFLICT (namespace, key) DO UPDATE SET
    note = iif(excluded.note = char(0), note, excluded.note),
    last_error = excluded.last_error"""


def read(
    db: driver.Connection,
    ids: Mapping[str, int],
    rows: dict[Id, Row],
    operations: Sequence[Operation[object]],
) -> None:
    """Read the notes that a batch may return, into its rows.

    Args:
        db: The connection.
        ids: Those of the namespaces.
        rows: The rows of the batch; where there is a note, it is ``UNREAD``.
        operations: The batch.
    """
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for operation in operations:
        row = rows.get((operation.namespace, operation.key))
        if row is not None and row.note is not None and _returns_note(operation, row):
            wanted[operation.namespace].add(operation.key)
    for namespace, keys in wanted.items():
        for some in bulk.in_json([*keys]):
            for key, note, error in db.execute(_READ, (some, ids[namespace])):
                row = rows[namespace, key]
                rows[namespace, key] = row._replace(note=note, error=error)


def _returns_note(operation: Operation[object], row: Row) -> bool:
    """May the result contain the note of the row, as it is before the batch?

    A mark cannot be claimed, unless it expires or is forgotten: its note ends then.
    """
    kind = type(operation)
    return kind is Get or (kind is Acquire and row.lease_until is not None)


def differ(before: Row | None, after: Row | None) -> bool:
    """Has a batch changed the texts of a row?"""
    old = (before.note, before.error) if before else (None, None)
    new = (after.note, after.error) if after else (None, None)
    return old != new


def write(
    db: driver.Connection, changes: Sequence[tuple[int, str, Row | None]]
) -> None:
    """Write the texts of the rows that a batch has changed.

    Args:
        db: The connection.
        changes: Ids of namespaces, keys, and their rows; ``None`` is no row any more.
    """
    kept, gone = [], []
    for namespace, key, row in changes:
        if row is not None and (row.note or row.error or row.listed):
            kept.append((namespace, key, row.note, row.error))
        else:
            gone.append((namespace, key))
    bulk.insert(db, _INSERT, kept, _REPLACE)
    bulk.delete(db, "detail", gone)
