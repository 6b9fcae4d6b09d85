"""Rows and the states of sources as they are stored, for a move to another database."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING

from .._sql_rows import detail_of, place_of, row_of
from ..base import StoredPage, StoredRow
from ..listings import CLEARED, COLUMNS, SourceState, columns_of
from . import bulk, namespaces
from .spans import cursor_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..base import Cursor
    from ..operations import Id, Row
    from . import driver

_NOTES = 4_000_000
"""Characters of notes after which a page ends early."""

_ROW = """first_seen, last_seen, expires_at, token, attempt, lease_until,
    on_abandoned, seq, listed_poll, listed_at, kept_until"""
_DETAIL = "note, alias, digest, last_error"
_WITH_DETAIL = """LEFT JOIN detail ON seen.has_detail
        AND detail.namespace = seen.namespace AND detail.key = seen.key"""
_READ_PAGE = f"""SELECT seen.namespace, seen.key, {_ROW}, {_DETAIL} FROM (
        SELECT * FROM seen WHERE (namespace, key) >= (?, ?)
        ORDER BY namespace, key LIMIT ?
    ) AS seen {_WITH_DETAIL} ORDER BY seen.namespace, seen.key"""  # noqa: S608
_READ = f"""SELECT seen.key, {_ROW}, {_DETAIL} FROM json_each(?) AS wanted
    CROSS JOIN seen ON seen.namespace = ? AND seen.key = wanted.value
    {_WITH_DETAIL}"""  # noqa: S608


def _replaced(columns: str) -> str:
    """Return the clause by which a new row replaces these columns of an old one."""
    values = ", ".join(f"excluded.{name.strip()}" for name in columns.split(","))
    return f"ON CONFLICT (namespace, key) DO UPDATE SET ({columns}) = ({values})"


_INSERT = f"INSERT INTO seen (namespace, key, {_ROW}, has_detail)"
_REPLACE = _replaced(f"{_ROW}, has_detail")
_INSERT_DETAIL = f"INSERT INTO detail (namespace, key, {_DETAIL})"
_REPLACE_DETAIL = _replaced(_DETAIL)
_STATES = f"""SELECT name, {", ".join(COLUMNS)} FROM namespace
    WHERE totals IS NOT NULL OR recipe = '{CLEARED}'"""  # noqa: S608


def read_page(
    db: driver.Connection, clock: Callable[[], float], limit: int, cursor: Cursor | None
) -> StoredPage:
    """Read those of the next ``limit`` rows that have not expired.

    A page ends early when its notes are long.

    Args:
        db: A connection in a transaction.
        clock: The time.
        limit: Number of rows to examine.
        cursor: The id of a namespace, and the first key in it.
    """
    now, first = clock(), (int(cursor[0]), cursor[1]) if cursor else (0, "")
    rows: list[StoredRow] = []
    names: dict[int, str | None] = {}
    examined = size = 0
    with closing(db.execute(_READ_PAGE, (*first, limit))) as found:
        for id_, key, *columns in found:
            examined += 1
            if id_ not in names:
                names[id_] = namespaces.name_of(db, id_)
            name, row = names[id_], row_of(columns)
            if name is not None and _is_live(row, now):
                rows.append(StoredRow(name, key, row))
                size += len(row.note or "")
            if examined == limit or size > _NOTES:
                return StoredPage(rows, cursor_behind(id_, key))
    return StoredPage(rows, None)


def read(
    db: driver.Connection, clock: Callable[[], float], ids: Sequence[Id]
) -> list[Row | None]:
    """Read the rows of keys, in order; ``None`` where there is none that lives."""
    now = clock()
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for name, key in ids:
        keys[name].append(key)
    found: dict[Id, Row] = {}
    for name, id_ in namespaces.find_all(db, keys).items():
        for some in bulk.in_json(keys[name]):
            for key, *columns in db.execute(_READ, (some, id_)):
                row = row_of(columns)
                if _is_live(row, now):
                    found[name, key] = row
    return [found.get(id_) for id_ in ids]


def write(db: driver.Connection, rows: Sequence[tuple[Id, Row | None]]) -> None:
    """Replace rows inside the current transaction; ``None`` removes one."""
    last = dict(rows)
    ids = namespaces.find_all(db, {name for name, _ in last})
    written, detailed, undetailed, gone = [], [], [], []
    for (name, key), row in last.items():
        if row is None:
            if name in ids:
                gone.append((ids[name], key))
            continue
        id_ = namespaces.find_or_create(db, ids, name)
        texts = detail_of(row)
        has_detail = texts != (None, None, None, None)
        if has_detail:
            detailed.append((id_, key, *texts))
        else:
            undetailed.append((id_, key))
        written.append((id_, key, *row[:7], *place_of(row), has_detail))
    bulk.insert(db, _INSERT, written, _REPLACE)
    bulk.insert(db, _INSERT_DETAIL, detailed, _REPLACE_DETAIL)
    bulk.delete(db, "detail", [*undetailed, *gone])
    bulk.delete(db, "seen", gone)


def read_states(db: driver.Connection) -> dict[str, SourceState]:
    """Read the states of all namespaces that have one."""
    found = {name: SourceState.of(columns) for name, *columns in db.execute(_STATES)}
    return {name: state for name, state in found.items() if state is not None}


def write_states(
    db: driver.Connection, states: Mapping[str, SourceState | None]
) -> None:
    """Replace states inside the current transaction; ``None`` removes one."""
    ids = namespaces.find_all(db, states)
    written = []
    for name, state in states.items():
        if state is not None or name in ids:
            id_ = namespaces.find_or_create(db, ids, name)
            written.append((*columns_of(state), id_))
    db.executemany(namespaces.UPDATE_STATE, written)


def _is_live(row: Row, now: float) -> bool:
    return row.expires_at is None or row.expires_at > now
