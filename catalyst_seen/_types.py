"""The values that callers get back."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

OnAbandoned = Literal["retry", "hold", "drop"]
"""What becomes of a key whose claim was neither confirmed nor released."""

ON_ABANDONED: tuple[OnAbandoned, ...] = get_args(OnAbandoned)


class Verdict(enum.StrEnum):
    """What a store says of a key. ``NEW`` and ``RETRY`` are true, the others false.

    Only ``DUPLICATE`` means that the item is handled. There is no verdict for a store
    that failed: that is an exception.

    Attributes:
        NEW: Never seen, or its mark has expired.
        RETRY: Claimed before, but that claim was released or its lease is over.
        IN_FLIGHT: Not now: another owner has it under a live lease, or gave it back
            for later.
        DUPLICATE: Seen.
        HELD: Claimed with ``on_abandoned="hold"`` by an owner that never came back:
            whether it was handled, a person must say.
    """

    NEW = "new"
    RETRY = "retry"
    IN_FLIGHT = "in_flight"
    DUPLICATE = "duplicate"
    HELD = "held"

    def __bool__(self) -> bool:
        return self is Verdict.NEW or self is Verdict.RETRY


@dataclass(frozen=True, slots=True)
class Sighting:
    """The answer to check-and-mark; true when the caller should handle the item.

    Attributes:
        key: The key that was asked for.
        namespace: Its namespace.
        verdict: What the store says; the sighting is as true as its verdict.
        first_seen: When the key was first marked or claimed, in seconds since 1970.
        last_seen: When it last was: now, if this call marked it.
        attempt: How often the key was claimed before.
        retry_after: Seconds until it may be claimed; only for ``IN_FLIGHT``.
    """

    key: str
    namespace: str
    verdict: Verdict
    first_seen: float
    last_seen: float
    attempt: int = 0
    retry_after: float | None = None

    def __bool__(self) -> bool:
        return bool(self.verdict)


@dataclass(frozen=True, slots=True)
class ClaimState:
    """What a backend says to a claim.

    Attributes:
        verdict: Whether the caller owns it, or why not.
        attempt: How often the key has been claimed, with this claim if it is owned.
        lease_until: When the lease of the owner ends, whoever that is, in seconds since
            1970; ``None`` where there is none.
        retry_after: Seconds until it may be claimed; only for ``IN_FLIGHT``.
    """

    verdict: Verdict
    attempt: int
    lease_until: float | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What the store knows of a seen or held key. Instants are seconds since 1970.

    Attributes:
        key: The key.
        namespace: Its namespace.
        first_seen: When it was first marked or claimed; no later mark moves it.
        last_seen: When it was last marked; of a held key, when it was last claimed.
        expires_at: From when on it is unseen again; ``None`` is never.
    """

    key: str
    namespace: str
    first_seen: float
    last_seen: float
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How a store is doing. The counters start when it opens.

    Attributes:
        keys: Seen keys; expired ones do not count, purged or not.
        keys_by_namespace: The same for each namespace that has any.
        claimed: Keys under a live lease, or given back for later.
        abandoned: Keys whose lease ended without confirm or release, by what their
            claim wanted done then: ``retry`` (the next claim gets them), ``hold``
            (``resolve`` them), ``drop`` (they are seen, and in ``keys`` as well).
        file_bytes: Size of SQLite's database file, or of PostgreSQL's table and its
            indexes; 0 in memory.
        wal_bytes: Size of SQLite's write-ahead log; 0 in memory and elsewhere.
        free_pages: Pages of SQLite's file that are free to be used again.
        checkpoint_failures: How often SQLite's write-ahead log could not be written to
            the file proper.
        wal_pinned: Seconds for which a reader has kept that log from being emptied; 0
            if none does.
        purge_runs: Purges that ended well, in the background and by call.
        purge_rows: Expired rows they removed.
        purge_failures: Purges that failed; the next round tries again.
        last_purge: When the last one ended well, in seconds since 1970.
        operations: Operations sent to the backend; a batch counts its keys. By kind:
            ``get`` (``is_seen``, ``get``, ``filter_new``), ``mark``,
            ``check_and_mark``, ``forget``, ``claim``, ``confirm``, ``release``,
            ``renew``, ``resolve``.
        batches: Transactions that carried them; the fewer, the more callers shared one.
        recent_keys: Keys that are remembered in memory as seen.
        recent_hits: Questions that were answered from there.
        engine: What keeps the keys, with its version: ``"SQLite 3.40.1"``.
        alarms: What somebody should look at now, a sentence each.
    """

    keys: int
    keys_by_namespace: Mapping[str, int]
    claimed: int
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
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Whether a store's database is well; true if there is no problem.

    As text it is a line for each thing that was found.

    Attributes:
        location: Where the keys are.
        engine: What keeps them, with its version.
        is_full: Was every row compared with every index, or only the structure read?
        schema: Version of the schema; ``None`` where there is none.
        settings: What is in force at the database, by its own names.
        integrity: What is damaged, in the words of the database.
        problems: Everything that somebody should do something about, a sentence each.
        file_bytes: As in ``StoreStats``.
        wal_bytes: As in ``StoreStats``.
        free_pages: As in ``StoreStats``.
        checkpoint_failures: As in ``StoreStats``.
        clock_behind: Seconds by which the clock that counts is behind the newest mark,
            or, where it is a server's, behind this machine's; 0 if it is not.
        is_shared: Does another process, or another store, have SQLite's file open?
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
