"""Finds the records of keys by their names, in one namespace or in all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from catalyst_seen import AsyncSeenStore, Record

    from .._settings import Settings

T = TypeVar("T")

_CHUNK = 1_000  # keys of one call
_ASKED = 100


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


async def tell_ttl(
    settings: Settings, store: AsyncSeenStore, ids: Sequence[tuple[str, str]]
) -> None:
    """Say for how long keys are kept to which a command has given the tool's own TTL.

    What a feed lists has none. The first keys stand for all.
    """
    records = await find_many(store, ids[:_ASKED])
    if store.cfg.ttl is not None and any(one and one.expires_at for one in records):
        days = store.cfg.ttl / 86_400
        settings.say(
            f"kept for {days:g} days: --ttl says otherwise, as the TTL of your program"
            " is not known here"
        )


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
