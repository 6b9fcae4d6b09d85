"""The operations that a store sends to a backend, and the row that they leave behind.

Each operation concerns one key. ``_state_machine`` defines the result of each one and
the row that it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from .._types import ClaimState, Record, Sighting

if TYPE_CHECKING:
    from .._types import OnAbandoned

Result_co = TypeVar("Result_co", covariant=True)
Id = tuple[str, str]
"""Namespace and key."""


@dataclass(slots=True)
class Operation(Generic[Result_co]):
    """One operation on one key. The subclass defines its effect and its result.

    Treated as immutable; ``frozen=True`` would dominate the cost of creating one.
    """

    verb: ClassVar[str]

    namespace: str
    key: str


class CacheableOperation(Operation[Result_co]):
    """An operation that leaves a seen key unchanged, so that a cache can answer it."""

    __slots__ = ()


class ReadOperation(Operation[Result_co]):
    """An operation that changes nothing, in whatever state its key is."""

    __slots__ = ()


class Noted(Operation[Result_co]):
    """An operation with a ``note``, which is written if the operation has its effect.

    ``None`` keeps the note of the key, and ``""`` removes it.
    """

    __slots__ = ()

    note: str | None


@dataclass(slots=True)
class IsSeen(CacheableOperation[bool], ReadOperation[bool]):
    """Is the key seen?"""

    verb = "is_seen"


@dataclass(slots=True)
class Get(ReadOperation[Record | None]):
    """Read the record of a key, with its note; ``None`` if it is unseen."""

    verb = "get"


@dataclass(slots=True)
class Mark(Noted[None]):
    """Mark as seen in any state; ``ts`` is the instant of the sighting, or now."""

    verb = "mark"

    ttl: float | None
    ts: float | None = None
    note: str | None = None


@dataclass(slots=True)
class CheckAndMark(CacheableOperation[Sighting], Noted[Sighting]):
    """Mark as seen unless seen already; a duplicate leaves its row unchanged."""

    verb = "check_and_mark"

    ttl: float | None
    note: str | None = None


@dataclass(slots=True)
class Refresh(Operation[bool]):
    """Extend the TTL of a seen key, and never shorten it; true if the key was seen."""

    verb = "refresh"

    ttl: float | None


@dataclass(slots=True)
class Forget(Operation[bool]):
    """Make unseen; true if there was a row that had not expired."""

    verb = "forget"


@dataclass(slots=True)
class Acquire(CacheableOperation[ClaimState], Noted[ClaimState]):
    """Claim unless seen, held or under a live lease; an owner gets the note as well.

    When the lease ends without a confirm or a release, ``on_abandoned`` decides the
    state of the key; its row expires one ``ttl`` later.
    """

    verb = "claim"

    token: str
    lease: float
    ttl: float | None
    on_abandoned: OnAbandoned
    note: str | None = None


@dataclass(slots=True)
class Confirm(Noted[bool]):
    """Mark as seen if the token owns the row; true if its mark is there now.

    A released row has no owner.
    """

    verb = "confirm"

    token: str
    ttl: float | None
    note: str | None = None


@dataclass(slots=True)
class Renew(Operation[float | None]):
    """Restart the lease if the token owns the row; its new end, else ``None``.

    A released row has no owner.
    """

    verb = "renew"

    token: str
    lease: float
    ttl: float | None
    on_abandoned: OnAbandoned


@dataclass(slots=True)
class Release(Operation[bool]):
    """Make claimable after ``delay`` if the token owns the row; true if it did.

    The token stays in the row, so that a repeated release recognises the first one.
    """

    verb = "release"

    token: str
    delay: float
    ttl: float | None


@dataclass(slots=True)
class Resolve(Operation[bool]):
    """Mark a held key as seen, or make it claimable; true if the key was held."""

    verb = "resolve"

    is_handled: bool
    ttl: float | None


class Row(NamedTuple):
    """The stored state of a key. Instants are seconds since 1970.

    A row with a ``lease_until`` is a claim: the owner of ``token`` has it until then;
    afterwards ``on_abandoned`` decides, and ``None`` there means that it was released.
    A row without one is a mark, with the token of the confirmed claim, if any.

    A cache keeps rows without their notes.
    """

    first_seen: float
    last_seen: float
    expires_at: float | None
    token: str | None = None
    attempt: int = 0
    lease_until: float | None = None
    on_abandoned: OnAbandoned | None = None
    note: str | None = None
