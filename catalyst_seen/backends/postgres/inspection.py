"""Counts and lists of whole namespaces."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._state_machine import to_record
from ..base import BackendStats, ClaimCounts, RecordPage
from . import scans
from .results import VERDICTS, to_row

if TYPE_CHECKING:
    import asyncpg

    from ..base import Cursor, Selection
    from .tables import Tables

_FIRST_SURROGATE, _AFTER_SURROGATES = 0xD800, 0xE000


async def server_time(connection: asyncpg.Connection, tables: Tables) -> float:
    """Read the server's time."""
    now: float = await connection.fetchval(tables.render(scans.SERVER_TIME))
    return now


async def count(
    connection: asyncpg.Connection, tables: Tables, namespace: str | None
) -> dict[str, int]:
    """Count the seen keys of each namespace."""
    return dict(await _select(connection, scans.COUNT, tables, namespace))


async def stats(
    connection: asyncpg.Connection, tables: Tables, namespace: str | None, engine: str
) -> BackendStats:
    """Measure the tables."""
    claims = ClaimCounts.of(
        await _select(connection, scans.COUNT_CLAIMS, tables, namespace)
    )
    return BackendStats(
        keys_by_namespace=await count(connection, tables, namespace),
        claimed=claims.claimed,
        released=claims.released,
        abandoned=claims.abandoned,
        file_bytes=await connection.fetchval(scans.SIZE, tables.all),
        engine=engine,
        oldest_claim=claims.oldest,
        oldest_released=claims.oldest_released,
    )


async def _select(
    connection: asyncpg.Connection, query: str, tables: Tables, namespace: str | None
) -> list[asyncpg.Record]:
    scope = "" if namespace is None else f"{scans.SCOPE}$1)"
    parameters = () if namespace is None else (namespace,)
    statement = tables.render(query, scope=scope)
    rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters)
    return rows


async def has_any(
    connection: asyncpg.Connection, tables: Tables, namespace: str | None
) -> bool:
    """Is there a seen key? Probes the index of each namespace until it finds one."""
    scope = "true" if namespace is None else "names.name = $1"
    parameters = () if namespace is None else (namespace,)
    statement = tables.render(scans.HAS_SEEN, scope=scope)
    return bool(await connection.fetchval(statement, *parameters))


async def namespaces(connection: asyncpg.Connection, tables: Tables) -> list[str]:
    """List the namespaces with a row that has not expired, sorted."""
    return [name for (name,) in await connection.fetch(tables.render(scans.NAMESPACES))]


async def records(
    connection: asyncpg.Connection,
    tables: Tables,
    selection: Selection,
    *,
    limit: int,
    cursor: Cursor | None,
) -> RecordPage:
    """Return a page of records, in the order of namespace ids and keys."""
    namespace, state, prefix, since = selection
    after: int | None = int(cursor[0]) if cursor else 0
    if namespace is not None:
        statement = tables.render(scans.NAMESPACE_ID)
        after = await connection.fetchval(statement, namespace)
    if after is None:
        return RecordPage([], None)
    end = _end(prefix)
    template = scans.records(
        state,
        is_one_namespace=namespace is not None,
        has_prefix=bool(prefix),
        has_end=end is not None,
        has_since=since is not None,
    )
    optional = [one for one in (prefix or None, end, since) if one is not None]
    key = cursor[1] if cursor else ""
    rows = await connection.fetch(tables.render(template), after, key, limit, *optional)
    found = []
    next_page: Cursor | None = None
    for id_, name, key, verdict, is_selected, is_last, *row in rows:
        if is_selected:
            found.append(to_record((name, key), VERDICTS[verdict], to_row(row)))
        if is_last:
            next_page = str(id_), key
    if next_page is None and prefix and namespace is None and state != "held":
        statement = tables.render(scans.LAST_NAMESPACE)
        last = await connection.fetchval(statement, after, limit)
        next_page = None if last is None else (str(last + 1), "")
    return RecordPage(list(filter(selection.has, found)), next_page)


def _end(prefix: str) -> str | None:
    """Return the least text after all texts with this beginning, by their bytes."""
    prefix = prefix.rstrip(chr(sys.maxunicode))
    if not prefix:
        return None
    code = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(_AFTER_SURROGATES if code == _FIRST_SURROGATE else code)
