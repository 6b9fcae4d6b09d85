"""Rows in SQLite's table: how a transaction reads, writes, removes and counts them.

Everything here runs on the worker thread, inside a transaction or as one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ..._types import Record
from ..operations import Row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from ..base import Cursor
    from ..operations import Id, Operation

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

_AT_ONCE = 1_024  # keys in a statement; a power of two, so that few sizes are compiled


def read(
    db: sqlite3.Connection, operations: Sequence[Operation[object]]
) -> dict[Id, Row]:
    """Read the rows that a batch is about."""
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
    db: sqlite3.Connection, found: Mapping[Id, Row], changes: Mapping[Id, Row | None]
) -> None:
    """Write what has changed, in few statements.

    At the end of each one the thread asks for the GIL again, and a busy event loop may
    keep it waiting for milliseconds.
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
    size, first = _AT_ONCE, 0
    while first < len(rows):
        while size > len(rows) - first:
            size //= 2
        db.execute(_write_many(size), [*chain(*rows[first : first + size])])
        first += size


class Removal(NamedTuple):
    """Which rows a step of a long removal looks at, and which of them go."""

    namespace: str | None
    after: Cursor | None
    limit: int
    age: float | None
    """Seconds since the last mark; ``None`` takes what is expired."""

    def condition(self, now: float) -> tuple[str, tuple[float, ...]]:
        """Say which rows go, and the values that it needs."""
        if self.age is None:
            return _EXPIRED, (now,)
        return _OLD, (now - self.age, now)

    def span(self, last: Cursor | None = None) -> tuple[str, list[str]]:
        """Name the rows from ``after`` to ``last`` as SQLite can seek them."""
        if self.namespace is None:
            span, values, place, mark = "true", [], "(namespace, id)", "(?, ?)"
        else:
            span, values, place, mark = "namespace = ?", [self.namespace], "id", "?"
        for comparison, id_ in ((">", self.after), ("<=", last)):
            if id_:
                span += f" AND {place} {comparison} {mark}"
                values += id_ if self.namespace is None else id_[1:]
        return span, values


def remove(
    db: sqlite3.Connection, removal: Removal, now: float
) -> tuple[int, Cursor | None]:
    """Remove what goes of the next rows; return how many, and where to go on."""
    span, values = removal.span()
    last = _LAST.format(span=span), (*values, removal.limit - 1)
    end = db.execute(*last).fetchone()
    span, values = removal.span(end)
    condition, bounds = removal.condition(now)
    gone = {"span": span, "condition": condition}
    parameters = *values, *bounds
    if db.execute(_ANY.format(**gone), parameters).fetchone() is None:
        return 0, end
    return db.execute(_REMOVE.format(**gone), parameters).rowcount, end


def count(db: sqlite3.Connection, namespace: str | None, now: float) -> dict[str, int]:
    """Count the seen keys of each namespace."""
    return _counts(db, _COUNT, namespace, now)


def count_claims(
    db: sqlite3.Connection, namespace: str | None, now: float
) -> dict[str, int]:
    """Count live claims, and what was abandoned by what becomes of it."""
    return _counts(db, _CLAIMS, namespace, now)


def held(db: sqlite3.Connection, namespace: str | None, now: float) -> list[Record]:
    """List what is held, in the order of namespace and key."""
    scope, names = _scope(namespace)
    return [
        Record(*row) for row in db.execute(_HELD.format(scope=scope), (now, *names))
    ]


def _counts(
    db: sqlite3.Connection, query: str, namespace: str | None, now: float
) -> dict[str, int]:
    scope, names = _scope(namespace)
    return dict(db.execute(query.format(scope=scope), (now, now, *names)))


@cache
def _write_many(rows: int) -> str:
    return _WRITE + ", (?, ?, ?, ?, ?, ?, ?, ?, ?)" * (rows - 1)


def _in_json(names: list[str]) -> Iterator[str]:
    for first in range(0, len(names), _AT_ONCE):
        yield json.dumps(names[first : first + _AT_ONCE])


def _scope(namespace: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if namespace is None else (_SCOPE, (namespace,))
