"""What a store asks of a backend: the operations it sends, and the contract.

A backend speaks batches. A batch is a sequence of operations, each on one key; the
answers come back in the same order. It costs one hop to a worker thread or one round
trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    ClassVar,
    Generic,
    NamedTuple,
    Protocol,
    TypeVar,
    runtime_checkable,
)

from ._model import ClaimState, Record, Sighting

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from ._config import SeenStoreConfig
    from ._model import CheckReport, OnAbandoned

Answer_co = TypeVar("Answer_co", covariant=True)
Id = tuple[str, str]
"""Namespace and key."""

Place = tuple[str, str]
"""Where a long walk over all rows goes on, in words that only its backend knows."""


@dataclass(slots=True)
class Operation(Generic[Answer_co]):
    """One thing to do with one key. The subclass says what, and what is answered.

    Nobody changes one; to have that checked would cost more than all the rest of it.
    """

    verb: ClassVar[str]

    namespace: str
    key: str


class Question(Operation[Answer_co]):
    """An operation that leaves a seen key as it is."""

    __slots__ = ()


@dataclass(slots=True)
class Look(Question[Record | None]):
    """Read: the record of a seen key, ``None`` for any other."""

    verb = "look"


@dataclass(slots=True)
class Mark(Operation[None]):
    """Mark as seen, whatever was there; ``ts`` is the instant of the sight, or now."""

    verb = "mark"

    ttl: float | None
    ts: float | None = None


@dataclass(slots=True)
class CheckAndMark(Question[Sighting]):
    """Mark as seen unless seen already; a duplicate is left as it is."""

    verb = "check_and_mark"

    ttl: float | None


@dataclass(slots=True)
class Forget(Operation[bool]):
    """Make unseen; true if there was anything to forget."""

    verb = "forget"


@dataclass(slots=True)
class TakeClaim(Question[ClaimState]):
    """Claim unless seen, held or under a live lease.

    Of a claim that is neither confirmed nor released, ``on_abandoned`` says what
    becomes when its lease is over; its row expires one ``ttl`` later.
    """

    verb = "claim"

    token: str
    lease: float
    ttl: float | None
    on_abandoned: OnAbandoned


@dataclass(slots=True)
class Confirm(Operation[bool]):
    """Mark as seen, if this token's; true if it is seen by this token now."""

    verb = "confirm"

    token: str
    ttl: float | None


@dataclass(slots=True)
class Renew(Operation[float | None]):
    """Begin the lease anew, if this token's; until when, or ``None`` if it is not."""

    verb = "renew"

    token: str
    lease: float
    ttl: float | None
    on_abandoned: OnAbandoned


@dataclass(slots=True)
class Release(Operation[bool]):
    """Let others claim it after ``delay``, if this token's; true if it was."""

    verb = "release"

    token: str
    delay: float
    ttl: float | None


@dataclass(slots=True)
class Resolve(Operation[bool]):
    """Mark a held key as seen, or let others claim it; true if it was held."""

    verb = "resolve"

    is_handled: bool
    ttl: float | None


class Row(NamedTuple):
    """What is stored of a key. Instants are seconds since 1970.

    A row with a ``lease_until`` is a claim: of the owner of ``token`` until then, and
    after that as ``on_abandoned`` says, or claimable if it was released and has none. A
    row without is a mark, with the token of the claim that was confirmed, if one was.
    """

    first_seen: float
    last_seen: float
    expires_at: float | None
    token: str | None = None
    attempt: int = 0
    lease_until: float | None = None
    on_abandoned: OnAbandoned | None = None


class Applied(NamedTuple):
    """What became of a batch.

    Attributes:
        answers: One for each operation, in order; a ``SeenError`` in place of one that
            failed without the others, as where a batch goes to many servers.
        rows: What each operation left of its key; ``None`` is nothing.
        version: As long as this is the same, no other program has changed anything;
            ``None`` if nobody looked. Where nobody can tell it is another each time.
    """

    answers: list[object]
    rows: list[Row | None]
    version: object


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one bounded step of a long removal did.

    Attributes:
        removed: Rows it removed.
        resume: Give this to the next step; ``None`` when the removal is complete.
    """

    removed: int
    resume: Place | None


@dataclass(frozen=True, slots=True)
class BackendStats:
    """The part of ``StoreStats`` that only the backend knows."""

    keys_by_namespace: Mapping[str, int]
    claimed: int
    abandoned: Mapping[OnAbandoned, int]
    file_bytes: int
    engine: str
    wal_bytes: int = 0
    free_pages: int = 0
    checkpoint_failures: int = 0
    wal_pinned: float = 0.0
    alarms: tuple[str, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """Keeps keys. A store owns one and has one call under way at a time.

    Beside it, what only reads may be under way: ``look``, and what takes long, as
    ``count``, ``held``, ``stats``, ``check`` and ``backup``.

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
    def upkeep(self) -> asyncio.Event | None:
        """Set when ``look_after`` should be called at once.

        ``None`` where there is nothing to look after.
        """
        ...

    @property
    def config(self) -> SeenStoreConfig:
        """The settings that it was made with."""
        ...

    @property
    def location(self) -> str:
        """Where the keys are, for people; never with a password."""
        ...

    @property
    def database(self) -> str:
        """What is at the location: the same by whatever path or name it is reached."""
        ...

    def now(self) -> float:
        """Tell the backend's time without asking it, in seconds since 1970."""
        ...

    async def open(self) -> None:
        """Connect, and create or upgrade the schema. Leaves nothing behind if it fails.

        Raises:
            ConfigurationError: Its driver is missing, or the database cannot keep what
                the store promises, as it is set up.
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

    async def apply(
        self, operations: Sequence[Operation[object]], *, look: bool
    ) -> Applied:
        """Carry out a batch, in order; and ``look`` whether others changed anything.

        A later operation of the batch sees what an earlier one did to the same key.
        """
        ...

    async def look_after(self) -> None:
        """Do what is due between calls; called every second, if there is upkeep."""
        ...

    async def look(self, looks: Sequence[Look]) -> list[Record | None] | None:
        """Look for keys while another call is stuck, beside it.

        ``None`` where this would be stuck as well.
        """
        ...

    async def confirm_within(self, transaction: object, confirm: Confirm) -> bool:
        """Confirm in a transaction of the caller's, with whose other work it commits.

        Raises:
            ConfigurationError: There are no transactions that others could share.
        """
        ...

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        resume: Place | None,
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
        resume: Place | None,
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

    async def check(self, *, is_full: bool) -> CheckReport:
        """Look for damage and for what is set up badly; beside other calls."""
        ...

    async def backup(self, path: str) -> None:
        """Copy the whole database as it is at one moment; beside other calls.

        Raises:
            ConfigurationError: Something is at ``path``, or it is not a file's to copy.
        """
        ...
