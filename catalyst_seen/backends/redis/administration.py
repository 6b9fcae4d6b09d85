"""The operations that only this backend sends, on keys that it has found by a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..operations import Forget, Get, Operation

if TYPE_CHECKING:
    from ..._verdict import Verdict


@dataclass(slots=True)
class Cleanup(Forget):
    """Remove a row last marked longer ago.

    Not if it is held, under a live lease, or that of a key that was observed.
    """

    verb = "cleanup"

    age: float


@dataclass(slots=True)
class Clear(Forget):
    """Remove a row in any state; unlike a Forget it may be repeated."""

    verb = "clear"


@dataclass(slots=True)
class Select(Get):
    """Read a row and its note, if it was marked or claimed since, and has the state.

    The state is given by the verdict that it leads to; that of a released claim is
    ``RETRY``, with or without a delay. ``None`` is any. ``is_pending`` selects the keys
    that were observed, and not claimed yet, which no verdict does.
    """

    verb = "records"

    verdict: Verdict | None = None
    since: float | None = None
    is_pending: bool = False


@dataclass(slots=True)
class Export(Get):
    """Read a value as it is stored."""

    verb = "export"


@dataclass(slots=True)
class Import(Operation[bool]):
    """Store an exported value under another name, before a deadline.

    A row that is there already, and is not older, stays. The result is true unless the
    server's time is past the deadline: another store may have taken over by then, and
    what it has imported may have been forgotten since.
    """

    verb = "import"

    value: bytes
    expires_at: float | None
    deadline: float


@dataclass(slots=True)
class Remove(Operation[bool]):
    """Remove an exported value, unless it has changed; true if it is gone."""

    verb = "remove"

    value: bytes
    expires_at: float | None


@dataclass(slots=True)
class Rename(Operation[bool]):
    """Give the key before it in the batch this name; true if there was a row.

    Both keys must be on one server. A row that is there already, and is not older,
    stays, and the other one is removed.
    """

    verb = "rename"


@dataclass(slots=True)
class Discard(Operation[bool]):
    """Remove a claimed row if the token owns it; true if there is no row any more."""

    verb = "discard"

    token: str
