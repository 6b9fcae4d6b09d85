"""The listings of sources: reads what an observation depends on, and writes the result.

While a key is listed, ``listed_poll`` is the number of the poll since which it is, and
``listed_at`` is NULL. So a listing that stays the same changes no row of a key. When
the key leaves, both columns get the number and the clock of the last poll that listed
it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .._observation import Decision, failed
from .._sql_rows import row_of
from .._state_machine import verdict_of
from ..listings import (
    COLUMNS,
    Observed,
    SourceRecord,
    SourceState,
    Waiting,
    WaitingPage,
)
from . import bulk, namespaces
from .conditions import LIVE, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._observation import Changes, Expiry
    from ..listings import Fail, Observe
    from ..operations import Row
    from . import driver

_SOURCE = f"SELECT id, {', '.join(COLUMNS)} FROM namespace WHERE name = ?"  # noqa: S608
_SOURCES = f"""SELECT id, name, {", ".join(COLUMNS)} FROM namespace
    WHERE totals IS NOT NULL"""  # noqa: S608
_ROW = """first_seen, last_seen, expires_at, token, attempt, lease_until,
    on_abandoned, seq, listed_poll, listed_at, kept_until"""
_DETAIL = """CASE WHEN has_detail THEN (SELECT {} FROM detail
    WHERE detail.namespace = seen.namespace AND detail.key = seen.key) END"""
_READ = f"""SELECT seen.key, {_ROW}, {{}}, expires_at <= ?
    FROM json_each(?) AS wanted
    CROSS JOIN seen ON namespace = ? AND seen.key = wanted.value"""  # noqa: S608
_IS_LISTED = "listed_poll IS NOT NULL AND listed_at IS NULL"
_READ_LISTED = f"""SELECT key, {_ROW}, {_DETAIL.format("alias")} FROM seen
    WHERE namespace = ? AND {_IS_LISTED}"""  # noqa: S608
_COUNT_LISTED = f"""SELECT count(*) FROM seen
    WHERE namespace = ? AND {_IS_LISTED}"""  # noqa: S608
_HAS_LIVE = f"""SELECT EXISTS (SELECT 1 FROM seen
    WHERE namespace = :id AND {LIVE})"""  # noqa: S608
_RENAME = """UPDATE {0} SET key = renamed.new FROM (
        SELECT value ->> 0 AS old, value ->> 1 AS new FROM json_each(?)
    ) AS renamed WHERE {0}.namespace = ? AND {0}.key = renamed.old"""
_INSERT = f"INSERT INTO seen (namespace, key, {_ROW}, has_detail)"
_REPLACE = f"""ON CONFLICT (namespace, key) DO UPDATE SET ({_ROW}, has_detail) =
    ({", ".join(f"excluded.{column.strip()}" for column in _ROW.split(","))},
    has_detail OR excluded.has_detail)"""
_INSERT_DETAIL = "INSERT INTO detail (namespace, key, note, alias, digest)"
_MERGE_DETAIL = """ON CONFLICT (namespace, key) DO UPDATE SET
    note = coalesce(excluded.note, note), alias = coalesce(excluded.alias, alias),
    digest = coalesce(excluded.digest, digest)"""
_CLEAR_ERRORS = """UPDATE detail SET last_error = NULL WHERE namespace = ?
    AND last_error IS NOT NULL AND key IN (SELECT value FROM json_each(?))"""
_LEAVE = """UPDATE seen SET listed_poll = ?, listed_at = ? WHERE namespace = ?
    AND key IN (SELECT value FROM json_each(?))"""
_EXPIRED = """SELECT key FROM seen WHERE namespace = :id AND listed_at <= :clock
        AND listed_poll <= :poll AND lease_until IS NULL
        AND (kept_until IS NULL OR kept_until <= :now)
    ORDER BY listed_at, key LIMIT max(0, (SELECT count(*) FROM seen
        WHERE namespace = :id AND listed_poll IS NOT NULL) - :keep)"""
_WAITING = "FROM seen INDEXED BY seen_pending WHERE namespace = :id AND seq IS NOT NULL"
_IS_HELD = f"coalesce({STATES['held']}, false)"
_COUNTS = f"""count(*) FILTER (WHERE NOT {_IS_HELD}),
        count(*) FILTER (WHERE {_IS_HELD}),
        min(iif(attempt, first_seen, last_seen)) FILTER (WHERE NOT {_IS_HELD})"""
_COUNT_WAITING = f"SELECT {_COUNTS} {_WAITING}"
_COUNT_ALL_WAITING = f"""SELECT namespace, {_COUNTS}
    FROM seen INDEXED BY seen_pending WHERE seq IS NOT NULL GROUP BY namespace"""  # noqa: S608
_READ_WAITING = f"""SELECT seq, key, {_ROW} {_WAITING} AND seq > :after
    ORDER BY seq LIMIT :limit"""


def observe(
    db: driver.Connection, request: Observe, clock: Callable[[], float]
) -> Observed | None:
    """Record a listing inside the current transaction; see ``SupportsListings``."""
    now = clock()
    id_, stored = _read_source(db, request.namespace)
    decision = Decision(request, stored, now)
    if id_ is not None and request.items is not None:
        _match(db, id_, request, decision, now)
    changes = None
    if not decision.is_repeated:
        if request.items is None:
            listed = 0 if id_ is None else _count_listed(db, id_)
            if id_ is None or not decision.is_unchanged(listed):
                return None
        others = None
        has_live_rows = False
        if id_ is None:
            id_ = namespaces.create(db, request.namespace)
        else:
            others = _read_listed(db, id_) if decision.needs_listed else None
            has_live_rows = decision.needs_live and _has_live_rows(db, id_, now)
        changes = decision.decide(others, has_live_rows=has_live_rows)
        _write(db, id_, changes, now)
    assert id_ is not None  # noqa: S101 - a source has one
    source = changes.source if changes else stored
    assert source is not None  # noqa: S101 - it was observed before
    pending, _, oldest = _count_waiting(db, id_, now)
    return Observed(
        source.summary,
        decision.claimable(changes),
        pending,
        oldest,
        changes is None or changes.has_ended,
        decision.counted(changes),
    )


def fail(db: driver.Connection, failure: Fail) -> None:
    """Record inside the current transaction that a source could not be polled."""
    id_, stored = _read_source(db, failure.namespace)
    if id_ is None:
        id_ = namespaces.create(db, failure.namespace)
    db.execute(namespaces.UPDATE_STATE, (*failed(stored, failure).columns(), id_))


def read_source(
    db: driver.Connection, namespace: str, now: float
) -> SourceRecord | None:
    """Read the state of a source."""
    id_, state = _read_source(db, namespace)
    if id_ is None or state is None or not state.is_polled:
        return None
    return SourceRecord(state, *_count_waiting(db, id_, now))


def read_sources(db: driver.Connection, now: float) -> dict[str, SourceRecord]:
    """Read the states of all sources, by namespace."""
    counts = {
        id_: counted for id_, *counted in db.execute(_COUNT_ALL_WAITING, {"now": now})
    }
    found = {}
    for id_, name, *columns in db.execute(_SOURCES):
        state = SourceState.of(columns)
        if state is not None and state.is_polled:
            found[name] = SourceRecord(state, *counts.get(id_, (0, 0, None)))
    return found


def read_waiting(
    db: driver.Connection, namespace: str, now: float, after: int, limit: int
) -> WaitingPage:
    """Read the keys that were observed and can be claimed."""
    id_ = namespaces.find(db, namespace)
    values = {"id": id_, "after": after, "limit": limit}
    keys, later, seq = [], [], None
    rows = db.execute(_READ_WAITING, values).fetchall()
    for seq, key, *columns in rows:
        row = _row(columns)
        if verdict_of(row, now):
            keys.append(Waiting(seq, key, row.attempt))
        elif row.lease_until is not None and row.lease_until > now:
            later.append(row.lease_until - now)
    cursor = seq if len(rows) == limit else None
    return WaitingPage(keys, cursor, min(later, default=None))


def _read_source(
    db: driver.Connection, namespace: str
) -> tuple[int | None, SourceState | None]:
    """Return the id of a namespace, and the state of its source."""
    found = db.execute(_SOURCE, (namespace,)).fetchone()
    return (None, None) if found is None else (found[0], SourceState.of(found[1:]))


def _match(
    db: driver.Connection, id_: int, request: Observe, decision: Decision, now: float
) -> None:
    """Read the rows of the listing's keys; remove those that have expired."""
    has_digests = any(item.digest is not None for item in request.items or ())
    digest = _DETAIL.format("digest") if has_digests else "NULL"
    rows: dict[str, Row] = {}
    expired = []
    for names in bulk.in_json(decision.names):
        query = _READ.format(digest)
        for key, *columns, digest_, is_over in db.execute(query, (now, names, id_)):
            if is_over:
                expired.append((id_, key))
            else:
                rows[key] = _row(columns, digest=digest_)
    if not decision.is_repeated:
        for table in ("detail", "seen"):
            bulk.delete(db, table, expired)
    decision.match(rows)


