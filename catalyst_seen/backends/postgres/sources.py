"""Every statement on sources, and on the keys that they list.

=====================  =============================================================
``LOCK_SOURCE``        begins an observation, and excludes all others of the source
``READ`` and others    read what an observation depends on
``WRITE`` and others   write what it changes
``SOURCE``             reads the state of a source; ``SOURCES`` those of all
``WAITING``            reads the keys that can be claimed
=====================  =============================================================

While a key is listed, ``listed_poll`` is the number of the poll since which it is, and
``listed_at`` is NULL. So a listing that stays the same changes no row of a key. When
the key leaves, both columns get the number and the clock of the last poll that listed
it.
"""

from __future__ import annotations

from ..listings import COLUMNS
from .details import delete_details
from .queries import ROW

_COLUMNS = ", ".join(COLUMNS)
_LISTED = "seq, listed_poll, listed_at, kept_until"
_IS_LISTED = "listed_poll IS NOT NULL AND listed_at IS NULL"

# The INSERT gets its lock on the table in any case, before the row is locked: a rename,
# which locks the table and then the row, cannot come between. See ``queries``.
LOCK_SOURCE = f"""WITH made AS (
        INSERT INTO {{schema}}.namespace (name)
        SELECT $1::text WHERE $2::boolean AND NOT EXISTS (
            SELECT FROM {{schema}}.namespace WHERE name = $1)
        ON CONFLICT (name) DO NOTHING
    )
    SELECT id, {{now}} AS now, {_COLUMNS} FROM {{schema}}.namespace
    WHERE name = $1 FOR UPDATE"""  # noqa: S608
"""Returns no row for a name that it has inserted; the next execution does."""

# An OFFSET keeps the order of a join: for each key, one search of the index.
READ = f"""SELECT stored.*, detail.last_error, detail.alias, detail.digest
    FROM unnest($2::text[]) AS wanted (key)
    CROSS JOIN LATERAL (
        SELECT key, xmin AS version, expires_at <= $3::float8 AS is_expired,
            has_detail, {ROW}, {_LISTED} FROM {{schema}}.seen
        WHERE seen.namespace = $1::bigint AND seen.key = wanted.key OFFSET 0
    ) AS stored
    LEFT JOIN LATERAL (
        SELECT last_error, alias, digest FROM {{schema}}.detail
        WHERE stored.has_detail AND detail.namespace = $1::bigint
            AND detail.key = stored.key OFFSET 0
    ) AS detail ON true"""  # noqa: S608
READ_LISTED = f"""SELECT listed.key, detail.alias
    FROM (
        SELECT key, has_detail FROM {{schema}}.seen
        WHERE namespace = $1::bigint AND key > $2 AND {_IS_LISTED}
        ORDER BY key LIMIT $3
    ) AS listed
    LEFT JOIN LATERAL (
        SELECT alias FROM {{schema}}.detail
        WHERE listed.has_detail AND detail.namespace = $1::bigint
            AND detail.key = listed.key OFFSET 0
    ) AS detail ON true
    ORDER BY listed.key"""  # noqa: S608
COUNT_LISTED = f"""SELECT count(*) FROM {{schema}}.seen
    WHERE namespace = $1::bigint AND {_IS_LISTED}"""  # noqa: S608
HAS_LIVE = """SELECT EXISTS (SELECT FROM {schema}.seen WHERE namespace = $1::bigint
    AND (expires_at IS NULL OR expires_at > $2::float8))"""

_WRITTEN = f"key, {ROW}, {_LISTED}, has_detail"
_EXCLUDED = ", ".join(
    f"excluded.{column.strip()}" for column in _WRITTEN.split(",")[1:]
)
# As in ``queries.write_batch``, rows are locked and inserted one by one in the order of
# the parameters, because "inserted", which comes first, pulls them from "locked".
WRITE = f"""WITH locked AS MATERIALIZED (
        SELECT written.*, stored.version AS found
        FROM unnest($2::text[], $3::xid[], $4::float8[], $5::float8[], $6::float8[],
            $7::text[], $8::int[], $9::float8[], $10::text[], $11::bigint[],
            $12::bigint[], $13::float8[], $14::float8[], $15::boolean[])
            AS written (key, version, {ROW}, {_LISTED}, has_detail)
        LEFT JOIN LATERAL (
            SELECT latest.xmin AS version FROM {{schema}}.seen AS latest
            WHERE latest.namespace = $1::bigint AND latest.key = written.key
            FOR UPDATE
        ) AS stored ON true
    ),
    inserted AS (
        INSERT INTO {{schema}}.seen (namespace, {_WRITTEN})
        SELECT $1::bigint, {_WRITTEN} FROM locked
        WHERE version IS NULL AND found IS NULL
        ON CONFLICT (namespace, key) DO NOTHING RETURNING key
    ),
    updated AS (
        INSERT INTO {{schema}}.seen (namespace, {_WRITTEN})
        SELECT $1::bigint, {_WRITTEN} FROM locked WHERE found = version
        ON CONFLICT (namespace, key) DO UPDATE
        SET ({_WRITTEN.removeprefix("key, ")}) = ROW ({_EXCLUDED}) RETURNING key
    )
    SELECT (SELECT count(*) FROM inserted) + (SELECT count(*) FROM updated)"""  # noqa: S608
"""Writes those rows that are still as they were read, and counts them."""

