"""Every statement on rows and states as they are stored, for a move.

=====================  =============================================================
``PAGE`` and ``READ``  read rows with their details
``MAKE_NAMES``         makes namespaces, which then keep their ids
``write_statement``    writes rows; others their details and the states of sources
=====================  =============================================================

Rows are locked and written one by one in the order of batches. A batch that inserts
keys which are removed meanwhile may still deadlock with a move: the server ends that,
and the channel repeats the request. See ``queries`` for how names stay resolved.
"""

from __future__ import annotations

from functools import lru_cache

from ..listings import CLEARED, COLUMNS
from .queries import ROW

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
TYPES = {
    "namespace": "bigint", "key": "text", "is_gone": "boolean", "first_seen": "float8",
    "last_seen": "float8", "expires_at": "float8", "token": "text", "attempt": "int",
    "lease_until": "float8", "on_abandoned": "text", "seq": "bigint",
    "listed_poll": "bigint", "listed_at": "float8", "kept_until": "float8",
    "has_detail": "boolean",
}  # fmt: skip
"""The columns that are sent, in their order."""


@lru_cache(maxsize=64)
def write_statement(shared: frozenset[str], *, may_remove: bool) -> str:
    """Return the statement that writes rows.

    It returns the rows that were there before and have no detail now; and those to be
    removed, whose locks it holds.

    Args:
        shared: The columns that are equal in all rows, sent as arrays of one element:
            to encode and decode the others is half of the time of a plain row.
        may_remove: Are there rows to be removed?
    """
    arrays = {
        name: f"${number}::{kind}[]"
        for number, (name, kind) in enumerate(TYPES.items(), start=1)
    }
    own = [name for name in TYPES if name not in shared]
    columns = ", ".join(
        f"({arrays[name]})[1] AS {name}" if name in shared else name for name in TYPES
    )
    rows = f"""SELECT {columns} FROM unnest({", ".join(arrays[name] for name in own)})
        AS sent ({", ".join(own)})"""  # noqa: S608
    locked = f"locked AS ({rows})"
    if may_remove:
        # "inserted", which is read first, pulls rows from "locked" one by one.
        locked = f"""locked AS MATERIALIZED (
        SELECT written.*, is_there FROM ({rows}) AS written
        LEFT JOIN LATERAL (
            SELECT true AS is_there FROM {{schema}}.seen AS latest
            WHERE latest.namespace = written.namespace AND latest.key = written.key
            FOR UPDATE
        ) AS stored ON true
    )"""  # noqa: S608
    # What another transaction has inserted since is not locked, and stays.
    gone = "SELECT namespace, key, true FROM locked WHERE is_gone AND is_there"
    return f"""WITH {locked},
    inserted AS (
        INSERT INTO {{schema}}.seen (namespace, key, {_WRITTEN})
        SELECT namespace, key, {_WRITTEN} FROM locked WHERE NOT is_gone
        ON CONFLICT (namespace, key) DO UPDATE SET ({_WRITTEN}) = ROW ({_EXCLUDED})
        RETURNING namespace, key, NOT has_detail AND xmax <> 0 AS is_undetailed
    )
    SELECT namespace, key, false AS is_gone FROM inserted WHERE is_undetailed
    {f"UNION ALL {gone}" if may_remove else ""}"""  # noqa: S608


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
