"""Ranges of keys, in the order of the primary key: the pages of long scans."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from . import namespaces

if TYPE_CHECKING:
    from ..base import Cursor
    from . import driver

MAX_ID = 2**63 - 1
"""No namespace has a larger id."""

NO_END = b""
"""A bound above every key: SQLite sorts a BLOB behind every text."""

_FIRST_SURROGATE, _LAST_SURROGATE = 0xD800, 0xDFFF


class Span(NamedTuple):
    """A range of rows, in the order of namespace and key.

    Attributes:
        first: Id of the first namespace.
        start: The first key in it that belongs to the range.
        last: Id of the last namespace.
        stop: The first key in it that does not.
    """

    first: int
    start: str
    last: int
    stop: str | bytes

    def until(self, namespace: int, key: str) -> Span:
        """Return the part that ends with a row."""
        return self._replace(last=namespace, stop=_successor(key))


def span(
    db: driver.Connection,
    namespace: str | None,
    cursor: Cursor | None,
    prefix: str = "",
) -> Span | None:
    """Return the range from a cursor on; ``None`` if there is no such namespace.

    Args:
        db: The connection.
        namespace: That of the keys; ``None`` is any.
        cursor: The id of a namespace, and the first key in it.
        prefix: How the keys begin. In all namespaces but the first and the last one,
            the range has other keys as well.
    """
    end = end_of(prefix)
    first, start = (int(cursor[0]), cursor[1]) if cursor else (0, prefix)
    if namespace is None:
        return Span(first, start, MAX_ID, end)
    only = namespaces.find(db, namespace)
    if only is None:
        return None
    return Span(only, start, only, end)


def cursor_behind(namespace: int, key: str) -> Cursor:
    """Return the cursor of the rows behind one."""
    return str(namespace), _successor(key)


def end_of(prefix: str) -> str | bytes:
    """Return the smallest bound above every key that begins with a prefix.

    The order of the bytes of UTF-8 is that of the code points.
    """
    shorter = prefix.rstrip(chr(sys.maxunicode))
    if not shorter:
        return NO_END
    following = ord(shorter[-1]) + 1
    if following == _FIRST_SURROGATE:  # no text of UTF-8 contains one
        following = _LAST_SURROGATE + 1
    return shorter[:-1] + chr(following)


def _successor(key: str) -> str:
    """Return the smallest text behind a key; no key contains a NUL."""
    return f"{key}\0"
