"""What PostgreSQL is asked: the statements, and how operations become parameters.

Nothing is installed in the database, so that different releases can run side by side: a
batch is one statement, which reads, decides as ``_state`` does, and writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Mark,
    Operation,
    Release,
    Renew,
    Resolve,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._retry import ServerClock

NOW = "extract(epoch FROM clock_timestamp())::float8"
"""The server's time, in seconds since 1970."""

_Said = tuple[str, str | None, float | None, float | None, str | None, float | None]
"""Of an operation: verb, token, span, ttl, policy, ts."""

# An operation's span is what it adds to the time for lease_until: its lease or delay.
_CLOCK = "clock AS MATERIALIZED (SELECT {now} AS now)"
_COLUMNS = ("namespace", "verb", "token", "span", "ttl", "policy", "ts")
_GIVEN = ", ".join(
    f"CASE WHEN cardinality(${place}) = 1 THEN (${place})[1] ELSE given.{column} END"
    f" AS {column}"
    for place, column in enumerate(_COLUMNS, start=2)
)
_ASKED = f"""SELECT now, place, given.id, {_GIVEN}
    FROM clock CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[],
            $5::float8[], $6::float8[], $7::text[], $8::float8[]) WITH ORDINALITY
        AS given (id, namespace, verb, token, span, ttl, policy, ts, place)"""  # noqa: S608
_JUDGED = """CROSS JOIN LATERAL (SELECT CASE
        WHEN held.id IS NULL OR held.expires_at <= asked.now THEN 'new'
        WHEN held.lease_until IS NULL THEN 'duplicate'
        WHEN asked.now < held.lease_until THEN 'in_flight'
        WHEN held.on_abandoned = 'hold' THEN 'held'
        WHEN held.on_abandoned = 'drop' THEN 'duplicate'
        ELSE 'retry' END AS verdict) AS judged
    CROSS JOIN LATERAL (SELECT coalesce(CASE
        WHEN asked.verb = 'get' THEN false
        WHEN asked.verb = 'mark' THEN true
        WHEN asked.verb IN ('check_and_mark', 'claim')
            THEN judged.verdict IN ('new', 'retry')
        WHEN asked.verb IN ('resolve', 'resolve_handled')
            THEN judged.verdict = 'held'
        WHEN judged.verdict = 'new' THEN false
        WHEN asked.verb = 'forget' THEN true
        WHEN asked.verb = 'confirm' THEN held.token = asked.token
        ELSE held.token = asked.token AND held.lease_until IS NOT NULL
        END, false) AS is_done) AS done
    CROSS JOIN LATERAL (SELECT done.is_done AND NOT (
        asked.verb = 'confirm' AND held.lease_until IS NULL) AS is_change) AS change"""
_ROW = """first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned"""
_FOUND = """asked.now, judged.verdict, done.is_done, asked.namespace, asked.id,
    held.first_seen, held.last_seen, held.expires_at, held.token, held.attempt,
    held.lease_until, held.on_abandoned"""
_ANSWER = f"now, verdict, is_done, namespace, id, {_ROW}"

_GET = f"""WITH {_CLOCK}
    SELECT {_FOUND}
    FROM ({_ASKED}) AS asked
    LEFT JOIN {{table}} AS held USING (namespace, id)
    {_JUDGED}"""  # noqa: S608