_DETAIL = "note, alias, digest, last_error"
_WRITE_DETAILS = f"""INSERT INTO {{{{schema}}}}.detail AS existing
        (namespace, key, {_DETAIL})
    SELECT $1::bigint, key, {{inserted}}, alias, digest, last_error
    FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[])
        AS written (key, {_DETAIL})
    ON CONFLICT (namespace, key) DO UPDATE SET ({_DETAIL})
        = ROW ({{note}}, excluded.alias, excluded.digest, excluded.last_error)"""  # noqa: S608
WRITE_DETAILS = _WRITE_DETAILS.format(inserted="nullif(note, '')", note="excluded.note")
"""For rows without a detail that counts."""
MERGE_DETAILS = _WRITE_DETAILS.format(
    inserted="note",
    note="CASE WHEN excluded.note IS NULL THEN existing.note"
    " ELSE nullif(excluded.note, '') END",
)
"""For rows with one; a note that is NULL stays as it was."""
COPY_DETAILS = f"""INSERT INTO {{schema}}.detail (namespace, key, {_DETAIL})
    SELECT $1::bigint, renamed.new_key, {_DETAIL}
    FROM unnest($2::text[], $3::text[]) AS renamed (old_key, new_key)
    CROSS JOIN LATERAL (
        SELECT {_DETAIL} FROM {{schema}}.detail
        WHERE detail.namespace = $1::bigint AND detail.key = renamed.old_key OFFSET 0
    ) AS stored
    ON CONFLICT (namespace, key) DO UPDATE SET ({_DETAIL})
        = ROW (excluded.note, excluded.alias, excluded.digest, excluded.last_error)"""  # noqa: S608
REMOVE_DETAILS = """DELETE FROM {schema}.detail
    WHERE namespace = $1::bigint AND key = ANY ($2::text[])"""
REMOVE = """DELETE FROM {schema}.seen
    WHERE namespace = $1::bigint AND key = ANY ($2::text[])"""

# A key that another transaction has locked stays listed, and leaves at a later poll: so
# no observation waits for the end of a transaction in which a claim is confirmed.
LEAVE = f"""WITH gone AS MATERIALIZED (
        SELECT latest.ctid FROM unnest($2::text[]) AS absent (key)
        CROSS JOIN LATERAL (
            SELECT seen.ctid FROM {{schema}}.seen
            WHERE seen.namespace = $1::bigint AND seen.key = absent.key
                AND {_IS_LISTED}
            FOR UPDATE SKIP LOCKED
        ) AS latest
    ),
    written AS (
        UPDATE {{schema}}.seen SET (listed_poll, listed_at) = ROW ($3, $4)
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM gone)) RETURNING key
    )
    SELECT count(*) FROM written"""  # noqa: S608
EXPIRE = f"""WITH gone AS MATERIALIZED (
        SELECT ctid FROM {{schema}}.seen
        WHERE namespace = $1::bigint AND listed_poll <= $2 AND listed_at <= $3
            AND lease_until IS NULL
            AND (kept_until IS NULL OR kept_until <= $5::float8)
        ORDER BY listed_at, key
        LIMIT greatest(0, (SELECT count(*) FROM {{schema}}.seen
            WHERE namespace = $1::bigint AND listed_poll IS NOT NULL) - $4::bigint)
        FOR UPDATE SKIP LOCKED
    ),
    deleted AS (
        DELETE FROM {{schema}}.seen WHERE ctid = ANY (ARRAY(SELECT ctid FROM gone))
        RETURNING namespace, key, has_detail
    ),
    {delete_details("deleted", "has_detail")}
    SELECT count(*) FROM deleted"""  # noqa: S608
_SET_SOURCE = ", ".join(
    f"{column} = ${number}" for number, column in enumerate(COLUMNS, start=2)
)
WRITE_SOURCE = f"UPDATE {{schema}}.namespace SET {_SET_SOURCE} WHERE id = $1"  # noqa: S608

_IS_HELD = "lease_until <= {now} AND on_abandoned IS NOT DISTINCT FROM 'hold'"
_WAITS = f"FILTER (WHERE NOT ({_IS_HELD}))"
_COUNTS = f"""count(*) {_WAITS} AS pending, count(*) - count(*) {_WAITS} AS held,
        min(CASE WHEN attempt > 0 THEN first_seen ELSE last_seen END) {_WAITS}"""
COUNT_WAITING = f"""SELECT {_COUNTS} FROM {{schema}}.seen
    WHERE namespace = $1::bigint AND seq IS NOT NULL"""  # noqa: S608
_SOURCE = f"""waiting.*, {_COLUMNS}
    FROM {{schema}}.namespace AS names
    CROSS JOIN LATERAL (
        SELECT {_COUNTS} FROM {{schema}}.seen
        WHERE seen.namespace = names.id AND seq IS NOT NULL
    ) AS waiting"""  # noqa: S608
SOURCE = f"SELECT {_SOURCE} WHERE names.name = $1"
SOURCES = f"SELECT names.name, {_SOURCE} WHERE names.totals IS NOT NULL"
WAITING = f"""SELECT {{now}} AS now, seq, key, {ROW} FROM {{schema}}.seen
    WHERE namespace = (SELECT id FROM {{schema}}.namespace WHERE name = $1)
        AND seq > $2::bigint
    ORDER BY seq LIMIT $3"""  # noqa: S608
