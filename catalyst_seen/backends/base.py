"""The contract of a backend: a small core, and capabilities that a database may have.

A backend executes batches. A batch is a sequence of operations, each on one key; the
results come back in the same order. A batch costs one hop to a worker thread or one
round trip to a server.

``Backend`` is enough for every verb on keys. What else a database can do is a protocol
of its own, and a store checks with ``isinstance`` whether its backend implements it:

=========================  ========================================================
``SupportsInspection``     count, list and check whole namespaces
``SupportsNamespaces``     clean up, clear and rename whole namespaces
``SupportsPurge``          expired rows stay until they are purged
``SupportsMaintenance``    the database needs work between calls
``SupportsReadAside``      reads while a batch is blocked
``SupportsForEach``        executes one operation on many keys as a whole
``SupportsTransactions``   confirm inside the caller's own transaction
``SupportsBackup``         copy the database to a file
``SupportsListings``       record the listings of sources
``SupportsTransfer``       read and write rows as stored, for a move elsewhere
``SupportsCounters``       counts what the engine does not see
``SupportsProbe``          commits a write that changes nothing
``SupportsRehearsal``      tests whether an open could create the database
=========================  ========================================================
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from .._errors import StoreUnavailableError
from .._types import ON_ABANDONED

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence

    from .._config import SeenStoreConfig
    from .._types import CheckReport, OnAbandoned, Record, RecordState
    from .listings import (
        Fail,
        Observe,
        Observed,
        SourceRecord,
        SourceState,
        WaitingPage,
    )
    from .operations import AllSeen, Confirm, Id, Operation, Row

Cursor = tuple[str, str]
"""Opaque cursor of a paged scan, meaningful only to the backend that issued it."""


class BatchResult(NamedTuple):
    """The outcome of a batch.

    Attributes:
        results: One result per operation, in order; a ``SeenError`` in place of the
            result of an operation that failed alone, as where a batch is distributed
            over several servers.
        rows: The row that each operation left; ``None`` is no row. For a ``ForEach``,
            ``AllSeen`` if that is known.
        version: Change counter of the database, such as SQLite's ``data_version``:
            equal as long as no other program has written. ``None``: not sampled.
            Backends without a counter return a new object each time, which
            invalidates the cache.
    """

    results: list[object]
    rows: list[Row | AllSeen | None]
    version: object


class KeysLockedError(StoreUnavailableError):
    """Other transactions have locked rows of a batch, and nothing of it was done.

    The engine sends the calls on other keys again at once, and those on these keys
    again and again until their time is over. So a long transaction of a caller's, in
    which a claim was confirmed, blocks no other key.

    Attributes:
        ids: The keys whose rows are locked, as far as the backend can tell.
    """

    def __init__(
        self, location: str, cause: str, advice: str, ids: frozenset[Id]
    ) -> None:
        super().__init__(location, cause, advice)
        self.args: tuple[Any, ...] = location, cause, advice, ids
        self.ids = ids


@dataclass(frozen=True, slots=True)
class PageResult:
    """The outcome of one bounded page of a long removal.

    Attributes:
        removed: Number of rows that the page removed.
        cursor: Argument of the next page; ``None`` when the removal is complete.
    """

    removed: int
    cursor: Cursor | None


class Selection(NamedTuple):
    """Which records a scan returns.

    Attributes:
        namespace: That of the keys; ``None`` is any.
        state: That of the keys; ``None`` is any.
        prefix: How the keys begin.
        since: The keys were marked or claimed at this instant or later; ``None`` is
            any time.
    """

    namespace: str | None = None
    state: RecordState | None = None
    prefix: str = ""
    since: float | None = None

    def has(self, record: Record) -> bool:
        """Is the record one of these?"""
        return (
            self.namespace in {None, record.namespace}
            and self.state in {None, record.state}
            and record.key.startswith(self.prefix)
            and (self.since is None or record.last_seen >= self.since)
        )


class RecordPage(NamedTuple):
    """A page of a scan.

    Attributes:
        records: The records of the page, in no promised order; possibly none.
        cursor: Argument of the next page; ``None`` when the scan is complete.
    """

    records: list[Record]
    cursor: Cursor | None


class StoredRow(NamedTuple):
    """A row, and the key that it is of.

    Attributes:
        namespace: That of the key.
        key: The key.
        row: The whole row, with its note, its last error and what is listed.
    """

    namespace: str
    key: str
    row: Row


class StoredPage(NamedTuple):
    """A page of all rows.

    Attributes:
        rows: The rows of the page, in no promised order; possibly none.
        cursor: Argument of the next page; ``None`` when all rows were read.
    """

    rows: list[StoredRow]
    cursor: Cursor | None


class ClaimCounts(NamedTuple):
    """The claims of a namespace, or of all.

    Attributes:
        claimed: Number of keys under a live lease, or released with a delay that is not
            over.
        released: Number of keys that were released, whose delay is over.
        abandoned: Number of keys whose lease is over, by the policy of the claim.
        oldest: As ``BackendStats.oldest_claim``.
        oldest_released: As in ``BackendStats``.
    """

    claimed: int
    released: int
    abandoned: Mapping[OnAbandoned, int]
    oldest: float | None
    oldest_released: float | None

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any]]) -> ClaimCounts:
        """Add up rows: a state or a policy, the number, the oldest of that.

        A state is ``"claimed"`` or ``"released"``; others are left out.
        """
        counts: Counter[str | None] = Counter()
        oldest: dict[str | None, float] = {}
        for state, count, first in rows:
            counts[state] += count
            if first is not None:
                oldest[state] = min(first, oldest.get(state, first))
        return cls(
            counts["claimed"],
            counts["released"],
            {policy: counts[policy] for policy in ON_ABANDONED},
            oldest.get("claimed"),
            oldest.get("released"),
        )


@dataclass(frozen=True, slots=True)
class BackendStats:
    """The part of ``StoreStats`` that the backend measures.

    Attributes:
        oldest_claim: When the first of the claims under a live lease was made, in
            seconds since 1970; ``None`` without one.
        oldest_released: When the first delay of the ``released`` keys was over, in
            seconds since 1970; ``None`` without one.
    """

    keys_by_namespace: Mapping[str, int]
    claimed: int
    released: int
    abandoned: Mapping[OnAbandoned, int]
    file_bytes: int
    engine: str
    wal_bytes: int = 0
    free_pages: int = 0
    checkpoint_failures: int = 0
    wal_pinned: float = 0.0
    alarms: tuple[str, ...] = ()
    oldest_claim: float | None = None
    oldest_released: float | None = None


@runtime_checkable
class Backend(Protocol):
    """Stores keys. A store owns one backend and runs one batch at a time on it.

    Calls that only read may run beside a batch: those of ``SupportsInspection``,
    ``SupportsReadAside`` and ``SupportsBackup``, and the calls that say so.

    Callers pass durations, never instants: a backend owns its clock, and all stores on
    one backend share that clock. The only instant that a caller may pass is
    ``Mark.ts``, which is data.

    Each operation follows the state table of ``_state_machine``: a key is seen while
    ``now < expires_at``, and an expired key is unseen whether its row is still there or
    not; a claim belongs to its owner while ``now < lease_until``, and after that until
    another caller acquires it. The token in the row is the fence: no other token
    changes the row. Each key is atomic; a whole batch is all or nothing where the
    database has transactions.

    Every failure of the database is raised as ``StoreUnavailableError``; a failure
    after which the batch may or may not be stored, as ``OutcomeUnknownError``. A
    database with transactions of others' raises ``KeysLockedError`` instead of waiting
    for their rows. Bugs and cancellation pass through untouched. A cancelled call may
    or may not take effect, and disturbs nothing else.
    """

    @property
    def config(self) -> SeenStoreConfig:
        """The settings of this backend."""
        ...

    @property
    def location(self) -> str:
        """The address of the database, for people; never with a password."""
        ...

    @property
    def database(self) -> str:
        """The identity of the database: equal for every path or name that reaches it.

        Stores of one process share cache invalidation by it. A collision only causes
        extra invalidation.
        """
        ...

    def now(self) -> float:
        """Return the backend's time without I/O, in seconds since 1970."""
        ...

    async def open(self) -> None:
        """Connect, and create or upgrade the schema. A failed open leaves nothing.

        Raises:
            ConfigurationError: Its driver is missing, or the settings of the database
                would break a promise of the store.
            SchemaError: A newer schema, or another program's data; it is untouched.
            StoreUnavailableError: Cannot connect.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was sent, then disconnect. Idempotent."""
        ...

    def abandon(self) -> None:
        """Disconnect without waiting, from any thread, with or without a loop."""
        ...

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        """Execute a batch in order, and sample the change counter if requested.

        A later operation of the batch sees the effect of an earlier one on the same
        key.

        Args:
            operations: The batch.
            sample_version: Sample the change counter?
            timeout: Seconds to wait for locks, and for a server that does not answer:
                what is left of the time of the calls. 0 allows one attempt without a
                wait. ``None`` is the setting ``timeout``.
        """
        ...