# Who waits for a row's lock lives later than when the statement began: so the time is
# taken again under the lock, or a lease would count from before it.
# What is there is locked, and so can be updated as if it were inserted, and deleted by
# its key: a join with the table might be planned while that is empty, as one that reads
# all of it for each key.
# Rows are locked, and inserted, in the order in which glimpsed gives them, one by one:
# inserted pulls on decided, and decided on glimpsed. So no two batches wait for each
# other. An ORDER BY in inserted would have all locks taken before the first insert.
_CHANGE = f"""WITH {_CLOCK},
    glimpsed AS MATERIALIZED (
        SELECT {_FOUND}, asked.verb, asked.token AS own, asked.span, asked.ttl,
            asked.policy, asked.ts, held.id IS NOT NULL AS is_there, change.is_change
        FROM ({_ASKED}) AS asked
        LEFT JOIN {{table}} AS held USING (namespace, id)
        {_JUDGED}
        ORDER BY asked.place
    ),
    decided AS MATERIALIZED (
        SELECT locked.now, judged.verdict, done.is_done, asked.namespace, asked.id,
            CASE WHEN NOT is_change THEN held.first_seen
                WHEN judged.verdict = 'new' THEN at
                WHEN verb IN ('mark', 'check_and_mark', 'resolve_handled')
                    AND judged.verdict <> 'duplicate' THEN least(held.first_seen, at)
                ELSE held.first_seen END AS first_seen,
            CASE WHEN is_change THEN seen_at ELSE held.last_seen END AS last_seen,
            CASE WHEN is_change THEN coalesce(now + span, seen_at) + ttl
                ELSE held.expires_at END AS expires_at,
            CASE WHEN NOT is_change OR verb = 'resolve' THEN held.token
                WHEN verb <> 'mark' THEN asked.own
                WHEN judged.verdict = 'duplicate' AND held.lease_until IS NULL
                    THEN held.token END AS token,
            CASE WHEN NOT is_change THEN held.attempt
                WHEN judged.verdict = 'new' THEN 0 ELSE held.attempt END
                + CASE WHEN is_change AND verb = 'claim' THEN 1 ELSE 0 END AS attempt,
            CASE WHEN is_change THEN now + span
                ELSE held.lease_until END AS lease_until,
            CASE WHEN is_change THEN policy ELSE held.on_abandoned END AS on_abandoned,
            verb, is_change, held.id IS NULL AND is_change AS is_insert
        FROM (
            SELECT now AS begun, namespace, id, verb, own, own AS token, span, ttl,
                policy, is_there, ts
            FROM glimpsed WHERE is_change
        ) AS asked
        LEFT JOIN LATERAL (
            SELECT * FROM {{table}} AS newest
            WHERE asked.is_there AND newest.namespace = asked.namespace
                AND newest.id = asked.id
            FOR UPDATE
        ) AS held ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN held.id IS NULL THEN begun ELSE {{now}} END AS now
        ) AS locked
        CROSS JOIN LATERAL (SELECT coalesce(ts, locked.now) AS at) AS sight
        {_JUDGED.replace("asked.now", "locked.now")}
        CROSS JOIN LATERAL (SELECT CASE
            WHEN verb IN ('renew', 'release', 'resolve') THEN held.last_seen
            WHEN verb = 'mark' AND judged.verdict = 'duplicate'
                THEN greatest(held.last_seen, at)
            ELSE at END AS seen_at) AS seen_at
    ),
    inserted AS (
        INSERT INTO {{table}} AS rival (namespace, id, {_ROW})
        SELECT namespace, id, {_ROW} FROM decided WHERE is_insert
        ON CONFLICT (namespace, id) DO UPDATE SET
            first_seen = CASE WHEN excluded.token IS NULL
                    AND rival.lease_until IS NOT NULL
                THEN least(rival.first_seen, excluded.first_seen)
                ELSE rival.first_seen END,
            last_seen = CASE WHEN excluded.token IS NOT NULL THEN rival.last_seen
                WHEN rival.lease_until IS NOT NULL THEN excluded.last_seen
                ELSE greatest(rival.last_seen, excluded.last_seen) END,
            expires_at = CASE WHEN excluded.token IS NOT NULL THEN rival.expires_at
                WHEN rival.lease_until IS NOT NULL THEN excluded.expires_at
                ELSE excluded.expires_at
                    + greatest(rival.last_seen - excluded.last_seen, 0) END,
            token = CASE WHEN excluded.token IS NOT NULL OR rival.lease_until IS NULL
                THEN rival.token END,
            lease_until = CASE WHEN excluded.token IS NOT NULL
                THEN rival.lease_until END,
            on_abandoned = CASE WHEN excluded.token IS NOT NULL
                THEN rival.on_abandoned END
        RETURNING namespace, id, {_ROW}
    ),
    updated AS (
        INSERT INTO {{table}} (namespace, id, {_ROW})
        SELECT namespace, id, {_ROW} FROM decided
        WHERE is_change AND NOT is_insert AND verb <> 'forget'
        ON CONFLICT (namespace, id) DO UPDATE
        SET (first_seen, last_seen, expires_at,
                token, attempt, lease_until, on_abandoned)
            = ROW (excluded.first_seen, excluded.last_seen, excluded.expires_at,
                excluded.token, excluded.attempt, excluded.lease_until,
                excluded.on_abandoned)
    ),
    forgotten AS MATERIALIZED (
        SELECT namespace, id FROM decided WHERE is_change AND verb = 'forget'
    ),
    deleted AS (
        DELETE FROM {{table}} AS held
        WHERE held.namespace = ANY (ARRAY(SELECT namespace FROM forgotten))
            AND held.id = ANY (ARRAY(SELECT id FROM forgotten))
            AND (SELECT true FROM forgotten WHERE forgotten.namespace = held.namespace
                AND forgotten.id = held.id)
    )
    SELECT (SELECT now FROM clock) AS now, NULL AS verdict, NULL::boolean AS is_done,
        namespace, id, {_ROW} FROM inserted
    UNION ALL SELECT {_ANSWER} FROM decided WHERE NOT is_insert
    UNION ALL SELECT {_ANSWER} FROM glimpsed WHERE NOT is_change"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Table:
    """A store's table: its name in SQL, and the clock that its statements read."""

    name: str
    clock: ServerClock

    def change(self) -> str:
        """Render the statement that executes operations, at most one per key."""
        return self.render(_CHANGE)

    def get(self) -> str:
        """Render the statement that only reads, which a replica can execute."""
        return self.render(_GET)

    def render(self, template: str, **parts: str) -> str:
        """Render a statement on this table."""
        now = self.clock.override()
        clock = NOW if now is None else f"{now!r}::float8"
        return _render(template, self.name, clock, tuple(parts.items()))


