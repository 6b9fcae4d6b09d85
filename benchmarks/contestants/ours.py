"""The store itself, with its default settings."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.arena import Arena
    from benchmarks.servers import Place

    from . import Opener


class Ours:
    """``AsyncSeenStore``."""

    def __init__(self, store: AsyncSeenStore) -> None:
        """Use an open store."""
        self.store = store

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Open it on the arena's file."""
        config = SeenStoreConfig(path=arena.file, synchronous=arena.synchronous)
        async with AsyncSeenStore(config) as store:
            yield cls(store)

    @classmethod
    def on(cls, place: Place) -> Opener[Self]:
        """Open it on an empty server."""

        @asynccontextmanager
        async def opened(arena: Arena) -> AsyncIterator[Self]:
            server = place(arena.servers)
            server.clear()
            async with AsyncSeenStore(server.url) as store:
                yield cls(store)

        return opened

    async def check_and_mark(self, key: str) -> bool:
        """Mark a key unless it is seen; true if it marked."""
        return bool(await self.store.check_and_mark(key))

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Mark the keys that are not seen; return their number."""
        return sum(map(bool, await self.store.check_and_mark_many(keys)))

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Mark the keys of a feed that are not seen; return their number."""
        sightings = await self.store.check_and_mark_many(keys, namespace=namespace)
        return sum(map(bool, sightings))

    async def is_seen(self, key: str) -> bool:
        """Return whether the key is seen."""
        return await self.store.is_seen(key)

    async def claim_and_confirm(self, key: str) -> bool:
        """Claim a key and confirm it; true if both worked."""
        claim = await self.store.claim(key)
        if claim:
            await claim.confirm()
        return bool(claim)


class OursByFilter(Ours):
    """The same store; a poll filters the listing, and marks what is new."""

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Mark the keys of a feed that are not seen; return their number."""
        new = await self.store.filter_new(keys, namespace=namespace)
        if new:
            await self.store.mark_many(new, namespace=namespace)
        return len(new)


class OursByClaims(Ours):
    """The same store; many keys are claimed and confirmed instead of marked."""

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Claim the keys that are not seen, and confirm them; return their number."""
        claims = [claim for claim in await self.store.claim_many(keys) if claim]
        return sum(await self.store.confirm_many(claims))