def _row(
    columns: Sequence[Any], alias: str | None = None, digest: bytes | None = None
) -> Row:
    """Return a row, without its note."""
    return row_of((*columns, None, alias, digest, None))


def _read_listed(db: driver.Connection, id_: int) -> dict[str, Row]:
    """Return the rows that are listed, with their aliases."""
    rows = db.execute(_READ_LISTED, (id_,))
    return {key: _row(columns, alias=alias) for key, *columns, alias in rows}


def _count_listed(db: driver.Connection, id_: int) -> int:
    (listed,) = db.execute(_COUNT_LISTED, (id_,)).fetchone()
    return int(listed)


def _has_live_rows(db: driver.Connection, id_: int, now: float) -> bool:
    (has_any,) = db.execute(_HAS_LIVE, {"id": id_, "now": now}).fetchone()
    return bool(has_any)


def _count_waiting(
    db: driver.Connection, id_: int, now: float
) -> tuple[int, int, float | None]:
    """Count what waits and what is held; return also since when the first one waits."""
    pending, held, oldest = db.execute(
        _COUNT_WAITING, {"id": id_, "now": now}
    ).fetchone()
    return pending, held, oldest


def _write(db: driver.Connection, id_: int, changes: Changes, now: float) -> None:
    """Write what an observation changes, in few statements."""
    if changes.renamed:
        pairs = json.dumps(changes.renamed)
        for table in ("seen", "detail"):
            db.execute(_RENAME.format(table), (pairs, id_))
    rows, details = [], []
    for key, row in changes.rows.items():
        listed = row.listed
        assert listed is not None  # noqa: S101 - an observation lists what it writes
        texts = row.note, listed.alias, listed.digest and listed.digest.encode()
        has_detail = texts != (None, None, None)
        if has_detail:
            details.append((id_, key, *texts))
        rows.append((id_, key, *row[:7], *listed[:4], has_detail))
    bulk.insert(db, _INSERT, rows, _REPLACE)
    bulk.insert(db, _INSERT_DETAIL, details, _MERGE_DETAIL)
    anew = [key for key, row in changes.rows.items() if row.is_pending]
    for keys in bulk.in_json(anew):
        db.execute(_CLEAR_ERRORS, (id_, keys))
    left = changes.listed.poll, changes.listed.clock, id_
    for keys in bulk.in_json(changes.left):
        db.execute(_LEAVE, (*left, keys))
    if changes.expiry is not None:
        _expire(db, id_, changes.expiry, now)
    db.execute(namespaces.UPDATE_STATE, (*changes.source.columns(), id_))


def _expire(db: driver.Connection, id_: int, expiry: Expiry, now: float) -> None:
    """Remove the keys that are absent for long."""
    values = {**expiry._asdict(), "id": id_, "now": now}
    gone = [(id_, key) for (key,) in db.execute(_EXPIRED, values).fetchall()]
    for table in ("detail", "seen"):
        bulk.delete(db, table, gone)
