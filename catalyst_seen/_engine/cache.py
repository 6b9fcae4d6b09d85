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
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakValueDictionary

from .._pause import pause
from .._types import ClaimState, Sighting
from .._verdict import Verdict
from ..backends._state_machine import transition
from ..backends.operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    ForEach,
    Forget,
    IsSeen,
    Mark,
    Refresh,
    Row,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Sequence

    from ..backends.base import BatchResult
    from ..backends.operations import (
        CacheableOperation,
        Id,
        Operation,
        Result_co,
    )
    from .counters import Tally

_REVALIDATIONS = 4
"""Revalidations per staleness window."""

_LISTINGS = 16
"""One of so many parts of the cache is for listings."""

_LISTING_BYTES = 450
"""What a listing takes, besides what is known of its keys; a key takes a bit less."""

_OUTCOMES = {
    IsSeen.verb: "seen",
    CheckAndMark.verb: Verdict.DUPLICATE.value,
    Acquire.verb: Verdict.DUPLICATE.value,
}
"""What the cache answers, as it is counted."""

_CHANGING = {Forget, Mark, Refresh}
"""Operations that change a key which is seen already."""


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


class _Changes:
    """What changed in a namespace since its listings were cached.

    Attributes:
        endings: Number of operations after which a key that was marked may be unseen,
            or expire earlier.
        updates: Number of operations that may have changed a ``last_seen`` alone.
    """

    __slots__ = ("endings", "updates")

    def __init__(self) -> None:
        self.endings = self.updates = 0


class _Listing(NamedTuple):
    """Keys that are all seen, and the counts of ``_Changes`` when they were."""

    keys: AllSeen
    endings: int
    updates: int

    @property
    def weight(self) -> int:
        """For how many cached keys it counts, by the memory that it takes."""
        return 1 + self.keys.nbytes() // _LISTING_BYTES


def _kind(operation: Operation[Any]) -> type[Operation[Any]]:
    return type(operation.operation if isinstance(operation, ForEach) else operation)


def _sightings(
    each: ForEach[Any], keys: AllSeen, first_seen: array[float]
) -> Iterable[Sighting]:
    return map(
        Sighting,
        each.keys,
        repeat(each.namespace),
        repeat(Verdict.DUPLICATE),
        first_seen,
        keys.last_seen or first_seen,
        keys.attempts or repeat(0),
    )


def _refused_claims(keys: AllSeen, number: int) -> Iterable[ClaimState]:
    attempts = keys.attempts or repeat(0, number)
    return (ClaimState(Verdict.DUPLICATE, attempt) for attempt in attempts)


