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
_READ_ONE = f"SELECT {_ROW} FROM seen WHERE namespace = ? AND key = ?"  # noqa: S608
_READ = f"""SELECT {_ROW}, seen.key FROM json_each(?) AS wanted
    CROSS JOIN seen ON namespace = ? AND seen.key = wanted.value"""  # noqa: S608
_INSERT = f"INSERT INTO seen (namespace, key, {_COLUMNS}, has_detail)"
_UPDATE = f"""ON CONFLICT (namespace, key) DO UPDATE SET ({_COLUMNS}, has_detail) =
    ({", ".join(f"excluded.{column.strip()}" for column in _COLUMNS.split(","))},
    excluded.has_detail)"""
_MARK = """INSERT OR ROLLBACK INTO seen
        (namespace, key, first_seen, last_seen, expires_at, has_detail)
    SELECT ?, value, ?, ?, ?, ? FROM json_each(?)"""


def read(
    db: driver.Connection,
    ids: Mapping[str, int],
    operations: Sequence[Operation[object]],
) -> dict[Id, Row]:
    """Read the rows of the keys of a batch.

    Args:
        db: The connection.
        ids: Those of the namespaces; one that has none has no rows.
        operations: The batch.

    Returns:
        The rows. Where there is a note that no result contains, it is ``UNREAD``.
    """
    rows = _read(db, ids, operations)
    if any(row.note is not None for row in rows.values()):
        notes.read(db, ids, rows, operations)
    return rows


def _read(
    db: driver.Connection,
    ids: Mapping[str, int],
    operations: Sequence[Operation[object]],
) -> dict[Id, Row]:
    if len(operations) == 1:
        id_ = operations[0].namespace, operations[0].key
        if id_[0] not in ids:
            return {}
        one = db.execute(_READ_ONE, (ids[id_[0]], id_[1])).fetchone()
        return {id_: Row(*one)} if one else {}
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for operation in operations:
        keys[operation.namespace].append(operation.key)
    rows: dict[Id, Row] = {}
    for namespace, namespace_id in ids.items():
        for wanted in bulk.in_json(keys[namespace]):
            for *row, key in db.execute(_READ, (wanted, namespace_id)):
                rows[namespace, key] = Row(*row)
    return rows


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
    for namespace in {name for name, _ in changes} - ids.keys():
        ids[namespace] = namespaces.create(db, namespace)
    marks: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    gone: defaultdict[int, list[str]] = defaultdict(list)
    rows: list[tuple[object, ...]] = []
    for id_, row in changes.items():
        namespace_id, key = ids[id_[0]], id_[1]
        if row is None:
            gone[namespace_id].append(key)
        elif row.attempt or id_ in found or len(changes) == 1:
            rows.append((namespace_id, key, *row[:-1], row.note is not None))
        else:
            marks[namespace_id, *row[:3], row.note is not None].append(key)
    for values, keys in marks.items():
        for fresh in bulk.in_json(keys):
            db.execute(_MARK, (*values, fresh))
    bulk.insert(db, _INSERT, rows, _UPDATE)
    bulk.delete(db, "seen", gone)
    notes.write(db, ids, found, changes)


def pragma(db: driver.Connection, name: str) -> int:
    """Read an integer setting or counter."""
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)
