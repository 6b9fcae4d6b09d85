"""The reference backend: rows in a dict, decided by the state machine.

``MemoryBackend`` is a complete backend without a database. Authors of other backends
read it to learn what a store requires of one; programs pass it to a store in their own
tests: ``AsyncSeenStore(MemoryBackend())``.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING

from .._clock import read_clock
from .._config import SeenStoreConfig
from .._pause import pause
from .._types import CheckReport
from .._verdict import Verdict
from ._observation import Decision, count_waiting, failed, merged
from ._settings import MEMORY, check_effective
from ._state_machine import counted_claim, to_record, transition_batch, verdict_of
from ._unfinished import MARK, check_finished
from .base import (
    BackendStats,
    ClaimCounts,
    PageResult,
    RecordPage,
    StoredPage,
    StoredRow,
)
from .listings import Observed, SourceRecord, SourceState, Waiting, WaitingPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ._observation import Changes, Expiry
    from .base import BatchResult, Cursor, Selection
    from .listings import Fail, Observe
    from .operations import Id, Operation, Row

_ENGINE = "Python dict"


class MemoryBackend:
    """Stores rows in a dict.

    It implements ``SupportsInspection``, ``SupportsNamespaces``, ``SupportsPurge``,
    ``SupportsListings`` and ``SupportsTransfer``.

    The rows belong to this object: a closed store leaves them in place, and the next
    store on the same object finds them. One store at a time may be open on it.
    """

    def __init__(self, config: SeenStoreConfig | None = None) -> None:
        """Create an empty dict.

        Args:
            config: The settings; the time is that of its ``clock``.

        Raises:
            ConfigurationError: A setting concerns a file or a server.
        """
        self.config: SeenStoreConfig = config or SeenStoreConfig()
        check_effective(self.config, MEMORY)
        self._rows: dict[Id, Row] = {}
        self._sources: dict[str, SourceState] = {}
        self._latest = -math.inf
        self._opens_unfinished = False

    @property
    def location(self) -> str:
        return "memory"

    @property
    def database(self) -> str:
        return f"memory {id(self)}"

    def now(self) -> float:
        """Return the time of the clock, which never runs backwards while open."""
        self._latest = max(self._latest, read_clock(self.config.clock))
        return self._latest

    async def open(self) -> None:
        await pause(0)  # a database would be waited for
        self._latest = -math.inf
        read_clock(self.config.clock)  # refuses one that cannot be used
        if not self._opens_unfinished:
            check_finished(self._rows.get(MARK), self.location)

    def open_unfinished(self) -> None:
        self._opens_unfinished = True

    async def aclose(self) -> None:
        """Keep the rows, as a server does."""

    def abandon(self) -> None:
        """Keep the rows, as a server does."""

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        # Suspend, as for the round trip to a database: calls that other tasks make
        # meanwhile form the next batch. The rest is atomic in the event loop.
        await pause(0)
        now = self.now()
        result, changes = transition_batch(self._rows, operations, now)
        self._write(changes)  # not earlier: a batch that fails changes nothing
        # No other program can write, so that the version never changes.
        return result._replace(version=0 if sample_version else None)

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        now = self.now()

        def is_expired(row: Row) -> bool:
            return row.expires_at is not None and row.expires_at <= now

        return self._remove(is_expired, namespace, limit, cursor)

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        now = self.now()

        def is_old(row: Row) -> bool:
            is_over = row.lease_until is None or row.lease_until <= now
            is_held = row.lease_until is not None and row.on_abandoned == "hold"
            is_aging = row.listed is None  # a source ends its keys itself
            return row.last_seen < now - age and is_over and not is_held and is_aging

        return self._remove(is_old, namespace, limit, cursor)

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return Counter(
            id_[0]
            for id_, verdict in self._verdicts(namespace, self.now())
            if verdict is Verdict.DUPLICATE
        )

    async def has_any(self, namespace: str | None) -> bool:
        return any(
            verdict is Verdict.DUPLICATE
            for _, verdict in self._verdicts(namespace, self.now())
        )

    async def namespaces(self) -> list[str]:
        return sorted({id_[0] for id_, _ in self._verdicts(None, self.now())})

    async def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        now = self.now()
        page = self._page(selection.namespace, limit, cursor)
        found = [
            to_record(id_, verdict_of(self._rows[id_], now), self._rows[id_])
            for id_ in page
            if self._is_live(id_, now)
        ]
        records = [record for record in found if selection.has(record)]
        return RecordPage(records, page[-1] if len(page) == limit else None)

    async def clear(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        page = self._page(namespace, limit, cursor)
        now = self.now()
        removed = sum(self._is_live(id_, now) for id_ in page)
        self._write(dict.fromkeys(page))
        left = {name for name, _ in self._rows}
        for name in {*left, *self._sources} if namespace is None else {namespace}:
            self._sources.pop(name, None)
            if name in left:  # of what comes next nothing is handled
                self._sources[name] = SourceState(is_cleared=True)
        return PageResult(removed, page[-1] if len(page) == limit else None)

    async def probe(self) -> None:
        await pause(0)

    async def rename(self, namespace: str, name: str) -> bool:
        if self._is_source(name) or any(self._verdicts(name, self.now())):
            return False
        for id_ in [id_ for id_ in self._rows if id_[0] == name]:  # expired
            del self._rows[id_]
        if namespace in self._sources:
            self._sources[name] = self._sources.pop(namespace)
        for id_ in [id_ for id_ in self._rows if id_[0] == namespace]:
            self._rows[name, id_[1]] = self._rows.pop(id_)
        return True

    async def observe(self, request: Observe) -> Observed | None:
        await pause(0)
        name, stored = request.namespace, self._sources.get(request.namespace)
        live = {id_ for id_, _ in self._verdicts(name, self.now())}
        rows = {key: self._rows[name, key] for _, key in live}
        decision = Decision(request, stored, self.now())
        decision.match(rows)
        changes = None
        listed = {
            key: row
            for key, row in rows.items()
            if row.listed is not None and row.listed.clock is None
        }
        if not decision.is_repeated:
            if request.items is None and not decision.is_unchanged(len(listed)):
                return None
            changes = decision.decide(listed, has_live_rows=bool(live))
            self._write(
                dict.fromkeys(
                    id_ for id_ in self._rows if id_[0] == name and id_ not in live
                )
            )
            self._record(name, changes)
        pending, _, oldest = self._count_waiting(name)
        return Observed(
            self._sources[name].summary,
            decision.claimable(changes),
            pending,
            oldest,
            changes is None or changes.has_ended,
            decision.counted(changes),
        )

    async def fail(self, failure: Fail) -> None:
        await pause(0)
        stored = self._sources.get(failure.namespace)
        self._sources[failure.namespace] = failed(stored, failure)

    async def source(self, namespace: str) -> SourceRecord | None:
        state = self._sources.get(namespace)
        if state is None or not state.is_polled:
            return None
        return SourceRecord(state, *self._count_waiting(namespace))

    async def sources(self) -> dict[str, SourceRecord]:
        found = {name: await self.source(name) for name in self._sources}
        return {name: record for name, record in found.items() if record is not None}

    async def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        now = self.now()
        found = sorted(
            (row.listed.seq, key)
            for (space, key), row in self._rows.items()
            if space == namespace
            and row.listed is not None
            and row.listed.seq is not None
            and row.listed.seq > after
        )[:limit]
        rows = {key: self._rows[namespace, key] for _, key in found}
        keys = [
            Waiting(seq, key, rows[key].attempt)
            for seq, key in found
            if verdict_of(rows[key], now)
        ]
        ends = [row.lease_until - now for row in rows.values() if row.lease_until]
        later = min((end for end in ends if end > 0), default=None)
        cursor = found[-1][0] if len(found) == limit else None
        return WaitingPage(keys, cursor, later)

    async def read_rows(self, *, limit: int, cursor: Cursor | None) -> StoredPage:
        now = self.now()
        page = self._page(None, limit, cursor)
        rows = [StoredRow(*id_, self._rows[id_]) for id_ in page]
        return StoredPage(
            [row for row in rows if self._is_live(row[:2], now)],
            page[-1] if len(page) == limit else None,
        )

    async def read_rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        now = self.now()
        return [
            self._rows[id_] if id_ in self._rows and self._is_live(id_, now) else None
            for id_ in ids
        ]

    async def write_rows(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        self._write(dict(rows))

    async def read_source_states(self) -> dict[str, SourceState]:
        return dict(self._sources)

    async def write_source_states(
        self, states: Mapping[str, SourceState | None]
    ) -> None:
        for name, state in states.items():
            self._sources.pop(name, None)
            if state is not None:
                self._sources[name] = state

    async def stats(self, namespace: str | None) -> BackendStats:
        now = self.now()
        claims = ClaimCounts.of(
            counted_claim(verdict, self._rows[id_])
            for id_, verdict in self._verdicts(namespace, now)
        )
        return BackendStats(
            keys_by_namespace=await self.count(namespace),
            claimed=claims.claimed,
            released=claims.released,
            abandoned=claims.abandoned,
            file_bytes=0,
            engine=_ENGINE,
            oldest_claim=claims.oldest,
            oldest_released=claims.oldest_released,
        )

    async def check(self, *, is_full: bool) -> CheckReport:
        """Return a report without a problem: a dict has neither damage nor settings."""
        return CheckReport(self.location, _ENGINE, is_full, schema=None, settings={})

    def _verdicts(
        self, namespace: str | None, now: float
    ) -> Iterator[tuple[Id, Verdict]]:
        """Yield the ids of the rows that have not expired, and their verdicts."""
        for id_, row in self._rows.items():
            if namespace in {None, id_[0]} and self._is_live(id_, now):
                yield id_, verdict_of(row, now)

    def _count_waiting(self, namespace: str) -> tuple[int, int, float | None]:
        rows = (row for id_, row in self._rows.items() if id_[0] == namespace)
        return count_waiting(filter(_is_waiting, rows), self.now())

    def _is_source(self, name: str) -> bool:
        return name in self._sources and self._sources[name].is_polled

    def _is_live(self, id_: Id, now: float) -> bool:
        expires_at = self._rows[id_].expires_at
        return expires_at is None or expires_at > now

    def _record(self, namespace: str, changes: Changes) -> None:
        """Write what an observation changes."""
        rows = self._rows
        for old, new in changes.renamed:
            rows[namespace, new] = rows.pop((namespace, old))
        for key, row in changes.rows.items():
            before = rows.get((namespace, key))
            note = before.note if before and row.note is None else row.note
            rows[namespace, key] = merged(before, row)._replace(note=note)
        _, poll, clock, *_ = changes.listed
        for key in changes.left:
            row = rows[namespace, key]
            assert row.listed is not None  # noqa: S101 - it was listed
            left = row.listed._replace(poll=poll, clock=clock)
            rows[namespace, key] = row._replace(listed=left)
        if changes.expiry is not None:
            self._expire(namespace, changes.expiry)
        self._sources[namespace] = changes.source

    def _expire(self, namespace: str, expiry: Expiry) -> None:
        """Remove the keys that are absent for long."""
        now = self.now()
        keys = [
            (row.listed.clock, id_)
            for id_, row in self._rows.items()
            if id_[0] == namespace and row.listed is not None
            if row.listed.clock is not None and row.listed.clock <= expiry.clock
            if row.listed.poll <= expiry.poll and row.lease_until is None
            if row.listed.kept_until is None or row.listed.kept_until <= now
        ]
        listed = sum(
            id_[0] == namespace and row.listed is not None
            for id_, row in self._rows.items()
        )
        for _, id_ in heapq.nsmallest(max(listed - expiry.keep, 0), keys):
            del self._rows[id_]

    def _page(
        self, namespace: str | None, limit: int, cursor: Cursor | None
    ) -> list[Id]:
        """Return the ids of the next ``limit`` rows, in order."""
        rest = (
            id_
            for id_ in self._rows
            if namespace in {None, id_[0]} and (cursor is None or id_ > cursor)
        )
        return heapq.nsmallest(limit, rest)

    def _remove(
        self,
        condition: Callable[[Row], bool],
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
    ) -> PageResult:
        """Remove those of the next ``limit`` rows that fulfil a condition."""
        page = self._page(namespace, limit, cursor)
        gone = [id_ for id_ in page if condition(self._rows[id_])]
        self._write(dict.fromkeys(gone))
        return PageResult(len(gone), page[-1] if len(page) == limit else None)

    def _write(self, changes: Mapping[Id, Row | None]) -> None:
        for id_, row in changes.items():
            if row is None:
                self._rows.pop(id_, None)
            else:
                self._rows[id_] = row


def _is_waiting(row: Row) -> bool:
    """Was the key observed, and is not handled yet?"""
    return row.listed is not None and row.listed.seq is not None