class SeenCache:
    """A bounded cache of seen keys, in two generations of which the older is evicted.

    The event loop's thread owns it. Any other thread may call ``find``, ``are_seen``
    and ``sightings``, which change nothing but ``hits``: they read with single steps
    of dicts what a forget removes before its caller gets the result.

    Attributes:
        hits: The operations that the cache answered.
    """

    def __init__(
        self,
        size: int,
        staleness: float,
        now: Callable[[], float],
        database: str,
        page: int,
        *,
        hits: Tally,
    ) -> None:
        """Create an empty cache.

        Args:
            size: The maximum number of keys and listings.
            staleness: Seconds for which entries are valid after a revalidation; 0
                disables the cache.
            now: Returns the backend's time.
            database: Identity of the database; stores with the same one share
                invalidation.
            page: Rows that an update stores before other tasks run.
            hits: Counts the operations that the cache answers.
        """
        self.hits: Tally = hits
        self._generation = (size - size // _LISTINGS) // 2 if staleness else 0
        self._limit = size - 2 * self._generation if self._generation else 0
        self._staleness = staleness
        self._now = now
        self._page = page
        self._young: dict[Id, Row] = {}
        self._old: dict[Id, Row] = {}
        self._listings: dict[bytes, _Listing] = {}  # by their digest
        self._weight = 0
        self._changes: dict[str, _Changes] = {}
        self._counting = threading.RLock()  # a signal handler may call a store
        self._version: object = None
        self._revalidated = -math.inf
        with _invalidations_lock:
            self._shared = _invalidations.setdefault(database, _Invalidation())
        self._epoch = self._shared.epoch

    @property
    def size(self) -> int:
        """The maximum number of keys and listings; 0 if the cache is disabled."""
        return 2 * self._generation + self._limit

    def __len__(self) -> int:
        return len(self._young) + len(self._old) + self._weight

    def get(self, operation: CacheableOperation[Result_co]) -> Result_co | None:
        """Return the result of an operation on a cached key; ``None`` is a miss.

        A key that is used stays in the younger generation.
        """
        id_ = operation.namespace, operation.key
        if id_ in self._young:
            return self.find(operation)
        if id_ not in self._old:
            return None
        result = self.find(operation)
        if result is not None:
            self._put(id_, self._old[id_])
        return result

    def find(self, operation: CacheableOperation[Result_co]) -> Result_co | None:
        """Return the result of an operation on a cached key; ``None`` is a miss."""
        if not self._is_valid():  # first: what is read afterwards is as valid
            return None
        id_ = operation.namespace, operation.key
        row = self._young.get(id_) or self._old.get(id_)
        if row is None:
            return None
        now = self._now()
        if row.expires_at is not None and row.expires_at <= now:
            return None
        self._count_hits(operation, 1)
        return cast("Result_co", transition(row, operation, now)[0])

    def are_seen(self, keys: ForEach[bool]) -> bool:
        """Is every key known to be seen, because the same ones were seen before?"""
        if self._find_listing(keys) is None:
            return False
        self._count_hits(keys.operation, len(keys.keys))
        return True

    def get_each(self, each: ForEach[Result_co]) -> list[Result_co] | None:
        """Return the results on keys that are all known to be seen; ``None``: a miss.

        For the verbs that tell more than whether a key is seen.
        """
        found = self._find_listing(each)
        if found is None or found.keys.first_seen is None:
            return None
        results: Iterable[Any]
        if type(each.operation) is CheckAndMark:
            changes = self._changes.get(each.namespace)
            if changes is None or changes.updates != found.updates:
                return None
            results = _sightings(each, found.keys, found.keys.first_seen)
        else:
            results = _refused_claims(found.keys, len(each.keys))
        self._count_hits(each.operation, len(each.keys))
        return cast("list[Result_co]", list(results))

    def _find_listing(self, keys: ForEach[Any]) -> _Listing | None:
        changes = self._changes.get(keys.namespace)
        if changes is None or not self._is_valid():
            return None
        digest = keys.digest()
        found = self._listings.get(digest) if digest else None
        if found is None or found.endings != changes.endings:
            return None
        ends = found.keys.expires_at
        return None if ends is not None and ends <= self._now() else found

    def _count_hits(self, operation: Operation[Any], number: int) -> None:
        verb = operation.verb
        with self._counting:
            self.hits.add((operation.namespace, verb, _OUTCOMES[verb]), number)

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
        return (
            self._epoch is self._shared.epoch
            and time.monotonic() - self._revalidated <= self._staleness
        )

    def _update_key(
        self, operation: Operation[object], row: Row | AllSeen | None
    ) -> None:
        self._count_change(operation)
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
        work = 1
        if self._count_change(listing):
            work = len(listing.keys)
            await self._drop_in_pages(listing.ids())
            self._invalidate_siblings([listing])
        digest = listing.digest()
        if isinstance(row, AllSeen) and listing.keys and digest:
            namespace = listing.namespace
            changes = self._changes.setdefault(namespace, _Changes())
            self._put_listing(digest, _Listing(row, changes.endings, changes.updates))
        return work

    def _put_listing(self, digest: bytes, listing: _Listing) -> None:
        self._drop_listing(digest)
        self._listings[digest] = listing
        self._weight += listing.weight
        while self._weight > self._limit:  # the oldest one goes
            self._drop_listing(next(iter(self._listings)))
        if len(self._changes) > 2 * self._limit:  # most are of no listing
            self._listings, self._changes, self._weight = {}, {}, 0

    def _drop_listing(self, digest: bytes) -> None:
        dropped = self._listings.pop(digest, None)
        if dropped is not None:
            self._weight -= dropped.weight

    async def _drop_in_pages(self, ids: Iterable[Id]) -> None:
        ids = iter(ids) if len(self) else iter(())
        while page := list(islice(ids, self._page)):
            self._drop(page)
            if len(page) == self._page:
                await pause(0)

    def _drop(self, ids: Iterable[Id]) -> None:
        for id_ in ids:
            self._old.pop(id_, None)  # first: it may be older than the other
            self._young.pop(id_, None)

    def invalidate(self, operations: Iterable[Operation[object]]) -> None:
        """Drop the keys of a batch whose effect is unknown."""
        for operation in operations:
            self._count_change(operation)
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
        if any(_kind(operation) is Forget for operation in operations):
            with self._shared.lock:
                is_valid = self._epoch is self._shared.epoch
                self._shared.epoch = object()
                if is_valid:
                    self._epoch = self._shared.epoch

    def _count_change(self, operation: Operation[Any]) -> bool:
        """Count it for its namespace; true if it may have changed a key that is seen.

        A mark that is there is changed by nothing else: claims concern other rows.
        """
        kind = _kind(operation)
        if kind not in _CHANGING:
            return False
        changes = self._changes.get(operation.namespace)
        if changes is not None:
            changes.updates += 1
            changes.endings += kind is not Refresh
        return True

    def _put(self, id_: Id, row: Row) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[id_] = row

    def _clear(self) -> None:
        self._young, self._old = {}, {}
        self._listings, self._changes, self._weight = {}, {}, 0
        self._epoch = self._shared.epoch  # last, for the readers in other threads
