"""Statements on many rows at once.

After each statement the thread acquires the GIL again, and a busy event loop may delay
that by milliseconds: so a batch is few statements, whatever its size.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from . import driver

ROWS = 1_024  # in a statement; a power of two, so that few sizes are compiled
_DELETE = """DELETE FROM {}
    WHERE namespace = ? AND key IN (SELECT value FROM json_each(?))"""


def in_json(texts: Sequence[str]) -> Iterator[str]:
    """Yield arrays for ``json_each``, each of a bounded size."""
    for first in range(0, len(texts), ROWS):
        yield json.dumps(texts[first : first + ROWS])


def insert(
    db: driver.Connection,
    into: str,
    rows: Sequence[tuple[object, ...]],
    conflict: str = "",
) -> None:
    """Insert rows of one width.

    Args:
        db: The connection.
        into: The statement up to its ``VALUES``.
        rows: The rows.
        conflict: The clause for rows that exist.
    """
    first = 0
    while first < len(rows):
        size = min(1 << (len(rows) - first).bit_length() - 1, ROWS)
        statement = _statement(into, len(rows[0]), size, conflict)
        db.execute(statement, [*chain(*rows[first : first + size])])
        first += size


def delete(db: driver.Connection, table: str, ids: Sequence[tuple[int, str]]) -> None:
    """Delete the rows of keys, by the ids of their namespaces."""
    keys: defaultdict[int, list[str]] = defaultdict(list)
    for namespace, key in ids:
        keys[namespace].append(key)
    for namespace, names in keys.items():
        for some in in_json(names):
            db.execute(_DELETE.format(table), (namespace, some))


@cache
def _statement(into: str, width: int, rows: int, conflict: str) -> str:
    values = f"({', '.join('?' * width)})"
    return f"{into} VALUES {', '.join([values] * rows)} {conflict}"
