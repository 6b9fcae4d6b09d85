"""The statements on SQLite's table: reading, writing, removing and counting rows."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ..._types import Record
from ..operations import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..base import Cursor
    from ..operations import Id, Operation
    from . import driver

_ROW = """first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned"""
_READ_ONE = f"SELECT {_ROW} FROM seen WHERE namespace = ? AND id = ?"  # noqa: S608
_READ = f"""SELECT {_ROW}, seen.id FROM json_each(?) AS wanted
    CROSS JOIN seen ON namespace = ? AND seen.id = wanted.value"""  # noqa: S608
_WRITE = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MARK = """INSERT OR ROLLBACK INTO seen
        (namespace, id, first_seen, last_seen, expires_at)
    SELECT ?, value, ?, ?, ? FROM json_each(?)"""
_DELETE = "DELETE FROM seen WHERE namespace = ? AND id = ?"
_EXPIRED = "expires_at <= ?"
_OLD = """last_seen < ? AND (lease_until IS NULL OR lease_until <= ?
    AND on_abandoned IS NOT 'hold')"""
_LAST = """SELECT namespace, id FROM seen WHERE {span}
    ORDER BY namespace, id LIMIT 1 OFFSET ?"""
_ANY = "SELECT 1 FROM seen WHERE {span} AND {condition} LIMIT 1"
_REMOVE = "DELETE FROM seen WHERE {span} AND {condition}"
_COUNT = """SELECT namespace, count(*) FROM seen
    WHERE (expires_at IS NULL OR expires_at > ?)
        AND (lease_until IS NULL OR lease_until <= ? AND on_abandoned = 'drop'){scope}
    GROUP BY namespace"""
_CLAIMS = """SELECT
        CASE WHEN lease_until > ? THEN 'claimed' ELSE on_abandoned END AS state,
        count(*)
    FROM seen
    WHERE lease_until IS NOT NULL AND (expires_at IS NULL OR expires_at > ?){scope}
    GROUP BY state"""
_HELD = """SELECT id, namespace, first_seen, last_seen, expires_at
    FROM seen INDEXED BY seen_hold
    WHERE on_abandoned = 'hold' AND lease_until <= ?{scope} ORDER BY namespace, id"""
_SCOPE = " AND namespace = ?"

_KEYS = 1_024  # in a statement; a power of two, so that few sizes are compiled


def read(
    db: driver.Connection, operations: Sequence[Operation[object]]
) -> dict[Id, Row]:
    """Read the rows of the keys of a batch."""
    if len(operations) == 1:
        id_ = operations[0].namespace, operations[0].key
        row = db.execute(_READ_ONE, id_).fetchone()
        return {id_: Row(*row)} if row else {}
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for operation in operations:
        keys[operation.namespace].append(operation.key)
    rows: dict[Id, Row] = {}
    for namespace, names in keys.items():
        for wanted in _in_json(names):
            for *row, name in db.execute(_READ, (wanted, namespace)):
                rows[namespace, name] = Row(*row)
    return rows


def write(
    db: driver.Connection, found: Mapping[Id, Row], changes: Mapping[Id, Row | None]
) -> None:
    """Write the changed rows of a batch, in few statements.

    After each statement the thread acquires the GIL again, and a busy event loop may
    delay that by milliseconds.

    Args:
        db: The connection.
        found: The rows before the batch.
        changes: The rows after it; ``None`` deletes a row.
    """
    marks: defaultdict[tuple[str, Row], list[str]] = defaultdict(list)
    rows: list[tuple[object, ...]] = []
    for id_, row in changes.items():
        if row is None:
            db.execute(_DELETE, id_)
        elif row.attempt or id_ in found or len(changes) == 1:
            rows.append(id_ + row)
        else:
            marks[id_[0], row].append(id_[1])
    for (namespace, row), names in marks.items():
        for fresh in _in_json(names):
            db.execute(_MARK, (namespace, *row[:3], fresh))
    size, first = _KEYS, 0
    while first < len(rows):
        while size > len(rows) - first:
            size //= 2
        db.execute(_write_many(size), [*chain(*rows[first : first + size])])
        first += size


class Removal(NamedTuple):
    """One page of a long removal: the rows to examine, and which of them to remove."""

    namespace: str | None
    after: Cursor | None
    limit: int
    age: float | None
    """Seconds since the last mark; ``None`` selects the expired rows."""

    def condition(self, now: float) -> tuple[str, tuple[float, ...]]:
        """Return the condition for removal, and its parameters."""
        if self.age is None:
            return _EXPIRED, (now,)
        return _OLD, (now - self.age, now)

    def span(self, last: Cursor | None = None) -> tuple[str, list[str]]:
        """Return the range from ``after`` to ``last``, in a form that SQLite can seek.

        Args:
            last: The last row of the page; ``None`` is the last row of the table.
        """
        if self.namespace is None:
            span, values, columns, marks = "true", [], "(namespace, id)", "(?, ?)"
        else:
            span, values, columns, marks = "namespace = ?", [self.namespace], "id", "?"
        for comparison, id_ in ((">", self.after), ("<=", last)):
            if id_:
                span += f" AND {columns} {comparison} {marks}"
                values += id_ if self.namespace is None else id_[1:]
        return span, values


def remove(
    db: driver.Connection, removal: Removal, now: float
) -> tuple[int, Cursor | None]:
    """Remove the selected rows of one page; return their number and the next cursor."""
    span, values = removal.span()
    last = _LAST.format(span=span), (*values, removal.limit - 1)
    end = db.execute(*last).fetchone()
    span, values = removal.span(end)
    condition, bounds = removal.condition(now)
    selection = {"span": span, "condition": condition}
    parameters = *values, *bounds
    if db.execute(_ANY.format(**selection), parameters).fetchone() is None:
        return 0, end
    return db.execute(_REMOVE.format(**selection), parameters).rowcount, end


def count(db: driver.Connection, namespace: str | None, now: float) -> dict[str, int]:
    """Count the seen keys of each namespace."""
    return _counts(db, _COUNT, namespace, now)


def count_claims(
    db: driver.Connection, namespace: str | None, now: float
) -> dict[str, int]:
    """Count the live claims, and the abandoned ones by their policy."""
    return _counts(db, _CLAIMS, namespace, now)


def held(db: driver.Connection, namespace: str | None, now: float) -> list[Record]:
    """List the held keys, ordered by namespace and key."""
    scope, names = _scope(namespace)
    return [
        Record(*row) for row in db.execute(_HELD.format(scope=scope), (now, *names))
    ]


def _counts(
    db: driver.Connection, query: str, namespace: str | None, now: float
) -> dict[str, int]:
    scope, names = _scope(namespace)
    return dict(db.execute(query.format(scope=scope), (now, now, *names)))


def pragma(db: driver.Connection, name: str) -> int:
    """Read an integer setting or counter."""
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)


@cache
def _write_many(rows: int) -> str:
    return _WRITE + ", (?, ?, ?, ?, ?, ?, ?, ?, ?)" * (rows - 1)


def _in_json(names: list[str]) -> Iterator[str]:
    for first in range(0, len(names), _KEYS):
        yield json.dumps(names[first : first + _KEYS])


def _scope(namespace: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if namespace is None else (_SCOPE, (namespace,))
