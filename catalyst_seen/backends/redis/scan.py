"""Scans of all Redis keys that match a pattern, page by page, on every primary."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..base import Cursor
    from .session import Session

PAGE = 1_000
"""Keys that one ``SCAN`` examines, while the server blocks others."""

_START = _END = "0"
_REMEMBERED = 4_000
"""Redis keys that a page remembers of the pages before it.

``SCAN`` returns a key again only where the server's hash table shrinks during the scan:
then it repeats one bucket of the smaller table, whose keys are those of neighbouring
buckets of the larger one, which the last pages have returned.
"""


async def scan_page(
    session: Session, pattern: bytes, cursor: Cursor | None, size: int
) -> tuple[list[bytes], Cursor | None]:
    """Return the Redis keys of the next page, and the cursor of the page after it.

    A page examines about ``size`` keys of one primary, of which few or none may match.
    No key is returned twice, unless it moves to another node of the cluster meanwhile;
    then it may also be missed. ``slots.py`` has scans that fail instead.
    """
    primary, state = cursor or ("", "")
    primaries = [name for name in await session.primaries() if name >= primary]
    if not primaries:
        return [], None
    if primaries[0] != primary:  # the node of the cursor has left the cluster
        state = ""
    position, _, packed = (state or f"{_START} ").partition(" ")
    after, names = await session.command(
        primaries[0], "SCAN", position, "MATCH", pattern, "COUNT", size
    )
    earlier = array("q", packed.encode("latin-1"))
    known = set(earlier)
    page: list[bytes] = []
    for name in names:
        mark = hash(name)
        if mark not in known:
            known.add(mark)
            earlier.append(mark)
            page.append(name)
    position = after.decode()
    if position != _END:
        packed = earlier[-_REMEMBERED:].tobytes().decode("latin-1")
        return page, (primaries[0], f"{position} {packed}")
    following = primaries[1:]
    return page, (following[0], "") if following else None


async def scan_pages(session: Session, pattern: bytes) -> AsyncIterator[list[bytes]]:
    """Yield the Redis keys of every page that has any, with the limits of a page."""
    cursor: Cursor | None = None
    while True:
        names, cursor = await scan_page(session, pattern, cursor, PAGE)
        if names:
            yield names
        if cursor is None:
            return
