"""Every statement on whole namespaces: removals, counts, and lists.

=====================  =============================================================
``PURGE``              deletes expired rows
``CLEANUP``            deletes rows by their age
``CLEAR``              deletes rows of a namespace
``EMPTY`` and others   remove the names of namespaces without rows, and rename
``COUNT`` and others   read
=====================  =============================================================

A row is deleted together with its detail.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..listings import CLEARED
from .details import delete_details, text_of
from .queries import CLOCK, ROW, verdicts

if TYPE_CHECKING:
    from ..._types import RecordState

NAMESPACE_ID = "SELECT id FROM {schema}.namespace WHERE name = $1"
SCOPE = " AND namespace = (SELECT id FROM {schema}.namespace WHERE name = "
"""The beginning of the condition on the namespace of a row; its parameter follows."""

PURGE = f"""WITH clock AS MATERIALIZED (SELECT {{now}} AS now, {{lock}} AS has_lock),
    expired AS MATERIALIZED (
        SELECT ctid, namespace, key, has_detail, expires_at FROM {{schema}}.seen
        WHERE (SELECT has_lock FROM clock) AND expires_at >= $2
            AND expires_at <= (SELECT now FROM clock){{scope}}
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (
        DELETE FROM {{schema}}.seen
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
        RETURNING namespace, key, has_detail
    ),
    {delete_details("deleted", "has_detail")}
    SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM expired),
        (SELECT max(expires_at) FROM expired)"""  # noqa: S608
WAIT_FOR_LOCK = "pg_advisory_xact_lock($1::bigint) IS NOT NULL"
TRY_LOCK = "pg_try_advisory_xact_lock($1::bigint)"

_PAGE = """page AS MATERIALIZED (
        SELECT * FROM {schema}.seen
        WHERE (namespace, key) > ($1::bigint, $2) AND namespace <= $3::bigint
        ORDER BY namespace, key LIMIT $4
    )"""
_LAST = """(
        SELECT namespace, key FROM page ORDER BY namespace, key OFFSET $4 - 1
    ) AS last"""
_DELETED = f"""deleted AS (
        DELETE FROM {{schema}}.seen AS stored USING free
        WHERE stored.namespace = free.namespace AND stored.key = free.key
        RETURNING stored.namespace, stored.key, stored.has_detail, stored.expires_at
    ),
    {delete_details("deleted", "has_detail")}"""  # noqa: S608
# What was observed is ended by its source alone.
_IS_OLD = """listed_poll IS NULL AND last_seen < now - $5::float8
    AND (lease_until IS NULL
        OR lease_until <= now AND on_abandoned IS DISTINCT FROM 'hold')"""
# A locked row is about to be marked or removed by another transaction.
CLEANUP = f"""WITH {CLOCK}, {_PAGE},
    free AS MATERIALIZED (
        SELECT latest.namespace, latest.key
        FROM (SELECT namespace, key, now FROM page, clock WHERE {_IS_OLD}) AS found
        CROSS JOIN LATERAL (
            SELECT namespace, key FROM {{schema}}.seen AS latest
            WHERE latest.namespace = found.namespace AND latest.key = found.key
                AND {_IS_OLD}
            FOR UPDATE SKIP LOCKED
        ) AS latest
    ),
    {_DELETED}
    SELECT removed, namespace, key
    FROM (SELECT count(*) AS removed FROM deleted) AS deleted
    LEFT JOIN {_LAST} ON true"""  # noqa: S608
CLEAR = f"""WITH {CLOCK}, {_PAGE},
    free AS MATERIALIZED (
        SELECT latest.namespace, latest.key
        FROM (SELECT namespace, key FROM page ORDER BY namespace, key) AS found
        CROSS JOIN LATERAL (
            SELECT namespace, key FROM {{schema}}.seen AS latest
            WHERE latest.namespace = found.namespace AND latest.key = found.key
            FOR UPDATE {{skip}}
        ) AS latest
    ),
    {_DELETED}
    SELECT removed, namespace, key
    FROM (SELECT count(*) AS removed FROM deleted WHERE expires_at IS NULL
        OR expires_at > (SELECT now FROM clock)) AS deleted
    LEFT JOIN {_LAST} ON true"""  # noqa: S608

# What a source leaves in its namespace: all columns but id and name.
_DEFAULTS = {"polls": "0", "poll_clock": "0"}
_NULLABLE = (
    "recipe", "first_poll", "last_poll", "digest", "listed", "largest", "recent_sizes",
    "baseline_at", "validators", "poller_state", "last_error", "observation", "summary",
    "totals",
)  # fmt: skip
_STATE = ", ".join(_NULLABLE).replace("recipe", f"nullif(recipe, '{CLEARED}')")
_IS_PLAIN = f"polls = 0 AND poll_clock = 0 AND num_nonnulls({_STATE}) = 0"
# What is left when its source is gone must not make the next listing less a baseline.
_FORGOTTEN = {
    **_DEFAULTS,
    **dict.fromkeys(_NULLABLE, "NULL"),
    "recipe": f"'{CLEARED}'",
}
_HAS_NO_ROW = """NOT EXISTS (
        SELECT FROM {schema}.seen WHERE seen.namespace = names.id)"""
_NAMES = """(
        SELECT * FROM {schema}.namespace
        WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3
    ) AS names"""
FORGET_SOURCES = f"""UPDATE {{schema}}.namespace
    SET {", ".join(f"{name} = {value}" for name, value in _FORGOTTEN.items())}
    WHERE id = ANY (ARRAY(SELECT id FROM {_NAMES}
        WHERE recipe IS DISTINCT FROM '{CLEARED}' OR NOT ({_IS_PLAIN})))"""  # noqa: S608
EMPTY = f"""SELECT array_agg(id ORDER BY id)
            FILTER (WHERE {_IS_PLAIN} AND {_HAS_NO_ROW}) AS empty,
        CASE WHEN count(*) = $3 THEN max(id) END AS last
    FROM {_NAMES}"""  # noqa: S608
LOCK_NAMES = "LOCK TABLE {schema}.namespace IN SHARE ROW EXCLUSIVE MODE"
"""Waits for every transaction that may insert rows or names, and excludes them."""
REMOVE_EMPTY = f"""WITH removed AS (
        DELETE FROM {{schema}}.namespace AS names
        WHERE id = ANY ($1::bigint[]) AND {_IS_PLAIN} AND {_HAS_NO_ROW}
        RETURNING id
    )
    DELETE FROM {{schema}}.detail WHERE namespace = ANY (ARRAY(SELECT id FROM removed))
    """  # noqa: S608
IS_OCCUPIED = f"""SELECT EXISTS (SELECT FROM {{schema}}.seen
    WHERE namespace = (SELECT id FROM {{schema}}.namespace WHERE name = $1)
        AND (expires_at IS NULL OR expires_at > {{now}}))
    OR EXISTS (
        SELECT FROM {{schema}}.namespace WHERE name = $1 AND NOT ({_IS_PLAIN})
    )"""  # noqa: S608
"""Has a name a row that has not expired, or a source?"""
# What has expired under a removed name is purged like every expired row.
PROBE_NAME = "INSERT INTO {schema}.namespace (name) VALUES ($1) ON CONFLICT DO NOTHING"
REMOVE_NAME = "DELETE FROM {schema}.namespace WHERE name = $1"
RENAME = "UPDATE {schema}.namespace SET name = $1 WHERE name = $2"

_IS_LIVE = "(expires_at IS NULL OR expires_at > (SELECT now FROM clock))"
_IS_SEEN = f"""{_IS_LIVE} AND (lease_until IS NULL
        OR lease_until <= (SELECT now FROM clock) AND on_abandoned = 'drop')"""  # noqa: S608
COUNT = f"""WITH {CLOCK}
    SELECT names.name, counted.keys FROM (
        SELECT namespace, count(*) AS keys FROM {{schema}}.seen
        WHERE {_IS_SEEN}{{scope}} GROUP BY namespace
    ) AS counted JOIN {{schema}}.namespace AS names ON names.id = counted.namespace
    """  # noqa: S608
COUNT_CLAIMS = f"""WITH {CLOCK}
    SELECT CASE WHEN lease_until > (SELECT now FROM clock)
            THEN 'claimed'
            WHEN on_abandoned IS NULL AND attempt > 0 THEN 'released'
            ELSE on_abandoned END AS state, count(*),
        min(CASE WHEN on_abandoned IS NOT NULL THEN last_seen
            WHEN lease_until <= (SELECT now FROM clock) THEN lease_until END)
    FROM {{schema}}.seen WHERE lease_until IS NOT NULL AND {_IS_LIVE}{{scope}}
    GROUP BY state"""  # noqa: S608
HAS_SEEN = f"""WITH {CLOCK}
    SELECT EXISTS (SELECT FROM {{schema}}.namespace AS names
        CROSS JOIN LATERAL (
            SELECT FROM {{schema}}.seen
            WHERE seen.namespace = names.id AND {_IS_SEEN} LIMIT 1
        ) AS found
        WHERE {{scope}})"""  # noqa: S608
NAMESPACES = f"""WITH {CLOCK}
    SELECT name FROM {{schema}}.namespace AS names
    CROSS JOIN LATERAL (
        SELECT FROM {{schema}}.seen
        WHERE seen.namespace = names.id AND {_IS_LIVE} LIMIT 1
    ) AS found
    ORDER BY name"""  # noqa: S608

# $1 and $2 are the position after which a page begins, $3 is its number of rows.
_IN_ORDER = "{schema}.seen WHERE (namespace, key) > ($1::bigint, $2)"
_IN_NAMESPACE = "{schema}.seen WHERE namespace = $1::bigint AND key > $2"
_IN_EACH_NAMESPACE = """(
            SELECT id FROM {schema}.namespace WHERE id >= $1 ORDER BY id LIMIT $3
        ) AS names CROSS JOIN LATERAL (
            SELECT * FROM {schema}.seen AS stored WHERE stored.namespace = names.id
                AND key > CASE WHEN names.id = $1 THEN $2 ELSE '' END"""
LAST_NAMESPACE = """SELECT max(id) FROM (
        SELECT id FROM {schema}.namespace WHERE id >= $1 ORDER BY id LIMIT $2
    ) AS names HAVING count(*) = $2"""
_STATES = {
    None: "true",
    "seen": "verdict = 'duplicate'",
    "claimed": "verdict = 'in_flight' AND on_abandoned IS NOT NULL",
    "released": """(verdict = 'retry' OR verdict = 'in_flight' AND on_abandoned IS NULL)
        AND attempt > 0""",
    "held": "verdict = 'held'",
    "pending": "lease_until IS NOT NULL AND on_abandoned IS NULL AND attempt = 0",
}


@lru_cache
def records(
    state: RecordState | None,
    *,
    is_one_namespace: bool,
    has_prefix: bool,
    has_end: bool,
    has_since: bool,
) -> str:
    """Return the statement of a page of records.

    Its rows are those that an index finds: by the beginning of the keys, or because
    they may be held. The other conditions only hide rows of the page. The last row of a
    full page is returned in any case, because the next page begins after it.

    Args:
        state: The state of the records.
        is_one_namespace: Do all rows have the namespace ``$1``?
        has_prefix: Is ``$4`` the least key?
        has_end: Is ``$5`` the least key that is too great?
        has_since: Is the next parameter the least ``last_seen``?
    """
    condition = ""
    if has_prefix:
        condition += " AND key >= $4"
    if has_end:
        condition += " AND key < $5"
    if state == "held":
        condition += " AND on_abandoned = 'hold'"
    if is_one_namespace:
        source = f"{_IN_NAMESPACE}{condition}"
    elif has_prefix and state != "held":
        source = f"{_IN_EACH_NAMESPACE}{condition} ORDER BY key LIMIT $3) AS stored"
    else:
        source = f"{_IN_ORDER}{condition}"
    selected = _STATES[state]
    if has_since:
        selected += f" AND last_seen >= ${4 + has_prefix + has_end}"
    return f"""WITH {CLOCK},
    page AS MATERIALIZED (
        SELECT namespace, key, {ROW}, has_detail FROM {source}
        ORDER BY namespace, key LIMIT $3
    )
    SELECT namespace, names.name, key, verdict, is_selected, position = $3 AS is_last,
        {ROW}, {text_of("page", "is_selected")} AS note,
        {text_of("page", "is_selected AND lease_until IS NOT NULL", "last_error")}
    FROM (
        SELECT *, row_number() OVER (ORDER BY namespace, key) AS position FROM page
    ) AS page CROSS JOIN clock
    LEFT JOIN {{schema}}.namespace AS names ON names.id = page.namespace
    CROSS JOIN LATERAL (SELECT CASE
        WHEN expires_at <= now THEN 'new'
        {verdicts("page", "now")} END AS verdict) AS state
    CROSS JOIN LATERAL (SELECT verdict <> 'new' AND names.id IS NOT NULL
        AND {selected} AS is_selected) AS selection
    WHERE is_selected OR position = $3
    ORDER BY position"""  # noqa: S608


SERVER_TIME = "SELECT {now}"
SIZE = """SELECT sum(pg_total_relation_size(relation))::bigint
    FROM unnest($1::text[]::regclass[]) AS relation"""
