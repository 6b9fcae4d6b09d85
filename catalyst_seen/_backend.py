"""What a store asks of a backend: the operations it sends, and the contract.

A backend speaks batches. A batch is a sequence of operations, each on one key; the
answers come back in the same order. It costs one hop to a worker thread or one round
trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from ._model import ClaimState, Record, Sighting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._model import OnAbandoned

Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Operation(Generic[Answer_co]):
    """One thing to do with one key. The subclass says what, and what is answered."""

    verb: ClassVar[str]

    namespace: str
    key: str


@dataclass(frozen=True, slots=True)
class Look(Operation[Record | None]):
    """Read: the record of a seen key, ``None`` for any other."""

    verb = "look"


@dataclass(frozen=True, slots=True)
class Mark(Operation[None]):
    """Mark as seen, whatever was there; ``ts`` is the instant of the sight, or now."""

    verb = "mark"

    ttl: float | None
    ts: float | None = None


@dataclass(frozen=True, slots=True)
class CheckAndMark(Operation[Sighting]):
    """Mark as seen unless seen already; a duplicate is left as it is."""

    verb = "check_and_mark"

    ttl: float | None


@dataclass(frozen=True, slots=True)
class Forget(Operation[bool]):
    """Make unseen; true if there was anything to forget."""

    verb = "forget"


@dataclass(frozen=True, slots=True)
class TakeClaim(Operation[ClaimState]):
    """Claim unless seen, held or under a live lease.

    Of a claim that is neither confirmed nor released, ``on_abandoned`` says what
    becomes when its lease is over; its row expires one ``ttl`` later.
    """

    verb = "claim"

    token: str
    lease: float
    ttl: float | None
    on_abandoned: OnAbandoned


@dataclass(frozen=True, slots=True)
class Confirm(Operation[bool]):
    """Mark as seen, if this token's; true if it is seen by this token now."""

    verb = "confirm"

    token: str
    ttl: float | None


@dataclass(frozen=True, slots=True)
class Renew(Operation[float | None]):
    """Begin the lease anew, if this token's; until when, or ``None`` if it is not."""

    verb = "renew"

    token: str
    lease: float
    ttl: float | None
    on_abandoned: OnAbandoned


@dataclass(frozen=True, slots=True)
class Release(Operation[bool]):
    """Let others claim it after ``delay``, if this token's; true if it was."""

    verb = "release"

    token: str
    delay: float
    ttl: float | None


@dataclass(frozen=True, slots=True)
class Resolve(Operation[bool]):
    """Mark a held key as seen, or let others claim it; true if it was held."""

    verb = "resolve"

    is_handled: bool
    ttl: float | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one bounded step of a long removal did.

    Attributes:
        removed: Rows it removed.
        resume: Give this to the next step; ``None`` when the removal is complete.
    """

    removed: int
    resume: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class BackendStats:
    """The part of ``StoreStats`` that only the backend knows."""

    keys_by_namespace: Mapping[str, int]
    claimed: int
    abandoned: Mapping[OnAbandoned, int]
    file_bytes: int
    wal_bytes: int
    free_pages: int
    sqlite_version: str


class Backend(Protocol):
    """Keeps keys. A store owns one and never calls it twice at the same time.

    Durations come in, instants do not: a backend owns its clock, and on one backend
    there is one clock. The only instant a caller may give is ``Mark.ts``, which is
    data.

    Each operation follows the state table of ``_state``: a key is seen while ``now <
    expires_at``, and an expired key is unseen whether its row is still there or not; a
    claim is its owner's while ``now < lease_until``, and after that until somebody else
    takes it. The token in the row is the fence: no other one changes it. Each key is
    atomic; a whole batch is all or nothing where the database has transactions.

    Every failure of the database is raised as ``StoreUnavailableError``; one that
    leaves it open whether the batch was stored, as ``OutcomeUnknownError``. Bugs and
    cancellation pass through untouched. A cancelled call may or may not take effect,
    and disturbs nothing else.
    """

    @property
    def location(self) -> str:
        """Where the keys are, for people; never with a password."""
        ...

    def now(self) -> float:
        """Tell the backend's time without asking it, in seconds since 1970."""
        ...

    async def open(self) -> None:
        """Connect, and create or upgrade the schema. Leaves nothing behind if it fails.

        Raises:
            SchemaError: A newer schema, or another program's data; it is untouched.
            StoreUnavailableError: Cannot connect.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was sent, then disconnect. Closing twice is closing once."""
        ...

    def abandon(self) -> None:
        """Disconnect without waiting, from any thread, with or without a loop."""
        ...

    async def apply(self, operations: Sequence[Operation[object]]) -> list[object]:
        """Carry out a batch and return an answer per operation, in order.

        A later operation of the batch sees what an earlier one did to the same key.
        """
        ...

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        resume: tuple[str, str] | None,
        patience: float | None,
    ) -> Chunk:
        """Remove up to ``limit`` expired rows of one namespace, or of all.

        ``patience`` is how long to wait for other writers; ``None`` is as long as any
        call does.
        """
        ...

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        resume: tuple[str, str] | None,
    ) -> Chunk:
        """Of the next ``limit`` rows, remove those last marked ``age`` seconds ago.

        Neither a live lease nor a held key is touched.
        """
        ...

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        """Count the seen keys of each namespace that has any."""
        ...

    async def held(self, namespace: str | None) -> list[Record]:
        """List the held keys, in the order of namespace and key."""
        ...

    async def stats(self, namespace: str | None) -> BackendStats:
        """Measure the database."""
        ...
