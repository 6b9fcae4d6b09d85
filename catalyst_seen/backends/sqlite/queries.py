"""The statements of a batch: reading and writing the rows of its keys."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ..operations import Row
from . import bulk, namespaces, notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..operations import Id, Operation
    from . import driver

_COLUMNS = """first_seen, last_seen, expires_at, token, attempt, lease_until,
    on_abandoned"""
# The columns of a row, and whether there is a note.
_ROW = f"{_COLUMNS}, iif(has_detail, char(0), NULL)"
_READ_ONE = f"""SELECT {_ROW}, namespace.id FROM namespace
    LEFT JOIN seen ON namespace = namespace.id AND key = ? WHERE name = ?"""  # noqa: S608
_READ = f"""SELECT {_ROW}, seen.key FROM json_each(?) AS wanted
    CROSS JOIN seen ON namespace = ? AND seen.key = wanted.value"""  # noqa: S608
INSERT = f"INSERT INTO seen (namespace, key, {_COLUMNS}, has_detail)"
UPDATE = f"""ON CONFLICT (namespace, key) DO UPDATE SET ({_COLUMNS}, has_detail) =
    ({", ".join(f"excluded.{column.strip()}" for column in _COLUMNS.split(","))},
    excluded.has_detail)"""
_MARK = """INSERT OR ROLLBACK INTO seen
        (namespace, key, first_seen, last_seen, expires_at, has_detail)
    SELECT ?, value, ?, ?, ?, ? FROM json_each(?)"""


def read(
    db: driver.Connection, operations: Sequence[Operation[object]]
) -> tuple[dict[Id, Row], dict[str, int]]:
    """Read the rows of the keys of a batch, in one transaction.

    Returns:
        The rows, and the ids of those of the namespaces that have one. Where a row has
        a note that no result contains, it is ``UNREAD``.
    """
    rows, ids = (_read_one if len(operations) == 1 else _read)(db, operations)
    for row in rows.values():
        if row.note is not None:
            notes.read(db, ids, rows, operations)
            break
    return rows, ids


def _read_one(
    db: driver.Connection, operations: Sequence[Operation[object]]
) -> tuple[dict[Id, Row], dict[str, int]]:
    namespace, key = operations[0].namespace, operations[0].key
    found = db.execute(_READ_ONE, (key, namespace)).fetchone()
    if found is None:
        return {}, {}
    ids = {namespace: found[-1]}
    return ({} if found[0] is None else {(namespace, key): Row(*found[:-1])}), ids


def _read(
    db: driver.Connection, operations: Sequence[Operation[object]]
) -> tuple[dict[Id, Row], dict[str, int]]:
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for operation in operations:
        keys[operation.namespace].append(operation.key)
    ids = namespaces.find_all(db, keys)
    rows: dict[Id, Row] = {}
    for namespace, namespace_id in ids.items():
        for wanted in bulk.in_json(keys[namespace]):
            for *row, key in db.execute(_READ, (wanted, namespace_id)):
                rows[namespace, key] = Row(*row)
    return rows, ids


def write(
    db: driver.Connection,
    ids: dict[str, int],
    found: Mapping[Id, Row],
    changes: Mapping[Id, Row | None],
) -> None:
    """Write the changed rows of a batch, in few statements.

    Args:
        db: The connection.
        ids: Those of the namespaces; a new namespace is added.
        found: The rows before the batch.
        changes: The rows after it; ``None`` deletes a row.
    """
    marks: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    rows: list[tuple[object, ...]] = []
    gone: list[tuple[int, str]] = []
    noted: list[tuple[int, str, str | None]] = []
    for id_, row in changes.items():
        name, key = id_
        namespace = namespaces.find_or_create(db, ids, name)
        before = found.get(id_)
        note = row.note if row else None
        if note != (before.note if before else None):
            noted.append((namespace, key, note))
        if row is None:
            gone.append((namespace, key))
        elif row.attempt or before or len(changes) == 1:
            rows.append((namespace, key, *row[:-1], note is not None))
        else:
            marks[namespace, *row[:3], note is not None].append(key)
    _mark(db, marks)
    bulk.insert(db, INSERT, rows, UPDATE)
    if gone:
        bulk.delete(db, "seen", gone)
    if noted:
        notes.write(db, noted)


def _mark(
    db: driver.Connection, marks: Mapping[tuple[object, ...], Sequence[str]]
) -> None:
    """Insert new rows, all columns of which are equal except for the key."""
    for values, keys in marks.items():
        for fresh in bulk.in_json(keys):
            db.execute(_MARK, (*values, fresh))


def pragma(db: driver.Connection, name: str) -> int:
    """Read an integer setting or counter."""
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)
