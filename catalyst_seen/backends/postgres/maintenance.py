"""Removal of expired and of old rows, page by page, and counts of whole namespaces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._types import ON_ABANDONED, Record
from ..base import BackendStats, PageResult
from . import queries
from .schema import lock_id

if TYPE_CHECKING:
    import asyncpg

    from ..base import Cursor
    from .queries import Table


async def server_time(connection: asyncpg.Connection, table: Table) -> float:
    """Read the server's time."""
    now: float = await connection.fetchval(table.render(queries.SERVER_TIME))
    return now


async def purge(
    connection: asyncpg.Connection,
    table: Table,
    namespace: str | None,
    *,
    limit: int,
    cursor: Cursor | None,
    is_blocking: bool,
) -> PageResult:
    """Remove up to ``limit`` expired rows, those that expired first.

    An advisory lock lets one process purge at a time, because all would remove the same
    rows. The cursor is the latest ``expires_at`` of the page before: without it, each
    page would scan the dead index entries of all earlier ones.

    Args:
        connection: The connection; the lock is held until its transaction ends.
        table: The table of the store.
        namespace: One namespace, or ``None`` for all.
        limit: The maximum number of rows.
        cursor: The cursor of the page before.
        is_blocking: Whether to wait for the lock; else nothing is removed without it.
    """
    scope, names = _scope(namespace, 4)
    lock = queries.WAIT_FOR_LOCK if is_blocking else queries.TRY_LOCK
    removed, found, latest = await connection.fetchrow(
        table.render(queries.PURGE, lock=lock, scope=scope),
        lock_id(table.name, "purge"),
        float(cursor[0]) if cursor else -math.inf,
        limit,
        *names,
    )
    return PageResult(removed, None if found < limit else (repr(latest), ""))


async def cleanup(
    connection: asyncpg.Connection,
    table: Table,
    namespace: str | None,
    *,
    age: float,
    limit: int,
    cursor: Cursor | None,
) -> PageResult:
    """Remove the old ones of the next ``limit`` rows, in the order of their keys."""
    after = "(namespace, id) > ($2, $3)"
    if namespace is not None:
        after = "namespace = $2 AND id > $3"
    removed, *last = await connection.fetchrow(
        table.render(queries.CLEANUP, range=after),
        age,
        *(cursor or (namespace or "", "")),
        limit,
    )
    return PageResult(removed, None if last[0] is None else (last[0], last[1]))


async def count(
    connection: asyncpg.Connection, table: Table, namespace: str | None
) -> dict[str, int]:
    """Count the seen keys of each namespace."""
    return await _counts(connection, queries.COUNT, table, namespace)


async def held(
    connection: asyncpg.Connection, table: Table, namespace: str | None
) -> list[Record]:
    """List the held keys."""
    scope, names = _scope(namespace)
    query = table.render(queries.LIST_HELD, scope=scope)
    return [Record(*row) for row in await connection.fetch(query, *names)]


async def stats(
    connection: asyncpg.Connection, table: Table, namespace: str | None, engine: str
) -> BackendStats:
    """Measure the table."""
    claims = await _counts(connection, queries.COUNT_CLAIMS, table, namespace)
    return BackendStats(
        keys_by_namespace=await count(connection, table, namespace),
        claimed=claims.get("claimed", 0),
        abandoned={policy: claims.get(policy, 0) for policy in ON_ABANDONED},
        file_bytes=await connection.fetchval(queries.TABLE_SIZE, table.name),
        engine=engine,
    )


async def _counts(
    connection: asyncpg.Connection, query: str, table: Table, namespace: str | None
) -> dict[str, int]:
    scope, names = _scope(namespace)
    return dict(await connection.fetch(table.render(query, scope=scope), *names))


def _scope(namespace: str | None, parameter: int = 1) -> tuple[str, tuple[str, ...]]:
    """Return the condition on the namespace, and its parameter, if any."""
    if namespace is None:
        return "", ()
    return f" AND namespace = ${parameter}", (namespace,)
