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
from .._types import ON_ABANDONED, CheckReport, Record
from .._verdict import Verdict
from ._settings import MEMORY, check_effective
from ._state_machine import transition, transition_batch
from .base import BackendStats, PageResult
from .operations import CheckAndMark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .._types import Sighting
    from .base import BatchResult, Cursor
    from .operations import Id, Operation, Row

_ENGINE = "Python dict"


class MemoryBackend:
    """Stores rows in a dict; implements ``SupportsInspection`` and ``SupportsPurge``.

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

    async def held(self, namespace: str | None) -> list[Record]:
        ids = sorted(
            id_
            for id_, verdict in self._verdicts(namespace, self.now())
            if verdict is Verdict.HELD
        )
        return [Record(key, name, *self._rows[name, key][:3]) for name, key in ids]

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
        """Yield the verdict that a check-and-mark would return for each row."""
        for id_ in self._rows:
            if namespace in {None, id_[0]}:
                check = CheckAndMark(*id_, ttl=None)
                sighting, _ = transition(self._rows[id_], check, now)
                yield id_, cast("Sighting", sighting).verdict

    def _remove(
        self,
        condition: Callable[[Row], bool],
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
    ) -> PageResult:
        """Remove those of the next ``limit`` rows that fulfil a condition."""
        rest = (
            id_
            for id_ in self._rows
            if namespace in {None, id_[0]} and (cursor is None or id_ > cursor)
        )
        page = heapq.nsmallest(limit, rest)
        gone = [id_ for id_ in page if condition(self._rows[id_])]
        self._write(dict.fromkeys(gone))
        return PageResult(len(gone), page[-1] if len(page) == limit else None)

    def _write(self, changes: Mapping[Id, Row | None]) -> None:
        for id_, row in changes.items():
            if row is None:
                self._rows.pop(id_, None)
            else:
                self._rows[id_] = row