@runtime_checkable
class SupportsInspection(Protocol):
    """Counts, lists and checks whole namespaces, beside other calls.

    ``namespace`` is one namespace, or ``None`` for all of them.
    """

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        """Count the seen keys of each namespace that has any."""
        ...

    async def has_any(self, namespace: str | None) -> bool:
        """Is there a seen key?"""
        ...

    async def namespaces(self) -> list[str]:
        """List the namespaces that have a key which is not unseen, sorted."""
        ...

    async def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        """Return a page of the selected records, with their notes.

        A key that is stored from the first page to the last is returned once. A page
        examines about ``limit`` rows, so that no page takes long.
        """
        ...

    async def stats(self, namespace: str | None) -> BackendStats:
        """Measure the database."""
        ...

    async def check(self, *, is_full: bool) -> CheckReport:
        """Run a health check: damage, and settings that would break a promise."""
        ...


@runtime_checkable
class SupportsNamespaces(Protocol):
    """Changes whole namespaces; never beside a batch.

    A removal runs in pages of at most ``limit`` rows. ``lock_timeout`` is that of
    ``SupportsPurge.purge``.
    """

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        """Remove those of the next ``limit`` rows last marked ``age`` seconds ago.

        Neither a live lease nor a held key is removed.
        """
        ...

    async def clear(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        """Remove the next ``limit`` rows, and with the last page the namespace itself.

        Rows that have expired are not counted.
        """
        ...

    async def rename(self, namespace: str, name: str) -> bool:
        """Rename a namespace; false, and nothing changed, if the new name has rows.

        Where the database cannot do it at once, a second call completes the first one.
        """
        ...


@runtime_checkable
class SupportsPurge(Protocol):
    """Keeps expired rows until they are purged."""

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        """Remove up to ``limit`` expired rows of one namespace, or of all.

        ``lock_timeout`` bounds the wait for other writers, in seconds; ``None`` waits
        as long as any call.
        """
        ...


@runtime_checkable
class SupportsMaintenance(Protocol):
    """Needs work between calls, such as checkpoints.

    Attributes:
        maintenance_due: Set when ``maintain`` should run at once; ``None`` if this
            database needs no maintenance.
    """

    maintenance_due: asyncio.Event | None

    async def maintain(self) -> None:
        """Run the maintenance that is due; the engine calls it every second."""
        ...


@runtime_checkable
class SupportsReadAside(Protocol):
    """Reads keys while a batch is blocked, as by another program's write lock."""

    async def read_aside(self, reads: Sequence[Operation[Any]]) -> list[object] | None:
        """Read keys beside the blocked batch; ``None`` if this would block as well."""
        ...


@runtime_checkable
class SupportsForEach(Protocol):
    """Executes one operation on many keys as a whole.

    Attributes:
        for_each: The operations that a ``ForEach`` in ``apply`` may repeat.
    """

    for_each: frozenset[type[Operation[Any]]]


@runtime_checkable
class SupportsListings(Protocol):
    """Records the listings of sources, each in a namespace of its own.

    ``_observation`` decides what a listing changes; each call is all or nothing. A
    namespace has a source once it was observed, or could not be.
    """

    async def observe(self, request: Observe) -> Observed | None:
        """Record a listing; never beside a batch.

        A request with the id of the last one changes nothing, and returns its summary.

        Returns:
            What was changed; ``None`` if the request has no listing, and the stored one
            is not certainly the same: nothing is changed.
        """
        ...

    async def fail(self, failure: Fail) -> None:
        """Record that a source could not be polled; never beside a batch."""
        ...

    async def source(self, namespace: str) -> SourceRecord | None:
        """Read the state of a source, beside other calls; ``None`` if there is none."""
        ...

    async def sources(self) -> Mapping[str, SourceRecord]:
        """Read the states of all sources, by namespace, beside other calls."""
        ...

    async def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        """Read the keys that were observed and can be claimed, beside other calls.

        Args:
            namespace: The namespace of the keys.
            after: Only keys with a later ``seq`` than this.
            limit: Number of keys at most, in the order of their ``seq``.
        """
        ...


class BackendCounters(NamedTuple):
    """What a backend has counted since it was opened.

    Attributes:
        retries: Number of requests that were sent again.
        checkpoints: Number of checkpoints of a write-ahead log that succeeded.
        checkpoint_failures: Number of those that failed.
        wal_bytes: Size of that log after the last write.
        failing: Why the last attempt of a request failed, which may be sent again;
            ``None`` if it was answered.
    """

    retries: int = 0
    checkpoints: int = 0
    checkpoint_failures: int = 0
    wal_bytes: int = 0
    failing: str | None = None


@runtime_checkable
class SupportsCounters(Protocol):
    """Counts what the engine does not see."""

    def counters(self) -> BackendCounters:
        """Return what was counted; no I/O, from any thread."""
        ...


PROBE = "probe\n"
"""A namespace that no caller can have: it ends with a line break."""


@runtime_checkable
class SupportsProbe(Protocol):
    """Commits a write that changes nothing."""

    async def probe(self) -> None:
        """Commit a write, of which no other call sees anything; never beside a batch.

        It fails where a mark would fail: on a full disk, without the rights to write.
        """
        ...


@runtime_checkable
class SupportsTransfer(Protocol):
    """Reads and writes rows and the states of sources as they are stored.

    A move to another database reads them here and writes them there. All instants are
    of the clock of this backend; the caller converts them. What was written is read
    back equal; only Redis, which expires rows by itself, rounds their ``expires_at`` up
    to a millisecond.

    A cache of a store that is open on the same backend object does not learn of what is
    written here.
    """

    def open_unfinished(self) -> None:
        """Let an open succeed although a move to this database has not ended.

        Otherwise it raises ``StoreUnavailableError``: see ``_unfinished``.
        """
        ...

    async def read_rows(self, *, limit: int, cursor: Cursor | None) -> StoredPage:
        """Return a page of the rows of all namespaces, beside other calls.

        Rows that have expired are not returned. A row that is stored from the first
        page to the last is returned at least once. A page examines about ``limit``
        rows, so that no page takes long.
        """
        ...

    async def read_rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        """Return the rows of keys, in order, beside other calls.

        ``None`` where there is no row, or one that has expired.
        """
        ...

    async def write_rows(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows, whatever is there; never beside a batch.

        ``None`` removes a row; of a key that occurs twice, the last row is written. All
        or nothing where the database has transactions; a repetition changes nothing
        more. What is derived from a row, such as an index of what is pending or a
        native expiry, is as if the store had made the row itself.
        """
        ...

    async def read_source_states(self) -> dict[str, SourceState]:
        """Return the states of all namespaces that have one, beside other calls.

        Those of sources that only failed, and of namespaces that were cleared, are
        among them.
        """
        ...

    async def write_source_states(
        self, states: Mapping[str, SourceState | None]
    ) -> None:
        """Replace the states of sources, whatever is there; never beside a batch.

        ``None`` removes a state. All or nothing where the database has transactions.
        """
        ...


@runtime_checkable
class SupportsTransactions(Protocol):
    """Shares a transaction with its caller."""

    async def confirm_in_transaction(
        self, transaction: object, confirm: Confirm
    ) -> bool:
        """Confirm in the caller's transaction, which commits or rolls it back.

        Raises:
            ConfigurationError: ``transaction`` is not a usable one of this database.
        """
        ...


@runtime_checkable
class SupportsRehearsal(Protocol):
    """Needs a right to create its database, and can test it."""

    async def rehearse_creation(self) -> None:
        """Create what an open would create, and roll it back; the store is not open.

        Raises:
            StoreUnavailableError: An open could not create it.
        """
        ...


@runtime_checkable
class SupportsBackup(Protocol):
    """Copies its database to a file."""

    async def backup(self, path: str) -> None:
        """Copy a snapshot of the whole database, beside other calls.

        Raises:
            ConfigurationError: The path is occupied, or cannot hold a copy.
        """
        ...
