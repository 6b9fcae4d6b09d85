"""The values that a store returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, get_args

from ._verdict import Verdict  # noqa: TC001 - type hints are resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

T_co = TypeVar("T_co", covariant=True)

OnAbandoned = Literal["retry", "hold", "drop"]
"""The policy for a key whose lease ended without a confirm or a release."""

ON_ABANDONED: tuple[OnAbandoned, ...] = get_args(OnAbandoned)


RecordState = Literal["seen", "claimed", "released", "pending", "held"]
"""The state of a key that is not unseen; see ``Record``."""

RECORD_STATES: tuple[RecordState, ...] = get_args(RecordState)

CallKind = Literal["read", "write"]
"""Does a call only read, or may it change a key?"""

CALL_KINDS: tuple[CallKind, ...] = get_args(CallKind)


@dataclass(frozen=True, slots=True, init=False)
class Sighting:
    """The result of check-and-mark; true when the caller should handle the item.

    Attributes:
        key: The key of the call.
        namespace: Its namespace.
        verdict: The state of the key before the call; a sighting is true if its verdict
            is.
        first_seen: When the key was first marked or claimed, in seconds since 1970.
        last_seen: When the key was last marked or claimed, in seconds since 1970: now,
            if this call marked it.
        attempt: Number of claims on the key before the call.
        retry_after: Seconds until the key may be claimed; only for ``IN_FLIGHT``.
    """

    key: str
    namespace: str
    verdict: Verdict
    first_seen: float
    last_seen: float
    attempt: int
    retry_after: float | None

    def __init__(  # noqa: PLR0917 - one for each attribute
        self,
        key: str,
        namespace: str,
        verdict: Verdict,
        first_seen: float,
        last_seen: float,
        attempt: int = 0,
        retry_after: float | None = None,
    ) -> None:
        """Set the attributes; that of a frozen dataclass takes three times as long."""
        _SET_KEY(self, key)
        _SET_NAMESPACE(self, namespace)
        _SET_VERDICT(self, verdict)
        _SET_FIRST_SEEN(self, first_seen)
        _SET_LAST_SEEN(self, last_seen)
        _SET_ATTEMPT(self, attempt)
        _SET_RETRY_AFTER(self, retry_after)

    def __bool__(self) -> bool:
        return bool(self.verdict)


(
    _SET_KEY,
    _SET_NAMESPACE,
    _SET_VERDICT,
    _SET_FIRST_SEEN,
    _SET_LAST_SEEN,
    _SET_ATTEMPT,
    _SET_RETRY_AFTER,
) = (getattr(Sighting, field.name).__set__ for field in fields(Sighting))


@dataclass(frozen=True, slots=True)
class Once(Generic[T_co]):
    """The result of ``once``; true if the function was called, and the key confirmed.

    Attributes:
        verdict: The state of the key before the call; it is true if the function was
            called.
        result: What the function returned; ``None`` if it was not called.
        attempt: Number of claims on the key so far, including this one if the function
            was called.
        retry_after: Seconds until the key may be claimed; only for ``IN_FLIGHT``.
    """

    verdict: Verdict
    result: T_co | None
    attempt: int = field(default=0, compare=False)
    retry_after: float | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return bool(self.verdict)


@dataclass(frozen=True, slots=True)
class ClaimState:
    """The result of an ``Acquire``.

    Attributes:
        verdict: The state of the key before; if true, the caller owns the claim.
        attempt: Number of claims on the key, including this one if it is owned.
        lease_until: When the live lease on the key ends, this one or that of another
            owner, in seconds since 1970; ``None`` without a live lease.
        retry_after: Seconds until the key may be claimed; only for ``IN_FLIGHT``.
        note: The note of the key, if the caller owns the claim.
    """

    verdict: Verdict
    attempt: int
    lease_until: float | None = None
    retry_after: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a key that is not unseen. Instants are seconds since 1970.

    Attributes:
        key: The key.
        namespace: Its namespace.
        state: ``"seen"``; ``"claimed"`` under a live lease; ``"released"``, which the
            next caller may claim: by its owner, by ``resolve``, or because the lease
            ended without a confirm; ``"held"``, until ``resolve`` decides; or
            ``"pending"``, observed in a listing and not claimed yet.
        first_seen: When the key was first marked or claimed; no later mark moves it.
        last_seen: When the key was last marked or claimed.
        expires_at: The instant from which on the key is unseen; ``None`` is never.
        until: When the lease of a claimed key ends; from when on a released key may be
            claimed; otherwise ``None``.
        attempt: Number of claims on the key.
        note: The text that was stored with the key; ``None`` without one.
        error: Why the last claim was released or the key is held, if that was said, and
            the key is not seen since; ``None`` otherwise.
    """

    key: str
    namespace: str
    state: RecordState
    first_seen: float
    last_seen: float
    expires_at: float | None
    until: float | None = None
    attempt: int = 0
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CallFailures:
    """The failed calls of one kind since the store was opened.

    A refused argument and a closed store are no failures; a change whose outcome is
    unknown is one.

    Attributes:
        count: Number of failed calls.
        since: When the first call failed of those that no success has followed, in
            seconds since 1970 by the clock of this machine; after a success, that
            instant of the failures before it. ``None`` without a failure.
        error: The text of the last failure; ``None`` without one.
    """

    count: int = 0
    since: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Statistics of a store. The counters start at 0 when the store opens.

    Attributes:
        keys: Number of seen keys; expired ones do not count, purged or not.
        keys_by_namespace: The same for each namespace that has any.
        claimed: Number of keys under a live lease, or released with a delay that is not
            over.
        released: Number of keys that were released, with an error or without, and that
            nobody has claimed since, though their delay is over.
        abandoned: Number of keys whose lease ended without a confirm or a release, by
            the policy of the claim: ``retry`` (the next claim acquires them), ``hold``
            (``resolve`` decides), ``drop`` (they are seen, and count in ``keys`` too).
        file_bytes: Size of SQLite's database file, or of PostgreSQL's table and its
            indexes; 0 in memory.
        wal_bytes: Size of SQLite's write-ahead log; 0 in memory and on servers.
        free_pages: Unused pages of SQLite's file, which SQLite reuses.
        checkpoint_failures: Number of failed checkpoints of SQLite's write-ahead log.
        wal_pinned: Seconds for which a reader has kept that log from being reset; 0 if
            none does.
        purge_runs: Number of complete purges, in the background and by call.
        purge_rows: Number of expired rows that purges removed.
        purge_failures: Number of failed purges; the next background purge tries again.
        last_purge: When the last complete purge ended, in seconds since 1970; ``None``
            before the first.
        operations: Number of operations sent to the backend, where a batch counts its
            keys. By verb:
            ``is_seen`` (also of ``filter_new``), ``get``, ``mark``,
            ``check_and_mark``, ``forget``, ``claim``, ``confirm``, ``release``,
            ``hold``, ``renew``, ``resolve``; and ``observe``, which counts the items of
            listings.
        batches: Number of transactions that executed the operations; fewer means that
            more callers shared one.
        recent_keys: Number of seen keys in the cache in memory.
        recent_hits: Number of operations that the cache answered.
        engine: The database software with its version: ``"SQLite 3.40.1"``.
        failures: The failed calls by kind: ``read`` (``is_seen``, ``get``,
            ``filter_new``, ``count``, ``held``) and ``write`` (every other verb, each
            transaction of a purge or a cleanup). ``stats``, ``check`` and ``backup``
            are neither: they raise, and say nothing about the other calls. Nor is a
            call on a key that a transaction of the program's had locked.
        alarms: The conditions that need an operator now, a sentence each: failing calls
            from the first failure to the next success of their kind, failing purges,
            and what is wrong with the database. ``check().problems`` has the same ones,
            and the damage that only a check finds.
    """

    keys: int
    keys_by_namespace: Mapping[str, int]
    claimed: int
    released: int
    abandoned: Mapping[OnAbandoned, int]
    file_bytes: int
    wal_bytes: int
    free_pages: int
    checkpoint_failures: int
    wal_pinned: float
    purge_runs: int
    purge_rows: int
    purge_failures: int
    last_purge: float | None
    operations: Mapping[str, int]
    batches: int
    recent_keys: int
    recent_hits: int
    engine: str
    failures: Mapping[CallKind, CallFailures]
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The report of a health check; true if there is no problem.

    ``str(report)`` has one line per finding.

    Attributes:
        location: The address of the database.
        engine: The database software with its version.
        is_full: Whether every row was compared with every index, and not only the
            structure checked.
        schema: Version of the schema; ``None`` on a database without one.
        settings: The settings in force, by the database's own names.
        integrity: The damage found, in the words of the database.
        problems: All findings that need an operator, a sentence each: the damage, and
            the ``alarms`` of ``StoreStats``.
        file_bytes: As in ``StoreStats``.
        wal_bytes: As in ``StoreStats``.
        free_pages: As in ``StoreStats``.
        checkpoint_failures: As in ``StoreStats``.
        clock_behind: Seconds by which the clock of the store is behind the newest mark,
            or, if it is a server's clock, behind the clock of this machine; else 0.
        is_shared: Whether another process, or another store, has SQLite's file open.
    """

    location: str
    engine: str
    is_full: bool
    schema: int | None
    settings: Mapping[str, str | int]
    integrity: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    file_bytes: int = 0
    wal_bytes: int = 0
    free_pages: int = 0
    checkpoint_failures: int = 0
    clock_behind: float = 0.0
    is_shared: bool = False

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        how = "full" if self.is_full else "quick"
        lines = [f"{self.location} ({self.engine}), {how} check"]
        lines += [f"PROBLEM: {problem}" for problem in self.problems] or ["all is well"]
        lines += [f"{name} = {value}" for name, value in self.settings.items()]
        return "\n".join(lines)
