"""Rows and the states of sources as they are stored, for a move to another database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._sql_rows import detail_of, place_of, row_of
from ..base import StoredPage, StoredRow
from ..listings import SourceState, columns_of
from ..operations import Row
from . import stored
from .errors import retry_locked
from .sources import WRITE_SOURCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import asyncpg

    from .._retry import Attempt, RetryingChannel
    from ..base import Cursor
    from ..operations import Id
    from .pool import Connections
    from .tables import Tables

_PAGE = 1_000
"""Rows per statement."""
_NOTES = 4_000_000
"""Bytes of notes after which a page ends early."""
_NO_ROW = Row(0.0, 0.0, None)[:7]


async def read_page(
    connection: asyncpg.Connection,
    tables: Tables,
    *,
    limit: int,
    cursor: Cursor | None,
) -> StoredPage:
    """Read those of the next ``limit`` rows that have not expired."""
    after = (int(cursor[0]), cursor[1]) if cursor else (0, "")
    found = await connection.fetch(tables.render(stored.PAGE), *after, limit, _NOTES)
    rows = [
        StoredRow(name, key, row_of(columns))
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
    names = await _ids(connection, tables, stored.IDS, {name for name, _ in ids})
    found: list[Row | None] = [None] * len(ids)
    if not names:
        return found
    records = await connection.fetch(
        tables.render(stored.READ),
        [names.get(name) for name, _ in ids],
        [key for _, key in ids],
    )
    for position, *columns in records:
        found[position - 1] = row_of(columns)
    return found


async def read_states(
    connection: asyncpg.Connection, tables: Tables
) -> dict[str, SourceState]:
    """Read the states of all namespaces that have one."""
    records = await connection.fetch(tables.render(stored.STATES))
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

        await self._change(lambda writing: writing.write(ordered))

    async def write_states(self, states: Mapping[str, SourceState | None]) -> None:
        """Replace states in one transaction; ``None`` removes one."""
        if states:
            await self._change(lambda writing: writing.write_states(states))

    async def _change(self, change: Callable[[_Writing], Awaitable[None]]) -> None:
        """Write in one transaction.

        Each statement may take longer than a wait for a lock, however little is left of
        the time: else the outcome of one that waits would be unknown.
        """

        async def send(_: Attempt) -> None:
            connections = self._connections
            with retry_locked():
                async with connections.acquire() as connection:
                    timeout = connections.request_timeout
                    await change(_Writing(connection, self._tables, timeout))

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
        ids |= await _ids(self._connection, self._tables, stored.IDS, missing)
        known = [(ids[name], key, row) for (name, key), row in rows if name in ids]
        if not known:
            return
        ended = []
        for first in range(0, len(known), _PAGE):
            ended += await self._write(known[first : first + _PAGE])
        details = [
            (id_, key, *texts)
            for id_, key, row in known
            if row is not None and any(texts := detail_of(row))
        ]
        await self._fetch_for(stored.WRITE_DETAILS, details)
        await self._fetch_for(
            stored.REMOVE, [one[:2] for one in ended if one["is_gone"]]
        )
        await self._fetch_for(stored.REMOVE_DETAILS, [one[:2] for one in ended])

    async def write_states(self, states: Mapping[str, SourceState | None]) -> None:
        """Replace the states of sources."""
        await self._make({name for name, state in states.items() if state is not None})
        ids = await _ids(self._connection, self._tables, stored.LOCK_NAMES, states)
        await self._connection.executemany(
            self._tables.render(WRITE_SOURCE),
            [(id_, *columns_of(states[name])) for name, id_ in ids.items()],
            timeout=self._timeout,
        )

    async def _write(
        self, rows: Sequence[tuple[int, str, Row | None]]
    ) -> list[asyncpg.Record]:
        """Write rows, but for their details, of which the removed ones are returned."""
        columns = zip(*(_columns(*row) for row in rows), strict=True)
        shared, parameters = set(), []
        may_remove = any(row is None for _, _, row in rows)
        for name, column in zip(stored.TYPES, columns, strict=True):
            is_shared = name != "key" and column.count(column[0]) == len(column)
            if is_shared:
                shared.add(name)
            parameters.append(column[:1] if is_shared else column)
        statement = stored.write_statement(frozenset(shared), may_remove=may_remove)
        return await self._fetch(statement, *parameters)

    async def _make(self, names: Iterable[str]) -> dict[str, int]:
        """Make those of the namespaces that are not there; return the ids of all."""
        ordered = sorted(names)
        await self._fetch(stored.MAKE_NAMES, ordered)
        return await _ids(self._connection, self._tables, stored.IDS, ordered)

    async def _fetch_for(
        self, template: str, rows: Sequence[tuple[object, ...]]
    ) -> None:
        """Execute a statement on the columns of rows, if there are any."""
        for first in range(0, len(rows), _PAGE):
            columns = zip(*rows[first : first + _PAGE], strict=True)
            await self._fetch(template, *map(list, columns))

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


def _columns(id_: int, key: str, row: Row | None) -> tuple[object, ...]:
    """Return the parameters of ``write_statement`` that concern a row."""
    if row is None:
        return id_, key, True, *_NO_ROW, None, None, None, None, False
    return id_, key, False, *row[:7], *place_of(row), any(detail_of(row))
