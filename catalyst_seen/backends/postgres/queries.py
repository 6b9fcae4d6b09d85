"""Every statement that executes operations.

=====================  =============================================================
``write_batch``        executes operations; only an observation inserts rows besides
``read_batch``         executes operations of which none writes
``LOCKED``             finds the keys whose rows other transactions have locked
=====================  =============================================================

The statements on whole namespaces are in ``scans``, those of observations in
``sources``. The database holds no functions, so
that different releases can share it: a batch is one statement, which resolves the names
of its namespaces, reads rows, decides and writes. ``_transition`` is the state machine
in SQL, and its first condition is the check of the TTL.

How names stay resolved: a statement that inserts rows may insert names, and therefore
has a ROW EXCLUSIVE lock on the table ``namespace``, from before its snapshot until the
end of its transaction. A rename and the removal of an empty namespace exclude it by
``scans.LOCK_NAMES``. So no row is inserted under an id that has lost its name.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from .details import FAILED, delete_details, noted, text_of
from .shapes import names, requested

if TYPE_CHECKING:
    from .shapes import Shape

CLOCK = "clock AS MATERIALIZED (SELECT {now} AS now)"


def verdicts(row: str, now: str) -> str:
    """Return the conditions of the verdict on a row that has not expired."""
    return f"""WHEN {row}.lease_until IS NULL THEN 'duplicate'
        WHEN {now} < {row}.lease_until THEN 'in_flight'
        WHEN {row}.on_abandoned = 'hold' THEN 'held'
        WHEN {row}.on_abandoned = 'drop' THEN 'duplicate'
        WHEN {row}.on_abandoned IS NULL AND {row}.attempt = 0 THEN 'pending'
        ELSE 'retry'"""


def _transition(now: str, *, is_noted: bool = False) -> str:
    """Return the joins that compute verdict, ``is_done`` and ``is_change``.

    They are the conditions of ``_state_machine.transition`` on the row ``stored`` and
    the operation ``requested``. ``is_rewrite`` is a change of more than the note. The
    OFFSET keeps PostgreSQL from a copy of the conditions at each mention of their
    result, which would take a fifth of the time of a batch. The verdict "pending" is a
    "new" with a row that has not expired.
    """
    is_change = "is_rewrite"
    if is_noted:
        is_change = "(is_rewrite OR outcome.is_done AND requested.note IS NOT NULL)"
    return f"""CROSS JOIN LATERAL (SELECT CASE
        WHEN stored.key IS NULL OR stored.expires_at <= {now} THEN 'new'
        {verdicts("stored", now)} END AS verdict) AS state
    CROSS JOIN LATERAL (SELECT coalesce(CASE
        WHEN requested.verb IN ('is_seen', 'get') THEN false
        WHEN requested.verb = 'mark' THEN true
        WHEN requested.verb IN ('check_and_mark', 'claim')
            THEN state.verdict IN ('new', 'pending', 'retry')
        WHEN requested.verb = 'refresh' THEN state.verdict = 'duplicate'
        WHEN requested.verb IN ('resolve', 'resolve_handled')
            THEN state.verdict = 'held'
        WHEN state.verdict = 'new' THEN false
        WHEN requested.verb = 'forget' THEN true
        WHEN requested.verb IN ('confirm', 'renew', 'hold')
            AND stored.lease_until IS NOT NULL AND stored.on_abandoned IS NULL
            THEN false
        WHEN requested.verb = 'confirm' THEN stored.token = requested.token
        ELSE stored.token = requested.token AND stored.lease_until IS NOT NULL
        END, false) AS is_done OFFSET 0) AS outcome
    CROSS JOIN LATERAL (SELECT outcome.is_done AND NOT (
        requested.verb = 'confirm' AND stored.lease_until IS NULL) AS is_rewrite
        ) AS effect
    CROSS JOIN LATERAL (SELECT {is_change} AS is_change) AS change"""


ROW = """first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned"""
_STORED = """stored.first_seen, stored.last_seen, stored.expires_at, stored.token,
    stored.attempt, stored.lease_until, stored.on_abandoned"""


# A record has time, verdict, is_done; its position, or place and key; whether the row
# has a note that was not read; the row; the note; and where records are read, the last
# error.
@lru_cache
def read_batch(shape: Shape) -> str:
    """Return the statement that executes operations of which none writes."""
    shape = replace(shape, may_insert=False)
    return f"""WITH {CLOCK}, {names(shape)}
    SELECT requested.now, state.verdict, false AS is_done, requested.position,
        NULL::int AS place, NULL::text AS key,
        stored.has_detail AND verb <> 'get' AS is_unread, {_STORED},
        {text_of("stored", "verb = 'get'")} AS note{_error(shape, "stored")}
    FROM ({requested(shape)}) AS requested
    LEFT JOIN {{schema}}.seen AS stored USING (namespace, key)
    {_transition("requested.now")}"""  # noqa: S608


@lru_cache
def write_batch(shape: Shape) -> str:
    """Return the statement that executes operations.

    A wait for a row lock makes the time of the statement stale: "decision" reads the
    time again under the lock, or a lease would start before it was acquired. "decision"
    locks the existing rows, so that "updated" can write them as an upsert and "deleted"
    can delete them by key: a join with the table, planned while that is empty, might
    read the whole table for each key.

    Deadlocks between batches are impossible, because names and then rows are locked and
    inserted one by one, in the order of the parameters: "inserted" pulls rows from
    "decision", and that from "snapshot". An ORDER BY in "inserted" would lock all rows
    before the first insert. A detail is written under the lock of its row.

    "inserted" meets a row of a concurrent transaction only if that was inserted after
    the snapshot. A Mark, which has no token, is then merged into it; a CheckAndMark or
    an Acquire leaves it as it is, and the token in the row shows that it lost the race.

    A note is read as of the snapshot. If the row was changed between snapshot and lock
    ("is_moved"), the note may be a later one, and counts as not read.
    """
    may_forget = shape.verb in {None, "forget"}
    parts = [CLOCK, names(shape), _snapshot(shape), _decision(shape)]
    results = [_result_of_decision(shape), _result_of_snapshot(shape)]
    if shape.may_insert:
        parts.append(_inserted(shape))
        results.append(_result_of_insert(shape))
    if shape.is_noted:
        parts.append(noted(shape))
    if shape.has_error:
        parts.append(FAILED)
    if shape.verb != "forget":
        parts.append(_UPDATED)
    if may_forget:
        parts.append(_DELETED)
    if may_forget or shape.may_insert:
        condition = "is_change AND had_detail AND NOT has_detail"
        parts.append(delete_details("decision", condition))
    return f"WITH {', '.join(parts)} {' UNION ALL '.join(results)}"


def _snapshot(shape: Shape) -> str:
    return f"""snapshot AS MATERIALIZED (
        SELECT requested.now, state.verdict, outcome.is_done, requested.position,
            requested.namespace, requested.key, {_STORED}, stored.has_detail,
            requested.verb, requested.token AS own_token, requested.lease,
            requested.ttl, requested.policy, requested.ts, requested.note,
            requested.error,
            stored.ctid AS version, is_change
        FROM ({requested(shape)}) AS requested
        LEFT JOIN {{schema}}.seen AS stored USING (namespace, key)
        {_transition("requested.now", is_noted=shape.is_noted)}
        ORDER BY requested.position
    )"""  # noqa: S608


def _decision(shape: Shape) -> str:
    return f"""decision AS MATERIALIZED (
        SELECT locked.now, state.verdict, outcome.is_done, requested.position,
            requested.namespace, requested.key,
            CASE WHEN NOT is_rewrite THEN stored.first_seen
                WHEN state.verdict = 'new' THEN seen_at
                WHEN verb IN ('mark', 'check_and_mark', 'resolve_handled')
                    AND state.verdict <> 'duplicate'
                    THEN least(stored.first_seen, seen_at)
                ELSE stored.first_seen END AS first_seen,
            CASE WHEN is_rewrite THEN refreshed_at
                ELSE stored.last_seen END AS last_seen,
            CASE WHEN NOT is_rewrite OR stored.listed_poll IS NOT NULL
                    THEN stored.expires_at
                WHEN verb = 'refresh' AND stored.expires_at > refreshed_at + ttl
                    THEN stored.expires_at
                WHEN verb = 'refresh' AND stored.expires_at IS NULL THEN NULL
                ELSE coalesce(now + lease, refreshed_at) + ttl END AS expires_at,
            CASE WHEN NOT is_rewrite OR verb = 'resolve' THEN stored.token
                WHEN verb NOT IN ('mark', 'refresh') THEN requested.token
                WHEN state.verdict = 'duplicate' AND stored.lease_until IS NULL
                    THEN stored.token END AS token,
            CASE WHEN NOT is_rewrite THEN stored.attempt
                WHEN state.verdict = 'new' THEN 0 ELSE stored.attempt END
                + CASE WHEN is_rewrite AND verb = 'claim' THEN 1
                    WHEN is_rewrite AND verb = 'release_uncounted'
                        AND stored.on_abandoned IS NOT NULL THEN -1
                    ELSE 0 END AS attempt,
            CASE WHEN is_rewrite AND verb = 'hold' THEN least(now, stored.lease_until)
                WHEN is_rewrite THEN now + lease
                ELSE stored.lease_until END AS lease_until,
            CASE WHEN is_rewrite AND policy = 'drop'
                    AND stored.listed_poll IS NOT NULL THEN 'retry'
                WHEN is_rewrite THEN policy
                ELSE stored.on_abandoned END AS on_abandoned,
            CASE WHEN NOT is_change THEN stored.has_detail
                WHEN verb = 'forget' THEN false
                WHEN note <> '' OR error IS NOT NULL THEN true
                WHEN state.verdict = 'new' THEN false
                ELSE stored.has_detail END AS has_detail,
            stored.has_detail AS had_detail,
            state.verdict = 'new' OR NOT stored.has_detail AS is_undetailed,
            verb, note, error, is_change, stored.key IS NULL AND is_change AS is_insert,
            stored.version <> requested.version AS is_moved
        FROM (
            SELECT now AS started, position, namespace, key, verb, own_token AS token,
                lease, ttl, policy, ts, note, error, version
            FROM snapshot WHERE is_change
        ) AS requested
        LEFT JOIN LATERAL (
            SELECT latest.ctid AS version, latest.* FROM {{schema}}.seen AS latest
            WHERE requested.version IS NOT NULL
                AND latest.namespace = requested.namespace
                AND latest.key = requested.key
            FOR UPDATE
        ) AS stored ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN stored.key IS NULL THEN started ELSE {{now}} END AS now
        ) AS locked
        CROSS JOIN LATERAL (SELECT coalesce(ts, locked.now) AS seen_at) AS sighting
        {_transition("locked.now", is_noted=shape.is_noted)}
        CROSS JOIN LATERAL (SELECT CASE
            WHEN verb IN ('renew', 'release', 'release_uncounted', 'hold', 'resolve')
                THEN stored.last_seen
            WHEN verb IN ('mark', 'refresh') AND state.verdict = 'duplicate'
                THEN greatest(stored.last_seen, seen_at)
            ELSE seen_at END AS refreshed_at) AS refresh
    )"""  # noqa: S608


def _inserted(shape: Shape) -> str:
    detail, merge = "", ""
    if shape.is_noted:
        detail = ", has_detail"
        merge = """, has_detail = existing.has_detail
                OR excluded.has_detail AND excluded.token IS NULL"""
    return f"""inserted AS (
        INSERT INTO {{schema}}.seen AS existing (namespace, key, {ROW}{detail})
        SELECT namespace, key, {ROW}{detail} FROM decision WHERE is_insert
        ON CONFLICT (namespace, key) DO UPDATE SET
            first_seen = CASE WHEN excluded.token IS NULL
                    AND existing.lease_until IS NOT NULL
                THEN least(existing.first_seen, excluded.first_seen)
                ELSE existing.first_seen END,
            last_seen = CASE WHEN excluded.token IS NOT NULL THEN existing.last_seen
                WHEN existing.lease_until IS NOT NULL THEN excluded.last_seen
                ELSE greatest(existing.last_seen, excluded.last_seen) END,
            expires_at = CASE WHEN excluded.token IS NOT NULL
                    OR existing.listed_poll IS NOT NULL THEN existing.expires_at
                WHEN existing.lease_until IS NOT NULL THEN excluded.expires_at
                ELSE excluded.expires_at
                    + greatest(existing.last_seen - excluded.last_seen, 0) END,
            token = CASE WHEN excluded.token IS NOT NULL
                    OR existing.lease_until IS NULL
                THEN existing.token END,
            lease_until = CASE WHEN excluded.token IS NOT NULL
                THEN existing.lease_until END,
            on_abandoned = CASE WHEN excluded.token IS NOT NULL
                THEN existing.on_abandoned END,
            seq = CASE WHEN excluded.token IS NOT NULL THEN existing.seq END{merge}
        RETURNING namespace, key, {ROW}, has_detail, xmax = 0 AS is_new
    )"""  # noqa: S608


# A key that is seen waits in no order any more.
_UPDATED = f"""updated AS (
        INSERT INTO {{schema}}.seen AS existing (namespace, key, {ROW}, has_detail)
        SELECT namespace, key, {ROW}, has_detail FROM decision
        WHERE is_change AND NOT is_insert AND verb <> 'forget'
        ON CONFLICT (namespace, key) DO UPDATE
        SET (first_seen, last_seen, expires_at,
                token, attempt, lease_until, on_abandoned, has_detail, seq)
            = ROW (excluded.first_seen, excluded.last_seen, excluded.expires_at,
                excluded.token, excluded.attempt, excluded.lease_until,
                excluded.on_abandoned, excluded.has_detail,
                CASE WHEN excluded.lease_until IS NOT NULL THEN existing.seq END)
    )"""  # noqa: S608
_DELETED = """forgotten AS MATERIALIZED (
        SELECT namespace, key FROM decision WHERE is_change AND verb = 'forget'
    ),
    deleted AS (
        DELETE FROM {schema}.seen AS stored
        WHERE stored.namespace = ANY (ARRAY(SELECT namespace FROM forgotten))
            AND stored.key = ANY (ARRAY(SELECT key FROM forgotten))
            AND (SELECT true FROM forgotten
                WHERE forgotten.namespace = stored.namespace
                AND forgotten.key = stored.key)
    )"""


def _result_of_insert(shape: Shape) -> str:
    place = "1"
    if shape.has_places:
        place = "array_position((SELECT ids FROM names), namespace)"
    return f"""SELECT (SELECT now FROM clock), NULL, NULL, NULL, {place}, key,
        has_detail, {ROW}, NULL{_error(shape)} FROM inserted"""  # noqa: S608


def _result_of_decision(shape: Shape) -> str:
    is_unread = "is_moved OR NOT is_change OR verb <> 'claim'"
    return f"""SELECT now, verdict, is_done, position, NULL::int AS place,
        NULL::text AS key, has_detail AND ({is_unread}) AS is_unread,
        {ROW}, {text_of("decision", "is_change AND verb = 'claim'")} AS note
        {_error(shape)}
    FROM decision WHERE NOT is_insert"""  # noqa: S608


def _result_of_snapshot(shape: Shape) -> str:
    is_read = "verb = 'get' OR verb = 'claim' AND token = own_token"
    return f"""SELECT now, verdict, is_done, position, NULL, NULL,
        has_detail AND verb <> 'get' AND (verb <> 'claim'
            OR token IS DISTINCT FROM own_token), {ROW},
        {text_of("snapshot", is_read)}{_error(shape, "snapshot")}
    FROM snapshot WHERE NOT is_change"""  # noqa: S608


def _error(shape: Shape, row: str | None = None) -> str:
    """Return the column of the last error, of a batch that may read records."""
    if shape.verb not in {None, "get"}:
        return ""
    if row is None:
        return ", NULL"
    error = text_of(row, "verb = 'get'", "last_error")
    return f", {error}"


LOCKED = """SELECT wanted.name, wanted.key
    FROM unnest($1::text[], $2::text[]) AS wanted (name, key)
    JOIN {schema}.namespace AS names ON names.name = wanted.name
    JOIN {schema}.seen AS stored
        ON stored.namespace = names.id AND stored.key = wanted.key
    LEFT JOIN LATERAL (
        SELECT true AS is_free FROM {schema}.seen AS latest
        WHERE latest.namespace = names.id AND latest.key = wanted.key
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
    WHERE is_free IS NULL"""
