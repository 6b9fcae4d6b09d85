"""The statements of a batch: reading and writing the rows of its keys."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..operations import Listed, Row
from . import bulk, namespaces, notes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..operations import Id, Operation
    from . import driver

_COLUMNS = """first_seen, last_seen, expires_at, token, attempt, lease_until,
    on_abandoned"""
# The columns of a row, whether there may be a note, and whether it was ever listed.
_ROW = f"{_COLUMNS}, iif(has_detail, char(0), NULL), iif(listed_poll, 1, NULL)"
_LISTED = Listed()  # what it contains stays as it is
_READ_ONE = f"""SELECT {_ROW}, namespace.id FROM namespace
    LEFT JOIN seen ON namespace = namespace.id AND key = ? WHERE name = ?"""  # noqa: S608
_READ = f"""SELECT {_ROW}, seen.key FROM json_each(?) AS wanted
    CROSS JOIN seen ON namespace = ? AND seen.key = wanted.value"""  # noqa: S608
INSERT = f"INSERT INTO seen (namespace, key, {_COLUMNS}, has_detail)"
# A key that is seen does not wait; the detail of one that was listed has more in it.
UPDATE = f"""ON CONFLICT (namespace, key) DO UPDATE SET ({_COLUMNS}, has_detail, seq) =
    ({", ".join(f"excluded.{column.strip()}" for column in _COLUMNS.split(","))},
    excluded.has_detail OR has_detail AND listed_poll IS NOT NULL,
    iif(excluded.lease_until IS NULL, NULL, seq))"""
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
    return ({} if found[0] is None else {(namespace, key): _row(found[:-1])}), ids


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
                rows[namespace, key] = _row(row)
    return rows, ids


def _row(columns: Sequence[Any]) -> Row:
    row = Row(*columns)
    return row if row.listed is None else row._replace(listed=_LISTED)


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
    noted: list[tuple[int, str, Row | None]] = []
    for id_, row in changes.items():
        name, key = id_
        namespace = namespaces.find_or_create(db, ids, name)
        before = found.get(id_)
        has_detail = row is not None and (row.note, row.error) != (None, None)
        if notes.differ(before, row):
            noted.append((namespace, key, row))
        if row is None:
            gone.append((namespace, key))
        elif row.attempt or before or len(changes) == 1:
            rows.append((namespace, key, *row[:7], has_detail))
        else:
            marks[namespace, *row[:3], has_detail].append(key)
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
