"""Every statement that reads or writes rows.

=====================  =============================================================
``WRITE_BATCH``        executes operations; its INSERTs are the only ones of rows
``READ_BATCH``         executes operations of which none writes
``PURGE``              deletes expired rows
``CLEANUP``            deletes rows by their age
``COUNT`` and others   read whole namespaces, for ``maintenance``
=====================  =============================================================

The database holds no functions, so that different releases can share it: a batch is one
statement, which reads rows, decides and writes. ``_transition`` is the state machine in
SQL, and its first condition is the check of the TTL.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._retry import ServerClock

_SERVER_NOW = "extract(epoch FROM clock_timestamp())::float8"
"""The server's time, in seconds since 1970."""

_CLOCK = "clock AS MATERIALIZED (SELECT {now} AS now)"

PARAMETERS = ("namespace", "verb", "token", "lease", "ttl", "policy", "ts")
"""The arrays ``$2`` to ``$8`` of a batch, one element per key of ``$1``.

``lease`` is the number of seconds from now to ``lease_until``: a lease, or the delay of
a release. An array of one element holds the value of all operations.
"""

_SHARED_OR_OWN = ", ".join(
    f"CASE WHEN cardinality(${number}) = 1 THEN (${number})[1]"
    f" ELSE operation.{column} END AS {column}"
    for number, column in enumerate(PARAMETERS, start=2)
)
_REQUESTED = f"""SELECT now, position, operation.id, {_SHARED_OR_OWN}
    FROM clock CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[],
            $5::float8[], $6::float8[], $7::text[], $8::float8[]) WITH ORDINALITY
        AS operation (id, {", ".join(PARAMETERS)}, position)"""  # noqa: S608


def _transition(now: str) -> str:
    """Return the joins that compute verdict, ``is_done`` and ``is_change``.

    They are the conditions of ``_state_machine.transition`` on the row ``stored`` and
    the operation ``requested``.
    """
    return f"""CROSS JOIN LATERAL (SELECT CASE
        WHEN stored.id IS NULL OR stored.expires_at <= {now} THEN 'new'
        WHEN stored.lease_until IS NULL THEN 'duplicate'
        WHEN {now} < stored.lease_until THEN 'in_flight'
        WHEN stored.on_abandoned = 'hold' THEN 'held'
        WHEN stored.on_abandoned = 'drop' THEN 'duplicate'
        ELSE 'retry' END AS verdict) AS state
    CROSS JOIN LATERAL (SELECT coalesce(CASE
        WHEN requested.verb = 'get' THEN false
        WHEN requested.verb = 'mark' THEN true
        WHEN requested.verb IN ('check_and_mark', 'claim')
            THEN state.verdict IN ('new', 'retry')
        WHEN requested.verb = 'refresh' THEN state.verdict = 'duplicate'
        WHEN requested.verb IN ('resolve', 'resolve_handled')
            THEN state.verdict = 'held'
        WHEN state.verdict = 'new' THEN false
        WHEN requested.verb = 'forget' THEN true
        WHEN requested.verb IN ('confirm', 'renew')
            AND stored.lease_until IS NOT NULL AND stored.on_abandoned IS NULL
            THEN false
        WHEN requested.verb = 'confirm' THEN stored.token = requested.token
        ELSE stored.token = requested.token AND stored.lease_until IS NOT NULL
        END, false) AS is_done) AS outcome
    CROSS JOIN LATERAL (SELECT outcome.is_done AND NOT (
        requested.verb = 'confirm' AND stored.lease_until IS NULL) AS is_change
        ) AS effect"""


_ROW = """first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned"""
_STORED = """requested.now, state.verdict, outcome.is_done,
    requested.namespace, requested.id,
    stored.first_seen, stored.last_seen, stored.expires_at, stored.token,
    stored.attempt, stored.lease_until, stored.on_abandoned"""
_RESULT = f"now, verdict, is_done, namespace, id, {_ROW}"

READ_BATCH = f"""WITH {_CLOCK}
    SELECT {_STORED}
    FROM ({_REQUESTED}) AS requested
    LEFT JOIN {{table}} AS stored USING (namespace, id)
    {_transition("requested.now")}"""  # noqa: S608

