"""diskcache, called through threads or directly."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Self

from diskcache import Cache

from . import TTL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.arena import Arena


class DiskCache:
    """``Cache.add``, which adds a key unless it is there."""

    def __init__(self, cache: Cache) -> None:
        """Use an open cache."""
        self._cache = cache

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Open a cache in the arena's folder; it uses WAL and NORMAL by itself."""
        directory = str(arena.folder / "cache")
        with closing(Cache(directory, sqlite_cache_size=10_000)) as cache:
            yield cls(cache)

    def add(self, key: str) -> bool:
        """Add a key unless it is there; true if it was added."""
        return bool(self._cache.add(key, value=True, expire=TTL))

    async def check_and_mark(self, key: str) -> bool:
        """Add a key in a thread."""
        return await asyncio.to_thread(self.add, key)

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Add the items of a feed in one transaction, in a thread."""

        def add_all() -> int:
            with self._cache.transact():
                return sum([self.add(f"{namespace}|{key}") for key in keys])

        return await asyncio.to_thread(add_all)

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Add keys in one transaction."""
        with self._cache.transact():
            return sum(map(self.add, keys))


class DirectDiskCache(DiskCache):
    """The same without threads, for a process that does nothing else."""

    async def check_and_mark(self, key: str) -> bool:
        """Add a key."""
        return self.add(key)
