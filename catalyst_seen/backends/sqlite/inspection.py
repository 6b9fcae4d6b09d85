"""Counts of keys, and which namespaces there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import ClaimCounts
from .conditions import LIVE, STATES

if TYPE_CHECKING:
    from . import driver

_COUNT = f"""SELECT (SELECT name FROM namespace WHERE id = seen.namespace), count(*)
    FROM seen WHERE {LIVE} AND {STATES["seen"]}{{scope}} GROUP BY namespace"""  # noqa: S608
_CLAIMS = f"""SELECT
        CASE WHEN lease_until > :now THEN 'claimed'
            WHEN on_abandoned IS NULL AND attempt > 0 THEN 'released'
            ELSE on_abandoned END AS state,
        count(*),
        min(CASE WHEN on_abandoned IS NOT NULL THEN last_seen
            WHEN lease_until <= :now THEN lease_until END)
    FROM seen WHERE lease_until IS NOT NULL AND {LIVE}{{scope}} GROUP BY state"""  # noqa: S608
_HAS_ANY = f"""SELECT EXISTS
    (SELECT 1 FROM seen WHERE {LIVE} AND {STATES["seen"]}{{scope}})"""  # noqa: S608
_SCOPE = " AND namespace = (SELECT id FROM namespace WHERE name = :name)"
_NAMES = f"""SELECT name FROM namespace
    WHERE EXISTS (SELECT 1 FROM seen WHERE namespace = namespace.id AND {LIVE})"""  # noqa: S608


def count(db: driver.Connection, namespace: str | None, now: float) -> dict[str, int]:
    """Count the seen keys of each namespace."""
    return dict(_select(db, _COUNT, namespace, now))


def count_claims(
    db: driver.Connection, namespace: str | None, now: float
) -> ClaimCounts:
    """Count the claims: live ones, released ones, and abandoned ones by policy."""
    return ClaimCounts.of(_select(db, _CLAIMS, namespace, now))


def has_any(db: driver.Connection, namespace: str | None, now: float) -> bool:
    """Is there a seen key? The first one ends the search; expired rows do not."""
    ((is_there,),) = _select(db, _HAS_ANY, namespace, now)
    return bool(is_there)


def names(db: driver.Connection, now: float) -> list[str]:
    """List the namespaces that have a row which has not expired, sorted.

    The first such row of each ends the search in it.
    """
    return sorted(name for (name,) in db.execute(_NAMES, {"now": now}))


def _select(
    db: driver.Connection, query: str, namespace: str | None, now: float
) -> list[Any]:
    scope = "" if namespace is None else _SCOPE
    values = {"now": now, "name": namespace}
    return db.execute(query.format(scope=scope), values).fetchall()
