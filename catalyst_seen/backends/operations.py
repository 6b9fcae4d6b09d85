"""The operations that a store sends to a backend, and the row that they leave behind.

Each operation concerns one key, but for ``ForEach``, which repeats one on many keys.
``_state_machine`` defines the result of each one and the row that it leaves.
"""

from __future__ import annotations

from array import array
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from .._types import ClaimState, Record, Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._types import OnAbandoned

_WITH_GIL = 2_000
"""Bytes for which hashlib keeps the GIL; a busy thread may not give it back soon."""

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

    def ids(self) -> Iterable[Id]:
        """Return namespace and key of each key that it concerns."""
        return ((self.namespace, self.key),)

    def count(self) -> tuple[str, int]:
        """Return its verb, and on how many keys."""
        return self.verb, 1


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
    ``error`` is stored as the last error of the key; ``None`` keeps the one that is
    there. A release that is not counted takes the claim from the attempts, once.
    """

    verb = "release"

    token: str
    delay: float
    ttl: float | None
    error: str | None = None
    is_counted: bool = True


@dataclass(slots=True)
class Hold(Operation[bool]):
    """Hold until ``Resolve`` if the token owns the row; true if it did.

    The row is that of a claim with the policy ``hold`` whose lease has ended. ``error``
    is as in ``Release``.
    """

    verb = "hold"

    token: str
    error: str | None = None


@dataclass(slots=True)
class Resolve(Operation[bool]):
    """Mark a held key as seen, or make it claimable; true if the key was held."""

    verb = "resolve"

    is_handled: bool
    ttl: float | None


@dataclass(slots=True)
class ForEach(Operation[list[Result_co]]):
    """One operation on many keys of its namespace, in order; a list of its results.

    It stands for ``singles()``. A backend with ``SupportsForEach`` executes it whole,
    without an object for each key; for any other, the engine sends the single ones.

    Attributes:
        operation: The operation; its own key and token do not matter.
        keys: The keys.
        tokens: The token of each key, for the operations that have one.
    """

    verb = "for_each"

    operation: Operation[Result_co]
    keys: Sequence[str]
    tokens: Sequence[str] | None = None
    _digest: bytes | None = None

    @classmethod
    def of(
        cls,
        operation: Operation[Result_co],
        keys: Sequence[str],
        tokens: Sequence[str] | None = None,
    ) -> ForEach[Result_co]:
        """Make one of an operation, the keys, and their tokens."""
        return cls(operation.namespace, "", operation, keys, tokens)

    def ids(self) -> Iterable[Id]:
        return ((self.namespace, key) for key in self.keys)

    def count(self) -> tuple[str, int]:
        return self.operation.verb, len(self.keys)

    def singles(self) -> list[Operation[Result_co]]:
        """Return the operations on the single keys."""
        made: list[Any] = [copy(self.operation) for _ in self.keys]
        for single, key in zip(made, self.keys, strict=True):
            single.key = key
        for single, token in zip(made, self.tokens or (), strict=False):
            single.token = token
        return made

    def digest(self) -> bytes | None:
        """Return a digest of the namespace, the keys and their order.

        ``None`` if one cannot be a key. Keys that are not valid never have the digest
        of keys that are: these contain no NUL, so that their number tells where each
        one ends.
        """
        if self._digest is None:
            if {*map(type, self.keys)} != {str}:
                return None
            try:
                size = str(len(self.keys))
                text = "\0".join([self.namespace, size, *self.keys]).encode()
            except UnicodeEncodeError:
                return None
            digest = blake2b(digest_size=16)
            for start in range(0, len(text), _WITH_GIL):
                digest.update(text[start : start + _WITH_GIL])
            self._digest = digest.digest()
        return self._digest


class AllSeen(NamedTuple):
    """What a ``ForEach`` leaves if each of its keys is seen; in the place of a row.

    Attributes:
        expires_at: When the first of them expires; ``None`` is never.
        first_seen: That of each key, if the operation has read them.
        last_seen: That of each key; ``None`` if they equal ``first_seen``.
        attempts: That of each key; ``None`` if no key was ever claimed.
    """

    expires_at: float | None
    first_seen: array[float] | None = None
    last_seen: array[float] | None = None
    attempts: array[int] | None = None

    @classmethod
    def at(
        cls,
        expires_at: float | None,
        first_seen: Iterable[float],
        last_seen: Iterable[float],
        attempts: Iterable[int],
    ) -> AllSeen:
        """Make one of keys whose rows were read."""
        first, last = array("d", first_seen), array("d", last_seen)
        claims = array("Q", attempts)
        return cls(
            expires_at,
            first,
            None if first == last else last,
            claims if any(claims) else None,
        )

    def nbytes(self) -> int:
        """Return the size of what is known of the single keys."""
        known = (self.first_seen, self.last_seen, self.attempts)
        return sum(one.itemsize * len(one) for one in known if one is not None)

    @classmethod
    def of(cls, rows: Sequence[Row | None], now: float) -> AllSeen | None:
        """Summarize the rows of the keys; ``None`` unless all are seen."""
        seen = [row for row in rows if row and row.lease_until is None]
        if len(seen) < len(rows):
            return None
        ends = [row.expires_at for row in seen if row.expires_at is not None]
        if ends and min(ends) <= now:
            return None
        return cls.at(
            min(ends, default=None),
            (row.first_seen for row in seen),
            (row.last_seen for row in seen),
            (row.attempt for row in seen),
        )


class Listed(NamedTuple):
    """Where the source of a key lists it, and what an observation compares.

    Attributes:
        seq: The order of observation of a key that waits to be handled; ``None`` of a
            key that is seen.
        poll: Number of the poll since which the key is listed; of a key that has left,
            the number of the last poll that listed it.
        clock: The poll clock at that last poll; ``None`` while the key is listed.
        kept_until: The instant until which the key is kept at least; ``None`` without
            one.
        alias: What an item under another key has in common with this one.
        digest: Digest of the content of the item, and before it the number of changes
            for which the key became pending again.
    """

    seq: int | None = None
    poll: int = 0
    clock: float | None = None
    kept_until: float | None = None
    alias: str | None = None
    digest: str | None = None


class Row(NamedTuple):
    """The stored state of a key. Instants are seconds since 1970.

    A row with a ``lease_until`` is a claim: the owner of ``token`` has it until then;
    afterwards ``on_abandoned`` decides, and ``None`` there means that it was released.
    A row without one is a mark, with the token of the confirmed claim, if any. One
    without an attempt is pending: it was observed in a listing, and not claimed yet.

    A row that was ever ``listed`` never expires by time; its source ends it. Where a
    backend writes single columns, ``listed`` may be empty: it is only compared with
    ``None``. A cache keeps rows without their notes.
    """

    first_seen: float
    last_seen: float
    expires_at: float | None
    token: str | None = None
    attempt: int = 0
    lease_until: float | None = None
    on_abandoned: OnAbandoned | None = None
    note: str | None = None
    listed: Listed | None = None
    error: str | None = None

    @property
    def is_pending(self) -> bool:
        """Was it observed, and not claimed yet?"""
        return (
            self.lease_until is not None
            and self.on_abandoned is None
            and not self.attempt
        )
