"""Scans during which no slot moves from one node of a cluster to another.

A scan takes one primary after the other. Keys that move meanwhile, from a primary which
is not scanned yet to one which has been, are on no page. That is a limit of the scans
of ``scan.py``; a move of a store, which compares what it has read, cannot have it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ..._errors import StoreUnavailableError
from .scan import scan_page

if TYPE_CHECKING:
    from ..base import Cursor
    from .session import Session

_SIZE = 32  # characters of an assignment
_NONE = "0" * _SIZE
_ID, _FLAGS, _EPOCH, _SLOTS = 0, 2, 6, 8  # fields of a line of CLUSTER NODES


async def assignment(session: Session) -> str:
    """Return a digest of which primary has which slots; it changes with every move.

    Raises:
        StoreUnavailableError: The keys of a slot are being moved now.
    """
    if not session.topology.is_cluster:
        return _NONE
    digest = sha256()
    for primary in await session.primaries():
        reply = await session.command(primary, "CLUSTER", "NODES")
        own = _own(reply.decode())
        if any(slot.startswith("[") for slot in own):
            raise _moving(session)
        digest.update("\n".join(own).encode())
    return digest.hexdigest()[:_SIZE]


async def check_unmoved(session: Session, before: str) -> None:
    """Check that no slot has moved since ``assignment`` returned ``before``.

    Raises:
        StoreUnavailableError: One has, or is moving.
    """
    if await assignment(session) != before:
        raise _moving(session)


async def steady_page(
    session: Session, pattern: bytes, cursor: Cursor | None, size: int
) -> tuple[list[bytes], Cursor | None]:
    """Return what ``scan_page`` does; the pages together have every key.

    Raises:
        StoreUnavailableError: This is the last page, and slots have moved since the
            first one.
    """
    inner: Cursor | None = None
    if cursor is None:
        before = await assignment(session)
    else:
        before, inner = cursor[1][:_SIZE], (cursor[0], cursor[1][_SIZE:])
    page, after = await scan_page(session, pattern, inner, size)
    if after is None:
        await check_unmoved(session, before)
        return page, None
    return page, (after[0], before + after[1])


def _own(nodes: str) -> list[str]:
    """Return what a node knows of itself: its slots, and those in migration.

    Its epoch grows with every slot that it receives, also with one that it had before.
    """
    for line in nodes.splitlines():
        fields = line.split(" ")
        if "myself" in fields[_FLAGS].split(","):
            return [fields[_ID], fields[_FLAGS], fields[_EPOCH], *fields[_SLOTS:]]
    return []


def _moving(session: Session) -> StoreUnavailableError:
    return StoreUnavailableError(
        session.location,
        "slots of the cluster moved from one node to another meanwhile, so that keys"
        " may have been missed",
        "Repeat this when none moves",
    )
