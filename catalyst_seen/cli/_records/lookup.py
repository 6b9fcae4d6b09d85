"""Finds the records of keys by their names, in one namespace or in all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalyst_seen import AsyncSeenStore, Record

T = TypeVar("T")

_CHUNK = 1_000  # keys of one call


async def names_of(store: AsyncSeenStore, namespace: str | None) -> list[str]:
    """Return the namespaces to look in: one, or all that have keys."""
    return await store.namespaces() if namespace is None else [namespace]


async def has_keys(store: AsyncSeenStore, namespace: str | None) -> bool:
    """Has a namespace a key, or any of all if it is ``None``?"""
    async for _ in store.records(namespace=namespace):
        return True
    return False


async def find(
    store: AsyncSeenStore, key: str, namespaces: Iterable[str]
) -> list[Record]:
    """Return the records of a key in some namespaces."""
    pairs = [(name, key) for name in namespaces]
    return [record for record in await find_many(store, pairs) if record]


async def find_many(
    store: AsyncSeenStore, pairs: Sequence[tuple[str, str]]
) -> list[Record | None]:
    """Return the record of each namespace and key; ``None`` for one that is unseen."""
    found: list[Record | None] = []
    for chunk in chunks(pairs):
        found += await asyncio.gather(*(_get(store, *pair) for pair in chunk))
    return found


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the parts of a sequence that go into one call each."""
    for first in range(0, len(items), _CHUNK):
        yield items[first : first + _CHUNK]


async def _get(store: AsyncSeenStore, namespace: str, key: str) -> Record | None:
    """Return the record of a key, also of one that only an older version has made."""
    if key == key.strip("\r\n"):
        return await store.get(key, namespace=namespace)
    async for record in store.records(prefix=key, namespace=namespace):
        if record.key == key:
            return record
    return None