# A wait for a row lock makes the time of the statement stale: "decision" reads the time
# again under the lock, or a lease would start before it was acquired.
# "decision" locks the existing rows, so that "updated" can write them as an upsert and
# "deleted" can delete them by key: a join with the table, planned while that is empty,
# might read the whole table for each key.
# Deadlocks between batches are impossible, because rows are locked and inserted one by
# one, in the order of "snapshot": "inserted" pulls rows from "decision", and that from
# "snapshot". An ORDER BY in "inserted" would lock all rows before the first insert.
# "inserted" meets a row of a concurrent transaction only if that was inserted after the
# snapshot. A Mark, which has no token, is then merged into it; a CheckAndMark or an
# Acquire leaves it as it is, and the token in the row shows that it lost the race.
WRITE_BATCH = f"""WITH {_CLOCK},
    snapshot AS MATERIALIZED (
        SELECT {_STORED}, requested.verb, requested.token AS own_token,
            requested.lease, requested.ttl, requested.policy, requested.ts,
            stored.id IS NOT NULL AS is_stored, effect.is_change
        FROM ({_REQUESTED}) AS requested
        LEFT JOIN {{table}} AS stored USING (namespace, id)
        {_transition("requested.now")}
        ORDER BY requested.position
    ),
    decision AS MATERIALIZED (
        SELECT locked.now, state.verdict, outcome.is_done,
            requested.namespace, requested.id,
            CASE WHEN NOT is_change THEN stored.first_seen
                WHEN state.verdict = 'new' THEN seen_at
                WHEN verb IN ('mark', 'check_and_mark', 'resolve_handled')
                    AND state.verdict <> 'duplicate'
                    THEN least(stored.first_seen, seen_at)
                ELSE stored.first_seen END AS first_seen,
            CASE WHEN is_change THEN refreshed_at
                ELSE stored.last_seen END AS last_seen,
            CASE WHEN NOT is_change THEN stored.expires_at
                WHEN verb = 'refresh' AND stored.expires_at > refreshed_at + ttl
                    THEN stored.expires_at
                WHEN verb = 'refresh' AND stored.expires_at IS NULL THEN NULL
                ELSE coalesce(now + lease, refreshed_at) + ttl END AS expires_at,
            CASE WHEN NOT is_change OR verb = 'resolve' THEN stored.token
                WHEN verb NOT IN ('mark', 'refresh') THEN requested.token
                WHEN state.verdict = 'duplicate' AND stored.lease_until IS NULL
                    THEN stored.token END AS token,
            CASE WHEN NOT is_change THEN stored.attempt
                WHEN state.verdict = 'new' THEN 0 ELSE stored.attempt END
                + CASE WHEN is_change AND verb = 'claim' THEN 1 ELSE 0 END AS attempt,
            CASE WHEN is_change THEN now + lease
                ELSE stored.lease_until END AS lease_until,
            CASE WHEN is_change THEN policy
                ELSE stored.on_abandoned END AS on_abandoned,
            verb, is_change, stored.id IS NULL AND is_change AS is_insert
        FROM (
            SELECT now AS started, namespace, id, verb, own_token AS token, lease, ttl,
                policy, is_stored, ts
            FROM snapshot WHERE is_change
        ) AS requested
        LEFT JOIN LATERAL (
            SELECT * FROM {{table}} AS latest
            WHERE requested.is_stored AND latest.namespace = requested.namespace
                AND latest.id = requested.id
            FOR UPDATE
        ) AS stored ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN stored.id IS NULL THEN started ELSE {{now}} END AS now
        ) AS locked
        CROSS JOIN LATERAL (SELECT coalesce(ts, locked.now) AS seen_at) AS sighting
        {_transition("locked.now")}
        CROSS JOIN LATERAL (SELECT CASE
            WHEN verb IN ('renew', 'release', 'resolve') THEN stored.last_seen
            WHEN verb IN ('mark', 'refresh') AND state.verdict = 'duplicate'
                THEN greatest(stored.last_seen, seen_at)
            ELSE seen_at END AS refreshed_at) AS refresh
    ),
    inserted AS (
        INSERT INTO {{table}} AS existing (namespace, id, {_ROW})
        SELECT namespace, id, {_ROW} FROM decision WHERE is_insert
        ON CONFLICT (namespace, id) DO UPDATE SET
            first_seen = CASE WHEN excluded.token IS NULL
                    AND existing.lease_until IS NOT NULL
                THEN least(existing.first_seen, excluded.first_seen)
                ELSE existing.first_seen END,
            last_seen = CASE WHEN excluded.token IS NOT NULL THEN existing.last_seen
                WHEN existing.lease_until IS NOT NULL THEN excluded.last_seen
                ELSE greatest(existing.last_seen, excluded.last_seen) END,
            expires_at = CASE WHEN excluded.token IS NOT NULL THEN existing.expires_at
                WHEN existing.lease_until IS NOT NULL THEN excluded.expires_at
                ELSE excluded.expires_at
                    + greatest(existing.last_seen - excluded.last_seen, 0) END,
            token = CASE WHEN excluded.token IS NOT NULL
                    OR existing.lease_until IS NULL
                THEN existing.token END,
            lease_until = CASE WHEN excluded.token IS NOT NULL
                THEN existing.lease_until END,
            on_abandoned = CASE WHEN excluded.token IS NOT NULL
                THEN existing.on_abandoned END
        RETURNING namespace, id, {_ROW}
    ),
    updated AS (
        INSERT INTO {{table}} (namespace, id, {_ROW})
        SELECT namespace, id, {_ROW} FROM decision
        WHERE is_change AND NOT is_insert AND verb <> 'forget'
        ON CONFLICT (namespace, id) DO UPDATE
        SET (first_seen, last_seen, expires_at,
                token, attempt, lease_until, on_abandoned)
            = ROW (excluded.first_seen, excluded.last_seen, excluded.expires_at,
                excluded.token, excluded.attempt, excluded.lease_until,
                excluded.on_abandoned)
    ),
    forgotten AS MATERIALIZED (
        SELECT namespace, id FROM decision WHERE is_change AND verb = 'forget'
    ),
    deleted AS (
        DELETE FROM {{table}} AS stored
        WHERE stored.namespace = ANY (ARRAY(SELECT namespace FROM forgotten))
            AND stored.id = ANY (ARRAY(SELECT id FROM forgotten))
            AND (SELECT true FROM forgotten
                WHERE forgotten.namespace = stored.namespace
                AND forgotten.id = stored.id)
    )
    SELECT (SELECT now FROM clock) AS now, NULL AS verdict, NULL::boolean AS is_done,
        namespace, id, {_ROW} FROM inserted
    UNION ALL SELECT {_RESULT} FROM decision WHERE NOT is_insert
    UNION ALL SELECT {_RESULT} FROM snapshot WHERE NOT is_change"""  # noqa: S608

