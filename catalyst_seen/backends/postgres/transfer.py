"""Rows and the states of sources as they are stored, for a move to another database.

=====================  =============================================================
``PAGE`` and ``READ``  read rows with their details
``MAKE_NAMES``         makes namespaces, which then keep their ids
``WRITE`` and others   write rows, their details, and the states of sources
=====================  =============================================================

Rows are locked and written one by one in the order of batches, so that a program which
is still at work cannot deadlock with a move. See ``queries`` for how names stay
resolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import StoredPage, StoredRow
from ..listings import CLEARED, COLUMNS, SourceState, columns_of
from ..operations import Listed, Row
from .errors import wait_for_locks
from .queries import ROW
from .sources import WRITE_SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import asyncpg

    from .._retry import Attempt, RetryingChannel
    from ..base import Cursor
    from ..operations import Id
    from .pool import Connections
    from .tables import Tables

_NOTES = 4_000_000
"""Bytes of notes after which a page ends early."""

_ROW = f"{ROW}, seq, listed_poll, listed_at, kept_until"
_DETAIL = "note, alias, digest, last_error"
_JOIN_DETAIL = f"""LEFT JOIN LATERAL (
        SELECT {_DETAIL} FROM {{schema}}.detail
        WHERE stored.has_detail AND detail.namespace = stored.namespace
            AND detail.key = stored.key OFFSET 0
    ) AS detail ON true"""  # noqa: S608
_IS_LIVE = "(expires_at IS NULL OR expires_at > {now})"
PAGE = f"""SELECT page.*, names.name FROM (
        SELECT stored.namespace, stored.key, {_IS_LIVE} AS is_live, {_ROW}, {_DETAIL},
            sum(octet_length(note)) OVER (
                ORDER BY stored.namespace, stored.key
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS notes_before
        FROM (
            SELECT * FROM {{schema}}.seen WHERE (namespace, key) > ($1::bigint, $2)
            ORDER BY namespace, key LIMIT $3
        ) AS stored {_JOIN_DETAIL}
    ) AS page LEFT JOIN {{schema}}.namespace AS names ON names.id = page.namespace
    WHERE coalesce(notes_before, 0) < $4
    ORDER BY page.namespace, page.key"""  # noqa: S608
READ = f"""SELECT position, {_ROW}, {_DETAIL}
    FROM unnest($1::bigint[], $2::text[])
        WITH ORDINALITY AS wanted (namespace, key, position)
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.seen
        WHERE seen.namespace = wanted.namespace AND seen.key = wanted.key
            AND {_IS_LIVE} OFFSET 0
    ) AS stored {_JOIN_DETAIL}"""  # noqa: S608
IDS = "SELECT name, id FROM {schema}.namespace WHERE name = ANY ($1::text[])"
# The INSERT gets its lock on the table in any case, so that the ids stay what they are
# until the transaction ends.
MAKE_NAMES = """INSERT INTO {schema}.namespace (name)
    SELECT name FROM unnest($1::text[]) AS wanted (name)
    WHERE NOT EXISTS (SELECT FROM {schema}.namespace WHERE name = wanted.name)
    ON CONFLICT (name) DO NOTHING"""

_WRITTEN = f"{_ROW}, has_detail"
_EXCLUDED = ", ".join(f"excluded.{column.strip()}" for column in _WRITTEN.split(","))
# "inserted", which is read first, pulls the rows from "locked" one by one.
WRITE = f"""WITH locked AS MATERIALIZED (
        SELECT written.*, had_detail
        FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::float8[],
            $5::float8[], $6::float8[], $7::text[], $8::int[], $9::float8[],
            $10::text[], $11::bigint[], $12::bigint[], $13::float8[], $14::float8[],
            $15::boolean[]) AS written (namespace, key, is_gone, {_WRITTEN})
        LEFT JOIN LATERAL (
            SELECT latest.has_detail AS had_detail FROM {{schema}}.seen AS latest
            WHERE latest.namespace = written.namespace AND latest.key = written.key
            FOR UPDATE
        ) AS stored ON true
    ),
    inserted AS (
        INSERT INTO {{schema}}.seen (namespace, key, {_WRITTEN})
        SELECT namespace, key, {_WRITTEN} FROM locked WHERE NOT is_gone
        ON CONFLICT (namespace, key) DO UPDATE SET ({_WRITTEN}) = ROW ({_EXCLUDED})
        RETURNING true
    )
    SELECT namespace, key, is_gone FROM locked
    WHERE (SELECT count(*) FROM inserted) >= 0
        AND (is_gone OR had_detail AND NOT has_detail)"""  # noqa: S608
"""Returns the keys to be removed, and those whose details are no more."""
_REMOVE = """DELETE FROM {{schema}}.{table} WHERE ctid = ANY (ARRAY(
    SELECT found.ctid FROM unnest($1::bigint[], $2::text[]) AS gone (namespace, key)
    CROSS JOIN LATERAL (
        SELECT ctid FROM {{schema}}.{table} AS stored
        WHERE stored.namespace = gone.namespace AND stored.key = gone.key
    ) AS found))"""
REMOVE, REMOVE_DETAILS = (_REMOVE.format(table=name) for name in ("seen", "detail"))
WRITE_DETAILS = f"""INSERT INTO {{schema}}.detail (namespace, key, {_DETAIL})
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[],
        $6::text[]) AS written
    ON CONFLICT (namespace, key) DO UPDATE SET ({_DETAIL})
        = ROW (excluded.note, excluded.alias, excluded.digest, excluded.last_error)"""  # noqa: S608
STATES = f"""SELECT name, {", ".join(COLUMNS)} FROM {{schema}}.namespace
    WHERE totals IS NOT NULL OR recipe = '{CLEARED}'"""  # noqa: S608
LOCK_NAMES = """SELECT name, id FROM {schema}.namespace WHERE name = ANY ($1::text[])
    ORDER BY name FOR UPDATE"""


async def read_page(
    connection: asyncpg.Connection,
    tables: Tables,
    *,
    limit: int,
    cursor: Cursor | None,
) -> StoredPage:
    """Read those of the next ``limit`` rows that have not expired."""
    after = (int(cursor[0]), cursor[1]) if cursor else (0, "")
    found = await connection.fetch(tables.render(PAGE), *after, limit, _NOTES)
    rows = [
        StoredRow(name, key, _row(columns))
        for _, key, is_live, *columns, _, name in found
        if is_live and name is not None
    ]
    # A page that ended early is followed by others, as a full one is.
    following = (str(found[-1]["namespace"]), found[-1]["key"]) if found else None
    return StoredPage(rows, following)


async def read(
    connection: asyncpg.Connection, tables: Tables, ids: Sequence[Id]
) -> list[Row | None]:
    """Read the rows of keys, in order; ``None`` where there is none that lives."""
    names = await _ids(connection, tables, IDS, {name for name, _ in ids})
    found: list[Row | None] = [None] * len(ids)
    records = await connection.fetch(
        tables.render(READ),
        [names.get(name) for name, _ in ids],
        [key for _, key in ids],
    )
    for position, *columns in records:
        found[position - 1] = _row(columns)
    return found


async def read_states(
    connection: asyncpg.Connection, tables: Tables
) -> dict[str, SourceState]:
    """Read the states of all namespaces that have one."""
    records = await connection.fetch(tables.render(STATES))
    found = {name: SourceState.of(columns) for name, *columns in records}
    return {name: state for name, state in found.items() if state is not None}


class Transfer:
    """Writes rows and states, on the channel of the batches.

    A lock of another transaction is waited for; a repetition changes nothing more.
    """

    def __init__(
        self, connections: Connections, channel: RetryingChannel, tables: Tables
    ) -> None:
        self._connections = connections
        self._channel = channel
        self._tables = tables

    async def write(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows in one transaction; ``None`` removes one."""
        ordered = sorted(dict(rows).items(), key=lambda item: item[0])
        if not ordered:
            return

        async def send(attempt: Attempt) -> None:
            with wait_for_locks():
                async with self._connections.acquire(
                    timeout=attempt.timeout
                ) as connection:
                    writing = _Writing(connection, self._tables, attempt.timeout)
                    await writing.write(ordered)

        await self._channel.request(send, is_change=True)

    async def write_states(self, states: Mapping[str, SourceState | None]) -> None:
        """Replace states in one transaction; ``None`` removes one."""

        async def send(attempt: Attempt) -> None:
            with wait_for_locks():
                async with self._connections.acquire(
                    timeout=attempt.timeout
                ) as connection:
                    writing = _Writing(connection, self._tables, attempt.timeout)
                    await writing.write_states(states)

        if states:
            await self._channel.request(send, is_change=True)


