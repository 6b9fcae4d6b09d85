"""The upgrades of files of earlier releases, each in one transaction.

Rows are copied in the order of their keys: in any other, each would need a page of its
own, and large files take ten times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .objects import CLAIMS, CREATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from . import driver

_SET_ASIDE = "ALTER TABLE seen RENAME TO old_seen"
_DROP = "DROP TABLE old_seen"
_ADD_CLAIMS = [f"ALTER TABLE seen ADD COLUMN {column}" for column in CLAIMS]

# Rows whose id is not TEXT were unreachable in the old store; the upgrade drops them.
_FROM_OLD_STORE = """INSERT INTO seen
        (namespace, key, first_seen, last_seen, expires_at)
    SELECT namespace.id, old_seen.id, CAST(ts AS REAL), CAST(ts AS REAL),
        CAST(ts AS REAL) + ?
    FROM old_seen CROSS JOIN namespace WHERE typeof(old_seen.id) = 'text'
    ORDER BY old_seen.id"""
# Ids in the order of the names: the rows are in the same order in both tables.
_NAMESPACES = """INSERT INTO namespace (name)
    SELECT DISTINCT namespace FROM old_seen ORDER BY namespace"""
_FROM_EARLIER = """INSERT INTO seen (namespace, key, first_seen, last_seen, expires_at,
        token, attempt, lease_until, on_abandoned)
    SELECT namespace.id, old_seen.id, first_seen, last_seen, expires_at,
        token, attempt, lease_until, on_abandoned
    FROM namespace CROSS JOIN old_seen ON old_seen.namespace = namespace.name
    ORDER BY namespace.id, old_seen.id"""


def upgrade_old_store(db: driver.Connection, ttl: float | None) -> dict[str, int]:
    """Convert the table of the old store.

    Args:
        db: A connection in a transaction.
        ttl: Time to live of its rows, counted from their ``ts``.

    Returns:
        The numbers of rows kept and skipped, for the log.
    """
    _execute(db, [_SET_ASIDE, *CREATE])
    db.execute("INSERT INTO namespace (name) VALUES ('')")
    (old,) = db.execute("SELECT count(*) FROM old_seen").fetchone()
    kept = db.execute(_FROM_OLD_STORE, (ttl,)).rowcount
    db.execute(_DROP)
    return {"rows": kept, "skipped": old - kept}


def upgrade_earlier(db: driver.Connection, version: int) -> dict[str, int]:
    """Convert the table of an earlier version of the schema.

    Args:
        db: A connection in a transaction.
        version: The version.

    Returns:
        The number of rows, for the log.
    """
    if version == 1:
        _execute(db, _ADD_CLAIMS)
    _execute(db, [_SET_ASIDE, *CREATE, _NAMESPACES])
    rows = db.execute(_FROM_EARLIER).rowcount
    db.execute(_DROP)
    return {"rows": rows}


def _execute(db: driver.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)