PURGE = """WITH clock AS MATERIALIZED (SELECT {now} AS now, {lock} AS has_lock),
    expired AS MATERIALIZED (
        SELECT ctid, expires_at FROM {table}
        WHERE (SELECT has_lock FROM clock) AND expires_at >= $2
            AND expires_at <= (SELECT now FROM clock){scope}
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM expired),
        (SELECT max(expires_at) FROM expired)"""
WAIT_FOR_LOCK = "pg_advisory_xact_lock($1::bigint) IS NOT NULL"
TRY_LOCK = "pg_try_advisory_xact_lock($1::bigint)"

_IS_OLD = """last_seen < now - $1::float8 AND (lease_until IS NULL
        OR lease_until <= now AND on_abandoned IS DISTINCT FROM 'hold')"""
CLEANUP = f"""WITH {_CLOCK},
    page AS MATERIALIZED (
        SELECT * FROM {{table}} WHERE {{range}} ORDER BY namespace, id LIMIT $4
    ),
    deleted AS (
        DELETE FROM {{table}} AS stored
        USING clock CROSS JOIN (
            SELECT namespace, id FROM page, clock WHERE {_IS_OLD}
        ) AS old
        WHERE stored.namespace = old.namespace AND stored.id = old.id AND {_IS_OLD}
        RETURNING 1
    )
    SELECT removed, namespace, id
    FROM (SELECT count(*) AS removed FROM deleted) AS deleted
    LEFT JOIN (
        SELECT namespace, id FROM page ORDER BY namespace, id OFFSET $4 - 1
    ) AS last ON true"""  # noqa: S608

COUNT = f"""WITH {_CLOCK}
    SELECT namespace, count(*) FROM {{table}}
    WHERE (expires_at IS NULL OR expires_at > (SELECT now FROM clock))
        AND (lease_until IS NULL
            OR lease_until <= (SELECT now FROM clock)
                AND on_abandoned = 'drop'){{scope}}
    GROUP BY namespace"""  # noqa: S608
COUNT_CLAIMS = f"""WITH {_CLOCK}
    SELECT CASE WHEN lease_until > (SELECT now FROM clock)
            THEN 'claimed' ELSE on_abandoned END AS state, count(*)
    FROM {{table}}
    WHERE lease_until IS NOT NULL
        AND (expires_at IS NULL OR expires_at > (SELECT now FROM clock)){{scope}}
    GROUP BY state"""  # noqa: S608
LIST_HELD = f"""WITH {_CLOCK}
    SELECT id, namespace, first_seen, last_seen, expires_at FROM {{table}}
    WHERE on_abandoned = 'hold' AND lease_until <= (SELECT now FROM clock){{scope}}
    ORDER BY namespace, id"""  # noqa: S608
SERVER_TIME = "SELECT {now}"
TABLE_SIZE = "SELECT pg_total_relation_size($1::text::regclass)"


@dataclass(frozen=True, slots=True)
class Table:
    """The table of a store: its name in SQL, and the clock that its statements read."""

    name: str
    clock: ServerClock

    def render(self, template: str, **parts: str) -> str:
        """Render a statement of this module on this table."""
        now = self.clock.override()
        clock = _SERVER_NOW if now is None else f"{now!r}::float8"
        return _render(template, self.name, clock, tuple(parts.items()))


@lru_cache(maxsize=64)
def _render(
    template: str, table: str, now: str, parts: tuple[tuple[str, str], ...]
) -> str:
    return template.format(table=table, now=now, **dict(parts))
