"""The values that callers get back."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(enum.StrEnum):
    """What a store says of a key. ``NEW`` and ``RETRY`` are true, the others false.

    There is no verdict for a store that failed: that is an exception.
    """

    NEW = "new"
    """Never seen, or its mark has expired."""
    RETRY = "retry"
    """Claimed before, but that claim was released or its lease is over."""
    IN_FLIGHT = "in_flight"
    """Another owner is handling it under a live lease."""
    DUPLICATE = "duplicate"
    """Seen."""

    def __bool__(self) -> bool:
        return self is Verdict.NEW or self is Verdict.RETRY


@dataclass(frozen=True, slots=True)
class Sighting:
    """The answer to check-and-mark; true when the caller should handle the item.

    Attributes:
        key: The key that was asked for.
        namespace: Its namespace.
        verdict: What the store says; the sighting is as true as its verdict.
        first_seen: When the key was first marked, in seconds since 1970.
        last_seen: When it was last marked: now, if this call marked it.
        attempt: How often the key was claimed before.
        retry_after: Seconds until the other owner's lease ends; only for ``IN_FLIGHT``.
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
class Record:
    """What the store holds of a seen key. Instants are seconds since 1970.

    Attributes:
        key: The key.
        namespace: Its namespace.
        first_seen: When it was first marked; no later mark moves it.
        last_seen: When it was last marked.
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
        keys: Live keys; expired ones do not count, purged or not.
        keys_by_namespace: The same for each namespace that has any.
        file_bytes: Size of the database file; 0 in memory.
        wal_bytes: Size of its write-ahead log; 0 in memory.
        free_pages: Pages of the file that are free to be used again.
        purge_runs: Purges that ended well, in the background and by call.
        purge_rows: Expired rows they removed.
        purge_failures: Purges that failed; the next round tries again.
        last_purge: When the last one ended well, in seconds since 1970.
        operations: Operations sent to the backend; a batch counts its keys. By kind:
            ``look`` (``is_seen``, ``get``, ``filter_new``), ``mark``,
            ``check_and_mark``, ``forget``.
        sqlite_version: Version of the SQLite library in use.
    """

    keys: int
    keys_by_namespace: Mapping[str, int]
    file_bytes: int
    wal_bytes: int
    free_pages: int
    purge_runs: int
    purge_rows: int
    purge_failures: int
    last_purge: float | None
    operations: Mapping[str, int]
    sqlite_version: str
