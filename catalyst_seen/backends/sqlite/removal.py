"""One page of a long removal: of expired rows, of old ones, or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..listings import CLEARED
from .conditions import LIVE, WITHOUT_STATE
from .spans import cursor_behind, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base import Cursor
    from . import driver

Kind = Literal["expired", "old", "all"]

_CONDITIONS: dict[Kind, str] = {
    "expired": "expires_at <= :now",
    "old": """last_seen < :now - :age AND listed_poll IS NULL
        AND (lease_until IS NULL OR lease_until <= :now
            AND on_abandoned IS NOT 'hold')""",
    "all": "true",
}
_DETAILS = 4
"""A page has as many rows less if they have details: a note may fill many pages."""

_SPAN = "(namespace, key) >= (:first, :start) AND (namespace, key) < (:last, :stop)"
_LAST = f"""SELECT namespace, key FROM {{}} WHERE {_SPAN}
    ORDER BY namespace, key LIMIT 1 OFFSET {{}}"""  # noqa: S608
_ANY = f"SELECT 1 FROM seen WHERE {_SPAN} AND {{}} LIMIT 1"  # noqa: S608
_COUNT_LIVE = f"SELECT count(*) FROM seen WHERE {_SPAN} AND {LIVE}"  # noqa: S608
_REMOVE_DETAILS = f"""DELETE FROM detail WHERE {_SPAN} AND EXISTS (SELECT 1 FROM seen
    WHERE namespace = detail.namespace AND key = detail.key AND {{}})"""  # noqa: S608
_REMOVE = f"DELETE FROM seen WHERE {_SPAN} AND {{}}"  # noqa: S608
_EMPTY = """SELECT id FROM namespace WHERE id BETWEEN :first AND :last AND {}
    AND NOT EXISTS (SELECT 1 FROM seen WHERE namespace = namespace.id) LIMIT :limit"""
_REMOVE_NAMESPACE = "DELETE FROM namespace WHERE id = ?"
# What is left when its source is gone must not make the next listing less a baseline.
_RESET = f"""REPLACE INTO namespace (id, name, recipe)
    SELECT id, name, '{CLEARED}' FROM namespace WHERE id BETWEEN :first AND :last
        AND (recipe IS NOT '{CLEARED}' OR NOT {WITHOUT_STATE})"""  # noqa: S608


class Removal(NamedTuple):
    """A long removal, and where its next page begins.

    Attributes:
        kind: Which rows to remove.
        namespace: That of the rows; ``None`` is any.
        limit: Number of rows that a page examines.
        cursor: That of the page before.
        age: Seconds since the last mark of an old row.
    """

    kind: Kind
    namespace: str | None
    limit: int
    cursor: Cursor | None
    age: float = 0.0


def remove(
    db: driver.Connection, removal: Removal, now: float
) -> tuple[int, Cursor | None]:
    """Remove the selected rows of one page, and the namespaces that it leaves empty.

    Returns:
        Number of removed rows; of all rows, those that had not expired. And the cursor
        of the next page.
    """
    rows = span(db, removal.namespace, removal.cursor)
    if rows is None:
        return 0, None
    cursor: Cursor | None = None
    details = max(removal.limit // _DETAILS, 1)
    for table, limit in (("seen", removal.limit), ("detail", details)):
        last = db.execute(_LAST.format(table, limit - 1), rows._asdict()).fetchone()
        if last is not None:
            rows, cursor = rows.until(*last), cursor_behind(*last)
    values = {
        **rows._asdict(), "now": now, "age": removal.age, "limit": removal.limit,
    }  # fmt: skip
    removed = _remove_rows(db, removal.kind, values)
    _remove_namespaces(db, removal.kind, values)
    return removed, cursor


def _remove_rows(db: driver.Connection, kind: Kind, values: Mapping[str, Any]) -> int:
    """Remove rows and their details; a page without any needs no write lock."""
    condition = _CONDITIONS[kind]
    if db.execute(_ANY.format(condition), values).fetchone() is None:
        return 0
    live = db.execute(_COUNT_LIVE, values).fetchone() if kind == "all" else None
    db.execute(_REMOVE_DETAILS.format(condition), values)
    removed = db.execute(_REMOVE.format(condition), values).rowcount
    return removed if live is None else int(live[0])


def _remove_namespaces(
    db: driver.Connection, kind: Kind, values: Mapping[str, Any]
) -> None:
    """Remove the namespaces of the page that have neither rows nor a source.

    Where all rows go, the sources go as well, even if keys are marked meanwhile.
    """
    condition = "true" if kind == "all" else WITHOUT_STATE
    for id_ in db.execute(_EMPTY.format(condition), values).fetchall():
        db.execute(_REMOVE_NAMESPACE, id_)
    if kind == "all":
        db.execute(_RESET, values)
