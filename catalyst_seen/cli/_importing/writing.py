"""The second pass of an import: the keys are marked, page by page.

Every page may be written again: a key keeps the later date and the later expiry of the
two, so that an import which was interrupted ends the same when it is repeated.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .entries import pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalyst_seen import AsyncSeenStore, Record

    from .checking import Item, Terms
    from .entries import Entry, Source

_CLOSE = 0.001  # seconds: databases and exports round instants
_LEAST, _MOST = 0.001, 36_525 * 86_400.0  # the bounds of a TTL


@dataclass
class Written:
    """What the second pass has done.

    Attributes:
        marked: Number of keys that were not seen before.
        seen: Number of keys that were seen already, or that the input has repeated.
    """

    marked: int = 0
    seen: int = 0


@dataclass(frozen=True)
class Target:
    """Where the keys go.

    Attributes:
        store: The store; ``None`` is an empty one, for a dry run.
        terms: Those of the check.
        is_dry: Is nothing changed?
    """

    store: AsyncSeenStore | None
    terms: Terms
    is_dry: bool = False


async def write(
    source: Source, target: Target, advance: Callable[[int], None]
) -> Written:
    """Mark the keys of a source that has been checked."""
    written = Written()
    async for page in pages(source, advance):
        for namespace, items in _merged(page, target.terms, written).items():
            await _write_page(namespace, items, target, written)
    return written


def _merged(
    page: list[Entry], terms: Terms, written: Written
) -> dict[str, dict[str, Item]]:
    """Return the items of a page by namespace and key."""
    merged: dict[str, dict[str, Item]] = defaultdict(dict)
    for entry in page:
        if entry.state != "seen" or terms.is_over(item := terms.item(entry)):
            continue
        group = merged[item.namespace]
        earlier = group.get(item.key)
        if earlier is not None:
            written.seen += 1
            item = max(earlier, item, key=_order)
        group[item.key] = item
    return merged


def _order(item: Item) -> tuple[float, float]:
    return _or_never(item.expires), _or_never(item.seen)


async def _write_page(
    namespace: str,
    items: dict[str, Item],
    target: Target,
    written: Written,
) -> None:
    new = [*items]
    if target.store is not None:
        new = await target.store.filter_new(new, namespace=namespace)
    are_new = {*new}
    known = [item for key, item in items.items() if key not in are_new]
    written.marked += len(new)
    written.seen += len(known)
    if target.store is not None and not target.is_dry:
        page = _Page(target.store, namespace, target.terms)
        await page.mark([items[key] for key in new])
        await page.extend(known)


@dataclass(frozen=True)
class _Page:
    """Writes items of one namespace."""

    store: AsyncSeenStore
    namespace: str
    terms: Terms

    async def mark(self, items: list[Item]) -> None:
        """Mark keys; those with the same dates in one call."""
        items = [self._dated(item) for item in items]
        # The first mark makes the date of the first sighting, with the same expiry.
        firsts = [item._replace(seen=item.first) for item in items if item.first]
        for each in (firsts, items):
            groups = defaultdict(list)
            for item in each:
                groups[item.seen, item.expires].append(item)
            await asyncio.gather(*map(self._mark_group, groups.values()))

    async def _mark_group(self, items: list[Item]) -> None:
        seen, ttl, namespace = items[0].seen, self._ttl(items[0]), self.namespace
        if len(items) == 1:
            key, note = items[0].key, items[0].note
            await self.store.mark_seen(
                key, seen, ttl=ttl, note=note, namespace=namespace
            )
            return
        notes = {item.key: item.note for item in items if item.note is not None}
        await self.store.mark_many(
            [item.key for item in items],
            seen,
            ttl=ttl,
            note=notes.get if notes else None,
            namespace=namespace,
        )

    def _dated(self, item: Item) -> Item:
        """Date an item that has an expiry of its own, and no date, by the command."""
        if item.seen is not None or self.terms.counts_from_now(item):
            return item
        return item._replace(seen=self.terms.now)

    def _ttl(self, item: Item) -> float | None:
        if item.seen is None:
            return self.terms.ttl
        if item.expires is None:
            return None
        return min(max(item.expires - item.seen, _LEAST), _MOST)

    async def extend(self, items: list[Item]) -> None:
        """Give keys that are seen the later date and the later expiry of the two."""
        plain: list[Item] = []
        others: list[Item] = []
        for item in items:
            is_plain = item.note is None and self.terms.counts_from_now(item)
            (plain if is_plain else others).append(item)
        if plain:
            keys, ttl = [item.key for item in plain], self.terms.ttl
            await self.store.refresh(keys, ttl=ttl, namespace=self.namespace)
        calls = (self.store.get(item.key, namespace=self.namespace) for item in others)
        records = await asyncio.gather(*calls)
        now = self.terms.now
        joined = [_joined(*pair, now) for pair in zip(others, records, strict=True)]
        await self.mark([item for item in joined if item is not None])


def _joined(item: Item, record: Record | None, now: float) -> Item | None:
    """Return what a key that is seen becomes; ``None`` if it stays as it is."""
    if record is None or record.state != "seen":
        return item  # it has just ended
    seen = max(record.last_seen, now if item.seen is None else item.seen)
    stored, wanted = _or_never(record.expires_at), _or_never(item.expires)
    is_later = wanted > stored + _CLOSE or seen > record.last_seen + _CLOSE
    note = item.note if record.note is None else None
    if not is_later and note is None:
        return None
    expires = record.expires_at if stored >= wanted else item.expires
    return item._replace(seen=seen, first=None, expires=expires, note=note)


def _or_never(instant: float | None) -> float:
    return math.inf if instant is None else instant
