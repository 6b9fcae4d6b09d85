"""A cache of keys known to be seen, so that a repeated question costs no hop.

Only seen keys are cached, and only with the row that the database returned. Another
program may forget a key: entries are valid for ``staleness`` seconds after the last
revalidation, and a changed version of the database clears the cache.

The keys of a whole listing, as a poller asks for them again and again, are not cached
one by one: a digest tells that the same listing was seen from the first to the last
key. So thousands of feeds need a few hundred bytes each.
"""

from __future__ import annotations

import math
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakValueDictionary

from .._pause import pause
from .._types import Sighting
from .._verdict import Verdict
from ..backends._state_machine import transition
from ..backends.operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    ForEach,
    Forget,
    Get,
    IsSeen,
    Refresh,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..backends.base import BatchResult
    from ..backends.operations import (
        CacheableOperation,
        Id,
        Operation,
        Result_co,
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


_KEEP_SEEN = {Acquire, CheckAndMark, Get, IsSeen, Refresh}
"""Operations after which every key that was seen is seen, for as long as before."""


def _is_forget(operation: Operation[object]) -> bool:
    if isinstance(operation, ForEach):
        operation = operation.operation
    return isinstance(operation, Forget)


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
        # Listings by namespace and digest, each with the value that the counter of its
        # namespace had: another one now means that a key may have become unseen.
        self._listings: dict[tuple[str, bytes], tuple[AllSeen, int]] = {}
        self._changes: dict[str, int] = {}
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
        return len(self._young) + len(self._old) + len(self._listings)

    def get(self, operation: CacheableOperation[Result_co]) -> Result_co | None:
        """Return the result of an operation on a cached key; ``None`` is a miss."""
        id_ = operation.namespace, operation.key
        row = self._young.get(id_) or self._old.get(id_)
        if row is None or not self._is_valid():
            return None
        now = self._now()
        if row.expires_at is not None and row.expires_at <= now:
            return None
        if id_ not in self._young:
            self._put(id_, row)
        self.hits += 1
        return cast("Result_co", transition(row, operation, now)[0])

    def are_seen(self, keys: ForEach[bool]) -> bool:
        """Is every key known to be seen, because the same ones were seen before?"""
        found = self._find(keys)
        if found is None:
            return False
        self.hits += len(keys.keys)
        return True

    def sightings(self, check: ForEach[Sighting]) -> list[Sighting] | None:
        """Return the sightings of keys that are all known to be seen."""
        found = self._find(check)
        if found is None or found.instants is None:
            return None
        self.hits += (size := len(check.keys))
        name, duplicate = check.namespace, Verdict.DUPLICATE
        return [
            Sighting(key, name, duplicate, first_seen, last_seen)
            for key, first_seen, last_seen in zip(
                check.keys, found.instants[:size], found.instants[size:], strict=True
            )
        ]

    def _find(self, listing: ForEach[Any]) -> AllSeen | None:
        namespace = listing.namespace
        if namespace not in self._changes or not self._is_valid():
            return None
        found, changes = self._listings.get((namespace, listing.digest()), (None, 0))
        if found is None or changes != self._changes[namespace]:
            return None
        if found.expires_at is not None and found.expires_at <= self._now():
            return None
        return found

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
        await self._update_all(operations, result.rows)

    async def _update_all(
        self,
        operations: Sequence[Operation[object]],
        rows: Sequence[Row | AllSeen | None],
    ) -> None:
        epoch, done = self._epoch, 0
        for first, (operation, row) in enumerate(zip(operations, rows, strict=True)):
            if done >= self._page:
                done = 0
                await pause(0)
                if self._shared.epoch is not epoch:  # invalidated meanwhile
                    self.invalidate(operations[first:])
                    return
            if isinstance(operation, ForEach):
                done += await self._update_listing(operation, row)
            else:
                done += 1
                self._update_key(operation, row)
            epoch = self._epoch

    def _is_valid(self) -> bool:
        if time.monotonic() - self._revalidated > self._staleness:
            return False
        if self._epoch is not self._shared.epoch:
            self._clear()
            return False
        return True

    def _update_key(
        self, operation: Operation[object], row: Row | AllSeen | None
    ) -> None:
        if type(operation) not in _KEEP_SEEN:
            self._count_change(operation.namespace)
        if isinstance(row, Row) and row.lease_until is None:
            if row.note is not None:  # a note may be large, and is not needed
                row = row._replace(note=None)
            self._put((operation.namespace, operation.key), row)
        else:
            self._drop(operation.ids())
            self._invalidate_siblings([operation])

    async def _update_listing(
        self, listing: ForEach[object], row: Row | AllSeen | None
    ) -> int:
        """Cache a listing if its keys are seen; return how much work that was."""
        namespace, work = listing.namespace, 1
        if type(listing.operation) not in _KEEP_SEEN:
            self._count_change(namespace)
            work = len(listing.keys)
            await self._drop_in_pages(listing.ids())
            self._invalidate_siblings([listing])
        if isinstance(row, AllSeen) and listing.keys:
            changes = self._changes.setdefault(namespace, 0)
            self._listings[namespace, listing.digest()] = row, changes
            if len(self._listings) > self.size:  # the oldest one goes
                del self._listings[next(iter(self._listings))]
            if len(self._changes) > self.size:
                self._listings, self._changes = {}, {}
        return work

    async def _drop_in_pages(self, ids: Iterable[Id]) -> None:
        ids = iter(ids) if len(self) else iter(())
        while page := list(islice(ids, self._page)):
            self._drop(page)
            if len(page) == self._page:
                await pause(0)

    def _drop(self, ids: Iterable[Id]) -> None:
        for id_ in ids:
            self._young.pop(id_, None)
            self._old.pop(id_, None)

    def invalidate(self, operations: Iterable[Operation[object]]) -> None:
        """Drop the keys of a batch whose effect is unknown."""
        for operation in operations:
            self._count_change(operation.namespace)
            self._drop(operation.ids())
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
        if any(_is_forget(operation) for operation in operations):
            with self._shared.lock:
                is_valid = self._epoch is self._shared.epoch
                self._shared.epoch = object()
                if is_valid:
                    self._epoch = self._shared.epoch

    def _count_change(self, namespace: str) -> None:
        """Invalidate the listings of a namespace: a key of theirs may be unseen now."""
        if namespace in self._changes:
            self._changes[namespace] += 1

    def _put(self, id_: Id, row: Row) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[id_] = row

    def _clear(self) -> None:
        self._epoch = self._shared.epoch
        self._young, self._old = {}, {}
        self._listings, self._changes = {}, {}
