"""A cache of keys known to be seen, so that a repeated question costs no hop.

Only seen keys are cached, and only with the row that the database returned. Another
program may forget a key: entries are valid for ``staleness`` seconds after the last
revalidation, and a changed version of the database clears the cache.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, cast
from weakref import WeakValueDictionary

from .._pause import pause
from ..backends._state_machine import transition
from ..backends.operations import Forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..backends.base import BatchResult
    from ..backends.operations import (
        CacheableOperation,
        Id,
        Operation,
        Result_co,
        Row,
    )

_REVALIDATIONS = 4
"""Revalidations per staleness window."""


class _Invalidation:
    """The invalidation epoch of a database, shared by all stores of this process.

    Every forget starts a new epoch.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.epoch = object()


_invalidations: WeakValueDictionary[str, _Invalidation] = WeakValueDictionary()
_invalidations_lock = threading.Lock()


class CacheSnapshot(NamedTuple):
    """The state of the cache when a batch was sent.

    Attributes:
        time: When, by ``time.monotonic``.
        epoch: The invalidation epoch.
        is_due: Whether the batch should revalidate the cache.
    """

    time: float
    epoch: object
    is_due: bool


class SeenCache:
    """A bounded cache of seen keys, in two generations of which the older is evicted.

    Attributes:
        hits: Number of operations that the cache answered.
    """

    def __init__(
        self,
        size: int,
        staleness: float,
        now: Callable[[], float],
        database: str,
        page: int,
    ) -> None:
        """Create an empty cache.

        Args:
            size: The maximum number of keys.
            staleness: Seconds for which entries are valid after a revalidation; 0
                disables the cache.
            now: Returns the backend's time.
            database: Identity of the database; stores with the same one share
                invalidation.
            page: Rows that an update stores before other tasks run.
        """
        self.hits: int = 0
        self._generation = size // 2 if staleness else 0
        self._staleness = staleness
        self._now = now
        self._page = page
        self._young: dict[Id, Row] = {}
        self._old: dict[Id, Row] = {}
        self._version: object = None
        self._revalidated = -math.inf
        with _invalidations_lock:
            self._shared = _invalidations.setdefault(database, _Invalidation())
        self._epoch = self._shared.epoch

    @property
    def size(self) -> int:
        """The maximum number of keys; 0 if the cache is disabled."""
        return 2 * self._generation

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, operation: CacheableOperation[Result_co]) -> Result_co | None:
        """Return the result of an operation on a cached key; ``None`` is a miss."""
        id_ = operation.namespace, operation.key
        row = self._young.get(id_) or self._old.get(id_)
        if row is None:
            return None
        if time.monotonic() - self._revalidated > self._staleness:
            return None
        if self._epoch is not self._shared.epoch:
            self._clear()
            return None
        now = self._now()
        if row.expires_at is not None and row.expires_at <= now:
            return None
        if id_ not in self._young:
            self._put(id_, row)
        self.hits += 1
        return cast("Result_co", transition(row, operation, now)[0])

    def snapshot(self) -> CacheSnapshot:
        """Return the state that ``update`` needs of the time when a batch is sent."""
        now = time.monotonic()
        age = now - self._revalidated
        is_due = self._generation > 0 and age > self._staleness / _REVALIDATIONS
        return CacheSnapshot(now, self._shared.epoch, is_due)

    async def update(
        self,
        operations: Sequence[Operation[object]],
        result: BatchResult,
        sent: CacheSnapshot,
    ) -> None:
        """Cache the rows that a batch left, page by page."""
        if result.version is not None:
            if result.version != self._version:
                self._clear()
            self._version, self._revalidated = result.version, sent.time
        if self._epoch is not self._shared.epoch:
            self._clear()
        if self._epoch is not sent.epoch or not self._generation:
            self.invalidate(operations)
            return
        epoch = self._epoch
        for first in range(0, len(operations), self._page):
            if first:
                await pause(0)
                if self._shared.epoch is not epoch:  # invalidated meanwhile
                    self.invalidate(operations[first:])
                    return
            page = slice(first, first + self._page)
            self._update_page(operations[page], result.rows[page])
            epoch = self._epoch

    def _update_page(
        self, operations: Sequence[Operation[object]], rows: Sequence[Row | None]
    ) -> None:
        unseen = []
        for operation, row in zip(operations, rows, strict=True):
            if row is not None and row.lease_until is None:
                if row.note is not None:  # a note may be large, and is not needed
                    row = row._replace(note=None)  # noqa: PLW2901
                self._put((operation.namespace, operation.key), row)
            else:
                unseen.append(operation)
        if unseen:
            self.invalidate(unseen)

    def invalidate(self, operations: Iterable[Operation[object]]) -> None:
        """Drop the keys of a batch whose effect is unknown, or left them unseen."""
        for operation in operations:
            id_ = operation.namespace, operation.key
            self._young.pop(id_, None)
            self._old.pop(id_, None)
        self._invalidate_siblings(operations)

    def invalidate_all(self) -> None:
        """Clear the caches of all stores of this process on this database."""
        with self._shared.lock:
            self._shared.epoch = object()

    def _invalidate_siblings(self, operations: Iterable[Operation[object]]) -> None:
        """Invalidate the caches of sibling stores after a Forget.

        This cache stays valid, as it knows the keys, unless a sibling started a new
        epoch as well.
        """
        if any(isinstance(operation, Forget) for operation in operations):
            with self._shared.lock:
                is_valid = self._epoch is self._shared.epoch
                self._shared.epoch = object()
                if is_valid:
                    self._epoch = self._shared.epoch

    def _put(self, id_: Id, row: Row) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[id_] = row

    def _clear(self) -> None:
        self._epoch = self._shared.epoch
        self._young, self._old = {}, {}