class _Writing:
    """One attempt to write, in a transaction."""

    def __init__(
        self, connection: asyncpg.Connection, tables: Tables, timeout: float
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._timeout = timeout

    async def write(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows, which are sorted as batches lock them."""
        ids = await self._make({name for (name, _), row in rows if row is not None})
        missing = {name for (name, _), _ in rows} - ids.keys()
        ids |= await _ids(self._connection, self._tables, IDS, missing)
        known = [(ids[name], key, row) for (name, key), row in rows if name in ids]
        if not known:
            return
        columns = zip(*(_columns(*one) for one in known), strict=True)
        ended = await self._fetch(WRITE, *map(list, columns))
        details = [
            (id_, key, *texts)
            for id_, key, row in known
            if row is not None and any(texts := _texts(row))
        ]
        if details:
            await self._fetch(WRITE_DETAILS, *map(list, zip(*details, strict=True)))
        if ended:
            gone = [(id_, key) for id_, key, is_gone in ended if is_gone]
            if gone:
                await self._fetch(REMOVE, *map(list, zip(*gone, strict=True)))
            keys = [(id_, key) for id_, key, _ in ended]
            await self._fetch(REMOVE_DETAILS, *map(list, zip(*keys, strict=True)))

    async def write_states(self, states: Mapping[str, SourceState | None]) -> None:
        """Replace the states of sources."""
        await self._make({name for name, state in states.items() if state is not None})
        ids = await _ids(self._connection, self._tables, LOCK_NAMES, states)
        await self._connection.executemany(
            self._tables.render(WRITE_SOURCE),
            [(id_, *columns_of(states[name])) for name, id_ in ids.items()],
            timeout=self._timeout,
        )

    async def _make(self, names: Iterable[str]) -> dict[str, int]:
        """Make those of the namespaces that are not there; return the ids of all."""
        ordered = sorted(names)
        await self._fetch(MAKE_NAMES, ordered)
        return await _ids(self._connection, self._tables, IDS, ordered)

    async def _fetch(self, template: str, *parameters: object) -> list[asyncpg.Record]:
        records: list[asyncpg.Record] = await self._connection.fetch(
            self._tables.render(template), *parameters, timeout=self._timeout
        )
        return records


async def _ids(
    connection: asyncpg.Connection, tables: Tables, template: str, names: Iterable[str]
) -> dict[str, int]:
    """Return the ids of those of the namespaces that are there."""
    return dict(await connection.fetch(tables.render(template), list(names)))


def _row(columns: Sequence[Any]) -> Row:
    *row, seq, poll, at, kept_until, note, alias, digest, error = columns
    if poll is None:
        return Row._make((*row, note, None, error))
    text = None if digest is None else digest.decode()
    listed = Listed(seq, poll, at, kept_until, alias, text)
    return Row._make((*row, note, listed, error))


def _columns(id_: int, key: str, row: Row | None) -> tuple[object, ...]:
    """Return the parameters of ``WRITE`` that concern a row."""
    if row is None:
        return id_, key, True, *_NO_ROW, None, None, None, None, False
    listed = (None, None, None, None) if row.listed is None else row.listed[:4]
    return id_, key, False, *row[:7], *listed, any(_texts(row))


def _texts(row: Row) -> tuple[str | bytes | None, ...]:
    """Return the detail of a row; one without any text needs none."""
    alias, digest = (None, None) if row.listed is None else row.listed[4:]
    return (
        row.note or None,
        alias or None,
        digest.encode() if digest else None,
        row.error or None,
    )


_NO_ROW = Row(0.0, 0.0, None)[:7]
