"""The layout of the names in Redis: its version, and the move from the earlier one.

A marker records that all names of a prefix have the layout of ``keys``. It is a row of
the store's own format: claimed while a store moves the names of earlier releases, seen
once that is done. Its note is the version. A store whose open finds the marker reads
nothing else.

The marker is read only at an open. A program of an earlier release that is still at
work later writes names that no store of this one reads; scans of all namespaces count
them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ..._errors import SchemaError, StoreError
from ..._logging import log
from ..._pause import pause
from ..._verdict import Verdict
from ..operations import Get
from .keys import OldKeyCodec
from .moves import TakenOverError, moving
from .scan import scan_pages

if TYPE_CHECKING:
    from .keys import KeyCodec
    from .moves import Mover
    from .replies import KeyReply
    from .session import Session

VERSION = 2
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 1.0
_PASSES = 5  # at most, while a program of an earlier release still writes


async def adopt(session: Session, codec: KeyCodec, prefix: str) -> None:
    """Move the names of the earlier layout, unless that is done; then mark it.

    If another store is at it, wait until it has finished, or its lease has ended.

    Raises:
        SchemaError: A newer layout, or another program's marker.
        StoreError: The marker cannot be written, or a name not moved.
    """
    backoff = _FIRST_PAUSE
    while not is_adopted(await _read_marker(session, codec), session.location):
        with suppress(TakenOverError):
            if await _move_all(session, codec, OldKeyCodec(prefix)):
                return
        await pause(backoff)
        backoff = min(2 * backoff, _LAST_PAUSE)


def is_adopted(marker: KeyReply, location: str) -> bool:
    """Is this layout in use, by the reply to a ``Get`` of the marker?

    Raises:
        SchemaError: A newer layout, or another program's marker.
    """
    if marker.is_foreign:
        raise SchemaError(
            location,
            "the key that tells the layout of the names is another program's",
            "It is untouched; choose another prefix",
        )
    if marker.row is None:
        return False
    version = re.match(r"layout (\d+)", marker.row.note or "")
    if version is None or int(version[1]) > VERSION:
        raise SchemaError(
            location,
            f"the layout of its names is newer than {VERSION}: {marker.row.note}",
            "It is untouched; install the release that wrote it, or a newer one",
        )
    return marker.verdict is Verdict.DUPLICATE


async def is_marked(session: Session, codec: KeyCodec) -> bool:
    """Is this layout in use, and no other store at the move to it?"""
    return is_adopted(await _read_marker(session, codec), session.location)


async def _read_marker(session: Session, codec: KeyCodec) -> KeyReply:
    (marker,) = await session.ask([Get("", "layout")], [codec.layout])
    return marker


async def _move_all(session: Session, codec: KeyCodec, old: OldKeyCodec) -> bool:
    """Move all names of the earlier layout; false if another store is at it."""
    note = f"layout {VERSION}: {codec.example}"
    try:
        async with moving(session, codec.layout, note=note, is_lasting=True) as mover:
            if mover is None:
                return False
            for _ in range(_PASSES):  # the last one finds none
                if not await _move_pass(session, codec, old, mover):
                    break
    except TakenOverError:
        raise
    except StoreError as exc:
        exc.add_note("The open has to mark the layout of the names, once.")
        raise
    if mover.moved:
        log("info", "names_moved", location=session.location, keys=mover.moved)
    return True


async def _move_pass(
    session: Session, codec: KeyCodec, old: OldKeyCodec, mover: Mover
) -> int:
    """Move the names that scans find; return how many there were."""
    moved = 0
    for pattern in old.patterns:
        async for names in scan_pages(session, pattern):
            found = {name: id_ for name in names if (id_ := old.decode(name))}
            targets = [codec.encode(*id_) for id_ in found.values()]
            moved += await mover.move(list(found.values()), list(found), targets)
    return moved
