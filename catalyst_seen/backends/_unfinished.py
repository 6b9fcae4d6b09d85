"""The mark of a move that has not ended: who opens its target learns it here.

The mark is a row under a key that is known beforehand, so that an open reads one row.
``catalyst_seen.transfer`` writes it before all others, and removes it when nothing is
left to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import StoreUnavailableError

if TYPE_CHECKING:
    from .operations import Id, Row

MARKER = "catalyst-seen move"
"""The namespace that a target has while a move to it is under way. It is no part of
what is moved."""

MARK: Id = (MARKER, "target")


def note_of(digest: str, shown: str) -> str:
    """Return the note of the mark: which source is moved, and how messages call it."""
    return f"{digest} {shown}"


def source_of(note: str | None) -> tuple[str, str]:
    """Return what ``note_of`` was given."""
    digest, _, shown = (note or "").partition(" ")
    return digest, shown or "another store"


def check_finished(row: Row | None, location: str) -> None:
    """Refuse a database to which a move has not ended, by the row of its mark.

    What a program would mark there, the rest of the move would remove.

    Raises:
        StoreUnavailableError: There is a mark.
    """
    if row is None:
        return
    _, shown = source_of(row.note)
    raise StoreUnavailableError(
        location,
        f"a move from {shown} to it has not ended",
        "Go on with `catalyst-seen move FROM TO`, and use this store when that says"
        ' "moved, and equal"; or give it up by `catalyst-seen --store TO clear --all'
        " --yes`, and begin the move anew",
    )
