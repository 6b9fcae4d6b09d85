"""What a store on PostgreSQL does besides its operations: remove rows, and count."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._types import ON_ABANDONED, Record
from ..base import BackendStats, PageResult
from .schema import lock_id

if TYPE_CHECKING:
    import asyncpg

    from ..base import Cursor
    from .queries import Table

_PURGE = """WITH clock AS MATERIALIZED (SELECT {now} AS now, {turn} AS has_turn),
    expired AS MATERIALIZED (
        SELECT ctid, expires_at FROM {table}
        WHERE (SELECT has_turn FROM clock) AND expires_at >= $2
            AND expires_at <= (SELECT now FROM clock){scope}
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ),
    gone AS (
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM expired),
        (SELECT max(expires_at) FROM expired)"""
_WAIT = "pg_advisory_xact_lock($1::bigint) IS NOT NULL"
_TRY = "pg_try_advisory_xact_lock($1::bigint)"
_IS_OLD = """last_seen < now - $1::float8 AND (lease_until IS NULL
        OR lease_until <= now AND on_abandoned IS DISTINCT FROM 'hold')"""
_CLEANUP = """WITH clock AS MATERIALIZED (SELECT {now} AS now),
    page AS MATERIALIZED (
        SELECT * FROM {table} WHERE {span} ORDER BY namespace, id LIMIT $4
    ),
    gone AS (
        DELETE FROM {table} AS held
        USING clock CROSS JOIN (
            SELECT namespace, id FROM page, clock WHERE {is_old}
        ) AS old
        WHERE held.namespace = old.namespace AND held.id = old.id AND {is_old}
        RETURNING 1
    )
    SELECT removed, namespace, id
    FROM (SELECT count(*) AS removed FROM gone) AS gone
    LEFT JOIN (
        SELECT namespace, id FROM page ORDER BY namespace, id OFFSET $4 - 1
    ) AS last ON true"""
_COUNT = """WITH clock AS MATERIALIZED (SELECT {now} AS now)
    SELECT namespace, count(*) FROM {table}
    WHERE (expires_at IS NULL OR expires_at > (SELECT now FROM clock))
        AND (lease_until IS NULL
            OR lease_until <= (SELECT now FROM clock) AND on_abandoned = 'drop'){scope}
    GROUP BY namespace"""
_CLAIMS = """WITH clock AS MATERIALIZED (SELECT {now} AS now)
    SELECT CASE WHEN lease_until > (SELECT now FROM clock)
            THEN 'claimed' ELSE on_abandoned END AS state, count(*)
    FROM {table}
    WHERE lease_until IS NOT NULL
        AND (expires_at IS NULL OR expires_at > (SELECT now FROM clock)){scope}
    GROUP BY state"""
_HELD = """WITH clock AS MATERIALIZED (SELECT {now} AS now)
    SELECT id, namespace, first_seen, last_seen, expires_at FROM {table}
    WHERE on_abandoned = 'hold' AND lease_until <= (SELECT now FROM clock){scope}
    ORDER BY namespace, id"""
_NOW = "SELECT {now}"
_SIZE = "SELECT pg_total_relation_size($1::text::regclass)"


async def now(connection: asyncpg.Connection, table: Table) -> float:
    """Ask for the server's time."""
    told: float = await connection.fetchval(table.render(_NOW))
    return told


async def purge(
    connection: asyncpg.Connection,
    table: Table,
    namespace: str | None,
    *,
    limit: int,
    cursor: Cursor | None,
    is_patient: bool,
) -> PageResult:
    """Remove the ``limit`` rows that expired first, after those already removed.

    Of many processes one purges at a time: their rows would be the same. To go on where
    the last step ended saves walking over what it left in the index.
    """
    scope, names = _scope(namespace, 4)
    turn = _WAIT if is_patient else _TRY
    removed, found, latest = await connection.fetchrow(
        table.render(_PURGE, turn=turn, scope=scope),
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
    """Remove what is old of the next ``limit`` rows, in the order of their keys."""
    span = "(namespace, id) > ($2, $3)"
    if namespace is not None:
        span = "namespace = $2 AND id > $3"
    removed, *last = await connection.fetchrow(
        table.render(_CLEANUP, span=span, is_old=_IS_OLD),
        age,
        *(cursor or (namespace or "", "")),
        limit,
    )
    return PageResult(removed, None if last[0] is None else (last[0], last[1]))


async def count(
    connection: asyncpg.Connection, table: Table, namespace: str | None
) -> dict[str, int]:
    """Count the seen keys of each namespace."""
    return await _counts(connection, _COUNT, table, namespace)


async def held(
    connection: asyncpg.Connection, table: Table, namespace: str | None
) -> list[Record]:
    """List the held keys."""
    scope, names = _scope(namespace)
    rows = await connection.fetch(table.render(_HELD, scope=scope), *names)
    return [Record(*row) for row in rows]


async def stats(
    connection: asyncpg.Connection, table: Table, namespace: str | None, engine: str
) -> BackendStats:
    """Measure the table."""
    claims = await _counts(connection, _CLAIMS, table, namespace)
    return BackendStats(
        keys_by_namespace=await count(connection, table, namespace),
        claimed=claims.get("claimed", 0),
        abandoned={policy: claims.get(policy, 0) for policy in ON_ABANDONED},
        file_bytes=await connection.fetchval(_SIZE, table.name),
        engine=engine,
    )


async def _counts(
    connection: asyncpg.Connection, query: str, table: Table, namespace: str | None
) -> dict[str, int]:
    scope, names = _scope(namespace)
    return dict(await connection.fetch(table.render(query, scope=scope), *names))


def _scope(namespace: str | None, place: int = 1) -> tuple[str, tuple[str, ...]]:
    if namespace is None:
        return "", ()
    return f" AND namespace = ${place}", (namespace,)