@lru_cache(maxsize=64)
def _render(
    template: str, table: str, now: str, parts: tuple[tuple[str, str], ...]
) -> str:
    return template.format(table=table, now=now, **dict(parts))


def parameters(
    operations: Sequence[Operation[object]], tokens: Sequence[str]
) -> list[Sequence[object]]:
    """Make the parameters of a statement for operations.

    What is the same for all is sent once: to write it as often as there are keys would
    take asyncpg longer than all the rest takes.

    Args:
        operations: In the order in which their rows are to be locked.
        tokens: What marks them, where they mark a key as seen.
    """
    columns = zip(*map(_asked, operations, tokens), strict=True)
    return [
        [operation.key for operation in operations],
        *(column if len(set(column)) > 1 else column[:1] for column in columns),
    ]


def _asked(operation: Operation[object], token: str) -> tuple[str, *_Said]:
    return operation.namespace, *_ASKED_BY[type(operation)](operation, token)


def _lease(claim: Acquire | Renew) -> _Said:
    """Its row does not expire if a person must decide."""
    ttl = None if claim.on_abandoned == "hold" else claim.ttl
    return claim.verb, claim.token, claim.lease, ttl, claim.on_abandoned, None


def _resolve(resolve: Resolve) -> _Said:
    if resolve.is_handled:
        return "resolve_handled", None, None, resolve.ttl, None, None
    return "resolve", None, 0.0, resolve.ttl, None, None


_ASKED_BY: dict[type[Operation[Any]], Callable[[Any, str], _Said]] = {
    Get: lambda one, _: (one.verb, None, None, None, None, None),
    Mark: lambda one, _: (one.verb, None, None, one.ttl, None, one.ts),
    CheckAndMark: lambda one, id_: (one.verb, id_, None, one.ttl, None, None),
    Forget: lambda one, _: (one.verb, None, None, None, None, None),
    Acquire: lambda one, _: _lease(one),
    Renew: lambda one, _: _lease(one),
    Confirm: lambda one, _: (one.verb, one.token, None, one.ttl, None, None),
    Release: lambda one, _: (one.verb, one.token, one.delay, one.ttl, None, None),
    Resolve: lambda one, _: _resolve(one),
}
