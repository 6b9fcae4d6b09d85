"""Removal of expired rows, of old rows and of whole namespaces, page by page.

A page is one statement. ``removals`` sends them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict, Unpack

import asyncpg

from ..._errors import StoreUnavailableError
from ..base import PROBE, PageResult
from . import scans
from .errors import is_locked
from .schema import lock_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..base import Cursor
    from .pool import Connections
    from .tables import Tables

_LAST_ID = 2**63 - 1
_NAMES_LOCK_TIMEOUT = "50ms"
"""How long a removal of names waits, and lets batches wait, for transactions."""


class _Page(TypedDict):
    """The arguments of a page of a removal."""

    namespace: str | None
    limit: int
    cursor: Cursor | None


async def purge(
    connection: asyncpg.Connection,
    tables: Tables,
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
        tables: The tables of the store.
        namespace: One namespace, or ``None`` for all.
        limit: The maximum number of rows.
        cursor: The cursor of the page before.
        is_blocking: Whether to wait for the lock; else nothing is removed without it.
    """
    scope = "" if namespace is None else f"{scans.SCOPE}$4)"
    lock = scans.WAIT_FOR_LOCK if is_blocking else scans.TRY_LOCK
    removed, found, latest = await connection.fetchrow(
        tables.render(scans.PURGE, lock=lock, scope=scope),
        lock_id(tables.seen, "purge"),
        float(cursor[0]) if cursor else -math.inf,
        limit,
        *(() if namespace is None else (namespace,)),
    )
    return PageResult(removed, None if found < limit else (repr(latest), ""))


async def cleanup(
    connection: asyncpg.Connection,
    tables: Tables,
    namespace: str | None,
    *,
    age: float,
    limit: int,
    cursor: Cursor | None,
) -> PageResult:
    """Remove the old ones of the next ``limit`` rows, in the order of their keys."""
    statement = tables.render(scans.CLEANUP)
    return await _remove(
        connection, tables, statement, (age,),
        namespace=namespace, limit=limit, cursor=cursor,
    )  # fmt: skip


async def clear(
    connection: asyncpg.Connection,
    tables: Tables,
    namespace: str | None,
    *,
    limit: int,
    cursor: Cursor | None,
) -> PageResult:
    """Remove the next ``limit`` rows, in the order of their keys.

    If one of them stays locked, the locked ones stay: they are about to be changed.
    """
    page: _Page = {"namespace": namespace, "limit": limit, "cursor": cursor}
    if cursor is None:  # first, so that a listing meanwhile is a baseline
        first, last = await _range(connection, tables, namespace)
        statement = tables.render(scans.FORGET_SOURCES)
        await connection.execute(statement, first - 1, last, _LAST_ID)
    is_nested = connection.is_in_transaction()
    if is_nested:
        await connection.execute("SAVEPOINT before")
    try:
        return await _remove(
            connection, tables, tables.render(scans.CLEAR, skip=""), **page
        )
    except asyncpg.LockNotAvailableError:
        if is_nested:
            await connection.execute("ROLLBACK TO SAVEPOINT before")
    return await _remove(
        connection, tables, tables.render(scans.CLEAR, skip="SKIP LOCKED"), **page
    )


async def _remove(
    connection: asyncpg.Connection,
    tables: Tables,
    statement: str,
    parameters: Sequence[object] = (),
    **page: Unpack[_Page],
) -> PageResult:
    """Remove rows of a page that begins after the cursor, by a statement."""
    first, last = await _range(connection, tables, page["namespace"])
    cursor = page["cursor"]
    after, key = (int(cursor[0]), cursor[1]) if cursor else (first, "")
    removed, *end = await connection.fetchrow(
        statement, after, key, last, page["limit"], *parameters
    )
    return PageResult(removed, None if end[0] is None else (str(end[0]), end[1]))


async def _range(
    connection: asyncpg.Connection, tables: Tables, namespace: str | None
) -> tuple[int, int]:
    """Return the first and the last id of one namespace, or of all."""
    if namespace is None:
        return 0, _LAST_ID
    id_ = await connection.fetchval(tables.render(scans.NAMESPACE_ID), namespace)
    return (1, 0) if id_ is None else (id_, id_)


async def remove_names(
    connections: Connections,
    tables: Tables,
    namespace: str | None,
    *,
    limit: int,
    after: str,
    is_clear: bool,
) -> Cursor | None:
    """Remove the next ``limit`` names without rows; return the cursor of the next page.

    A name stays if a transaction that may use it does not end soon. The next purge
    tries again.

    Args:
        connections: The connections of the store.
        tables: The tables of the store.
        namespace: One namespace, or ``None`` for all.
        limit: The maximum number of names.
        after: The second part of the cursor of the page before.
        is_clear: Whether the sources of the namespaces are removed as well.
    """
    async with connections.acquire(in_transaction=False) as connection:
        first, last = await _range(connection, tables, namespace)
        begin = int(after or first - 1)
        if is_clear:
            statement = tables.render(scans.FORGET_SOURCES)
            await connection.execute(statement, begin, last, limit)
        statement = tables.render(scans.EMPTY)
        empty, end = await connection.fetchrow(statement, begin, last, limit)
    if empty:
        try:
            async with connections.acquire() as connection:
                await connection.execute(
                    f"SET LOCAL lock_timeout = '{_NAMES_LOCK_TIMEOUT}'"
                )
                await connection.execute(tables.render(scans.LOCK_NAMES))
                await connection.execute(tables.render(scans.REMOVE_EMPTY), empty)
        except StoreUnavailableError as exc:
            if not is_locked(exc):
                raise
    return None if end is None else ("", str(end))


async def probe(connection: asyncpg.Connection, tables: Tables) -> None:
    """Write a row and remove it, in a transaction."""
    for statement in (scans.PROBE_NAME, scans.REMOVE_NAME):
        await connection.execute(tables.render(statement), PROBE)


async def rename(
    connection: asyncpg.Connection, tables: Tables, namespace: str, name: str
) -> bool:
    """Rename a namespace in a transaction; false if the new name is occupied."""
    await connection.execute(tables.render(scans.LOCK_NAMES))
    if await connection.fetchval(tables.render(scans.IS_OCCUPIED), name):
        return False
    if await connection.fetchval(tables.render(scans.NAMESPACE_ID), namespace):
        await connection.execute(tables.render(scans.REMOVE_NAME), name)
        await connection.execute(tables.render(scans.RENAME), name, namespace)
    return True
