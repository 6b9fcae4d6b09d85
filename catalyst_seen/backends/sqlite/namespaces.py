"""The table of namespaces: each has an id, which the rows of its keys contain.

Ids are read in the transaction that uses them: another process may rename a namespace,
or remove it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..base import PROBE
from ..listings import COLUMNS
from .conditions import LIVE, WITHOUT_STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from . import driver

_ID = "SELECT id FROM namespace WHERE name = ?"
_NAME = "SELECT name FROM namespace WHERE id = ?"
_IDS = """SELECT name, namespace.id FROM json_each(?) AS wanted
    CROSS JOIN namespace ON name = wanted.value"""
_CREATE = "INSERT INTO namespace (name) VALUES (?)"
UPDATE_STATE = f"""UPDATE namespace SET ({", ".join(COLUMNS)})
    = ({", ".join("?" * len(COLUMNS))}) WHERE id = ?"""  # noqa: S608
"""Replaces the state of a source by its columns, of the id that follows them."""

_HAS_STATE = f"SELECT NOT {WITHOUT_STATE} FROM namespace WHERE id = ?"  # noqa: S608
_HAS_ROWS = f"""SELECT EXISTS (SELECT 1 FROM seen
    WHERE namespace = :id AND {LIVE})"""  # noqa: S608
_DROP = "DELETE FROM namespace WHERE name = ?"
_RENAME = "UPDATE namespace SET name = ? WHERE name = ?"
_REMOVE = (
    "DELETE FROM detail WHERE namespace = ?",
    "DELETE FROM seen WHERE namespace = ?",
    "DELETE FROM namespace WHERE id = ?",
)


def find(db: driver.Connection, name: str) -> int | None:
    """Return the id of a namespace; ``None`` if it has none, and thus no rows."""
    found = db.execute(_ID, (name,)).fetchone()
    return None if found is None else int(found[0])


def name_of(db: driver.Connection, id_: int) -> str | None:
    """Return the name of an id; ``None`` if there is no such namespace."""
    found = db.execute(_NAME, (id_,)).fetchone()
    return None if found is None else found[0]


def find_all(db: driver.Connection, names: Collection[str]) -> dict[str, int]:
    """Return the ids of those of the namespaces that have one."""
    if len(names) == 1:
        (name,) = names
        found = find(db, name)
        return {} if found is None else {name: found}
    return dict(db.execute(_IDS, (json.dumps([*names]),)))


def create(db: driver.Connection, name: str) -> int:
    """Give a namespace an id."""
    created = db.execute(_CREATE, (name,)).lastrowid
    assert created is not None  # noqa: S101 - a row was inserted
    return created


def find_or_create(db: driver.Connection, ids: dict[str, int], name: str) -> int:
    """Return the id of a namespace from ``ids``, to which a new one is added."""
    if name not in ids:
        ids[name] = create(db, name)
    return ids[name]


def probe(db: driver.Connection) -> None:
    """Write a row and remove it, in one transaction."""
    db.execute(_CREATE, (PROBE,))
    db.execute(_DROP, (PROBE,))


def rename(
    db: driver.Connection, name: str, new_name: str, clock: Callable[[], float]
) -> bool:
    """Rename a namespace, unless the new name has rows or the state of a source.

    Expired rows under the new name are removed.
    """
    now = clock()
    occupied = find(db, new_name)
    if occupied is not None:
        (has_rows,) = db.execute(_HAS_ROWS, {"id": occupied, "now": now}).fetchone()
        (has_state,) = db.execute(_HAS_STATE, (occupied,)).fetchone()
        if has_rows or has_state:
            return False
        for statement in _REMOVE:
            db.execute(statement, (occupied,))
    db.execute(_RENAME, (new_name, name))
    return True
