"""The snapshot of what a store has counted, as ``metrics`` returns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._listings import Source
    from ._types import OnAbandoned

OTHER = "other"
"""Stands for all namespaces after the first ``MAX_NAMESPACES``."""

MAX_NAMESPACES = 500
"""Namespaces that are counted by themselves: each one is a series of its own in a
monitoring system, and those cost."""


class OperationCount(NamedTuple):
    """Which operations were counted together.

    Attributes:
        verb: As in ``StoreStats.operations``, or ``observe``, which counts items.
        outcome: What became of the key: a verdict of ``check_and_mark`` and ``claim``;
            ``"seen"`` or ``"unseen"`` of ``is_seen`` and ``get``; ``"done"``, or
            ``"refused"`` if it did not apply to the key, of the other verbs; of
            ``observe`` ``"new"``, ``"duplicate"``, ``"changed"``, ``"replaced"`` or
            ``"baseline"``.
        namespace: The namespace of the key; after the first 500, ``"other"``.
    """

    verb: str
    outcome: str
    namespace: str


class ErrorCount(NamedTuple):
    """Which failed calls were counted together.

    Attributes:
        verb: As in ``OperationCount``, or the name of a verb on whole namespaces; that
            of a call with several verbs is its first one.
        error: ``"unavailable"`` (nothing was done), ``"unknown"`` (nobody knows),
            ``"locked"`` (a transaction of the program's had the key until the end of
            ``timeout``; nothing was done), ``"schema"``, ``"configuration"``, or
            ``"other"``.
    """

    verb: str
    error: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a value was in which range, since the store was opened.

    Attributes:
        bounds: The upper bounds of the ranges, ascending; a bound belongs to its range.
        counts: Number of values in each range, and in the last place of those above the
            last bound.
        sum: Sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Number of all values."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What only the database knows, as it was read the last time.

    Durations are in seconds. Another process that uses the database reads the same.

    Attributes:
        age: How long ago it was read.
        duration: How long reading took.
        keys: Number of seen keys of each namespace; after the first 500 of the sorted
            ones, of ``"other"``.
        claimed: As in ``StoreStats``.
        released: As in ``StoreStats``.
        abandoned: As in ``StoreStats``.
        oldest_claim: Age of the oldest claim under a live lease; ``None`` without one.
        oldest_released: For how long the oldest of the ``released`` keys could have
            been claimed; ``None`` without one.
        oldest_pending: For how long the oldest pending key has waited; ``None`` without
            one.
        sources: The sources of all namespaces, as ``sources`` returns them.
        file_bytes: As in ``StoreStats``.
        free_pages: As in ``StoreStats``.
        engine: As in ``StoreStats``.
    """

    age: float
    duration: float
    keys: Mapping[str, int]
    claimed: int
    released: int
    abandoned: Mapping[OnAbandoned, int]
    oldest_claim: float | None
    oldest_released: float | None
    oldest_pending: float | None
    sources: tuple[Source, ...]
    file_bytes: int
    free_pages: int
    engine: str


@dataclass(frozen=True, slots=True)
class StoreMetrics:
    """What a store has counted since it was opened, in this process.

    The counters only grow. Two stores on one database count each their own calls.

    Attributes:
        location: The address of the database, without a password.
        backend: ``"sqlite"``, ``"redis"``, ``"postgres"``, ``"memory"``; of a backend
            of your own, the name of its class.
        operations: Number of operations that had a result, those that the cache
            answered included.
        errors: Number of calls that failed.
        cache_hits: Number of operations that the cache answered.
        cache_keys: Number of keys in the cache.
        batch_keys: Operations in a batch, where one on many keys counts its keys.
        batch_seconds: How long the database took for a batch, failed ones included.
        wait_seconds: How long the first call of a batch waited until it was sent.
        retries: Number of requests to a server that were sent again.
        failing: Why the last attempt of a request to a server failed, which may be sent
            again now; ``None`` if it was answered.
        leases_lost: Number of claims whose owner learned that another one may have the
            key.
        purge_runs: As in ``StoreStats``.
        purge_rows: As in ``StoreStats``.
        purge_failures: As in ``StoreStats``.
        last_purge: As in ``StoreStats``.
        checkpoints: Number of checkpoints of SQLite's write-ahead log that succeeded.
        checkpoint_failures: As in ``StoreStats``.
        wal_bytes: Size of SQLite's write-ahead log after the last write of this store.
        alarms: The conditions that need an operator, a sentence each, as in
            ``StoreStats``: failing calls and purges as they are now, what is wrong with
            the database as it was when the sizes were read.
        sizes: What only the database knows; ``None`` before it was read for the first
            time. It is read in the background after ``metrics`` was called, at most
            once in ``sample_interval``.
    """

    location: str
    backend: str
    operations: Mapping[OperationCount, int]
    errors: Mapping[ErrorCount, int]
    cache_hits: int
    cache_keys: int
    batch_keys: Histogram
    batch_seconds: Histogram
    wait_seconds: Histogram
    retries: int
    failing: str | None
    leases_lost: int
    purge_runs: int
    purge_rows: int
    purge_failures: int
    last_purge: float | None
    checkpoints: int
    checkpoint_failures: int
    wal_bytes: int
    alarms: tuple[str, ...]
    sizes: Sizes | None = field(default=None)
