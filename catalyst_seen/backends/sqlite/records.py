"""Pages of records."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from .._state_machine import transition
from ..base import RecordPage
from ..operations import Get, Row
from .conditions import LIVE, STATES
from .spans import MAX_ID, cursor_behind, end_of, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._types import Record
    from ..base import Cursor, Selection
    from . import driver
    from .spans import Span

_NOTES = 4_000_000  # characters of notes after which a page ends early

# The rows of a span, and their order, which is that of the outer loop: in each
# namespace one range of the primary key.
_BY_NAMESPACE = (
    """FROM namespace CROSS JOIN seen ON seen.namespace = namespace.id
        AND seen.key >= iif(namespace.id = :first, :start, :prefix)
        AND seen.key < iif(namespace.id = :last, :stop, :end)
    WHERE namespace.id BETWEEN :first AND :last""",
    "namespace.id, seen.key",
)
# Few keys are held: their index leads to them.
_HELD = (
    """FROM seen INDEXED BY seen_held
        CROSS JOIN namespace ON namespace.id = seen.namespace
    WHERE seen.on_abandoned = 'hold'
        AND (seen.namespace, seen.key) >= (:first, :start)
        AND (seen.namespace, seen.key) < (:last, :stop)
        AND seen.key >= :prefix AND seen.key < :end""",
    "seen.namespace, seen.key",
)
_LAST = "SELECT seen.namespace, seen.key {} ORDER BY {} LIMIT 1 OFFSET :limit - 1"
_TEXT = """CASE WHEN has_detail AND {1} THEN (SELECT {0} FROM detail
        WHERE detail.namespace = seen.namespace AND detail.key = seen.key) END"""
_SELECT = f"""SELECT seen.namespace, seen.key, namespace.name, seen.first_seen,
        seen.last_seen, seen.expires_at, seen.token, seen.attempt, seen.lease_until,
        seen.on_abandoned, {_TEXT.format("note", "true")}, NULL,
        {_TEXT.format("last_error", "seen.lease_until IS NOT NULL")}
    {{}} AND {LIVE} AND {{}} AND (:since IS NULL OR last_seen >= :since)
    ORDER BY {{}}"""
_LAST_NAMESPACE = """SELECT id FROM namespace WHERE id >= :first
    ORDER BY id LIMIT 1 OFFSET :limit - 1"""


def read_page(
    db: driver.Connection,
    selection: Selection,
    now: float,
    limit: int,
    cursor: Cursor | None,
) -> RecordPage:
    """Read a page of the selected records: those among ``limit`` rows.

    It examines at most as many namespaces.

    Args:
        db: A connection in a transaction, so that a page is of one snapshot.
        selection: Which records.
        now: The time.
        limit: Number of rows to examine.
        cursor: That of the page before.
    """
    state = selection.state
    rows = span(db, selection.namespace, cursor, selection.prefix)
    if rows is None:
        return RecordPage([], None)
    following: Cursor | None = None
    if rows.last == MAX_ID and state != "held":
        rows, following = _of_some_namespaces(db, rows, selection.prefix, limit)
    source, order = _HELD if state == "held" else _BY_NAMESPACE
    values = {
        "prefix": selection.prefix, "end": end_of(selection.prefix),
        "since": selection.since, "now": now, "limit": limit,
    }  # fmt: skip
    last = db.execute(_LAST.format(source, order), rows._asdict() | values).fetchone()
    if last is not None:
        rows, following = rows.until(*last), cursor_behind(*last)
    condition = "true" if state is None else STATES[state]
    query = _SELECT.format(source, condition, order)
    return _read(db, query, rows._asdict() | values, following)


def _of_some_namespaces(
    db: driver.Connection, rows: Span, prefix: str, limit: int
) -> tuple[Span, Cursor | None]:
    """Return the part of a span in its first namespaces, and the cursor of the rest."""
    values = {"first": rows.first, "limit": limit}
    found = db.execute(_LAST_NAMESPACE, values).fetchone()
    if found is None:
        return rows, None
    (last,) = found
    return rows._replace(last=last), (str(last + 1), prefix)


def _read(
    db: driver.Connection,
    query: str,
    values: Mapping[str, Any],
    following: Cursor | None,
) -> RecordPage:
    """Read the records of a page, up to a number of characters in their notes."""
    records = []
    size = 0
    with closing(db.execute(query, values)) as rows:
        for id_, key, namespace, *columns in rows:
            row = Row(*columns)
            record, _ = transition(row, Get(namespace, key), values["now"])
            records.append(cast("Record", record))
            size += len(row.note or "")
            if size > _NOTES:
                return RecordPage(records, cursor_behind(id_, key))
    return RecordPage(records, following)
