"""The reference backend: rows in a dict, decided by the state machine.

``MemoryBackend`` is a complete backend without a database. Authors of other backends
read it to learn what a store requires of one; programs pass it to a store in their own
tests: ``AsyncSeenStore(MemoryBackend())``.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING, cast

from .._clock import read_clock
from .._config import SeenStoreConfig
from .._pause import pause
from .._types import ON_ABANDONED, CheckReport
from .._verdict import Verdict
from ._settings import MEMORY, check_effective
from ._state_machine import to_record, transition, transition_batch
from .base import BackendStats, PageResult, RecordPage
from .operations import CheckAndMark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .._types import Sighting
    from .base import BatchResult, Cursor, Selection
    from .operations import Id, Operation, Row

_ENGINE = "Python dict"


class MemoryBackend:
    """Stores rows in a dict.

    It implements ``SupportsInspection``, ``SupportsNamespaces`` and ``SupportsPurge``.

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
        self._latest = -math.inf

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
            return row.last_seen < now - age and is_over and not is_held

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
        live = self._verdicts(None, self.now())
        return sorted({id_[0] for id_, verdict in live if verdict is not Verdict.NEW})

    async def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        now = self.now()
        page = self._page(selection.namespace, limit, cursor)
        found = [
            to_record(id_, verdict, self._rows[id_])
            for id_ in page
            if (verdict := self._verdict(id_, now)) is not Verdict.NEW
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
        removed = sum(self._verdict(id_, now) is not Verdict.NEW for id_ in page)
        self._write(dict.fromkeys(page))
        return PageResult(removed, page[-1] if len(page) == limit else None)

    async def rename(self, namespace: str, name: str) -> bool:
        there = list(self._verdicts(name, self.now()))
        if any(verdict is not Verdict.NEW for _, verdict in there):
            return False
        for id_, _ in there:  # expired
            del self._rows[id_]
        for id_ in [id_ for id_ in self._rows if id_[0] == namespace]:
            self._rows[name, id_[1]] = self._rows.pop(id_)
        return True

    async def stats(self, namespace: str | None) -> BackendStats:
        now = self.now()
        claims = Counter(
            "claimed" if verdict is Verdict.IN_FLIGHT else self._rows[id_].on_abandoned
            for id_, verdict in self._verdicts(namespace, now)
            if verdict is not Verdict.NEW and self._rows[id_].lease_until is not None
        )
        return BackendStats(
            keys_by_namespace=await self.count(namespace),
            claimed=claims["claimed"],
            abandoned={policy: claims[policy] for policy in ON_ABANDONED},
            file_bytes=0,
            engine=_ENGINE,
        )

    async def check(self, *, is_full: bool) -> CheckReport:
        """Return a report without a problem: a dict has neither damage nor settings."""
        return CheckReport(self.location, _ENGINE, is_full, schema=None, settings={})

    def _verdicts(
        self, namespace: str | None, now: float
    ) -> Iterator[tuple[Id, Verdict]]:
        for id_ in self._rows:
            if namespace in {None, id_[0]}:
                yield id_, self._verdict(id_, now)

    def _verdict(self, id_: Id, now: float) -> Verdict:
        """Return the verdict that a check-and-mark would return."""
        sighting, _ = transition(self._rows[id_], CheckAndMark(*id_, ttl=None), now)
        return cast("Sighting", sighting).verdict

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
