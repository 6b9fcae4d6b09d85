"""Valkey by hand, through redis-py; and idemkit, which uses redis-py.

On a server each contestant begins with no keys, and with its connections open.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from idemkit.backends.redis import RedisBackend
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster

from . import LEASE, TTL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.arena import Arena
    from benchmarks.servers import Server

CONNECTIONS = 100

# Marks the key as handled, if the caller still owns it.
_CONFIRM = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'seen', 'EX', ARGV[2])
return 1
"""


@asynccontextmanager
async def connected(
    server: Server, pool: type[ConnectionPool] = ConnectionPool
) -> AsyncIterator[Redis]:
    """Return a client of an empty server, with all its connections open.

    Args:
        server: A server on a socket.
        pool: A plain pool serves as many tasks as it has connections, and refuses more;
            a blocking pool lets further tasks wait, and is slower for few tasks.
    """
    server.clear()
    connections = pool.from_url(
        server.url.removeprefix("valkey+"), max_connections=CONNECTIONS
    )
    async with Redis.from_pool(connections) as client:
        await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS)))
        yield client


class RedisPy:
    """redis-py with its pool of connections, a command for each key."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        """Use a connected client."""
        self._client = client
        self._confirm = client.register_script(_CONFIRM)

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's server that writes its log to the disk."""
        async with connected(arena.servers.valkey) as client:
            yield cls(client)

    @classmethod
    @asynccontextmanager
    async def opened_in_memory(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the server that writes nothing to the disk."""
        async with connected(arena.servers.valkey_in_memory) as client:
            yield cls(client)

    @classmethod
    @asynccontextmanager
    async def opened_for_many(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to that server, for more tasks than there are connections."""
        server = arena.servers.valkey_in_memory
        async with connected(server, BlockingConnectionPool) as client:
            yield cls(client)

    @classmethod
    @asynccontextmanager
    async def opened_on_cluster(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's cluster, with as many connections to each node."""
        server = arena.servers.cluster
        server.clear()
        url = server.url.replace("valkey+cluster", "redis")
        async with RedisCluster.from_url(url, max_connections=CONNECTIONS) as client:
            pings = (
                client.ping(target_nodes=RedisCluster.PRIMARIES)
                for _ in range(CONNECTIONS)
            )
            await asyncio.gather(*pings)
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

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Set the items of a feed that are not there, in one pipeline."""
        return await self.check_and_mark_many([f"{namespace}|{key}" for key in keys])

    async def is_seen(self, key: str) -> bool:
        """Return whether a key exists."""
        return bool(await self._client.exists(key))

    async def claim_and_confirm(self, key: str) -> bool:
        """Set a new key to a token, and confirm if it still has that token."""
        token = secrets.token_hex(16)
        if not await self._client.set(key, token, nx=True, px=LEASE * 1000):
            return False
        return bool(await self._confirm(keys=[key], args=[token, TTL]))


class RedisPyByTag(RedisPy):
    """The same; a hash tag keeps the items of a feed on one node of a cluster."""

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Set the items of a feed that are not there, in one pipeline to one node."""
        tag = f"{{{namespace}}}"
        return await self.check_and_mark_many([f"{tag}|{key}" for key in keys])


class Idemkit:
    """idemkit's Redis backend, without its upper layers."""

    def __init__(self, backend: RedisBackend) -> None:
        """Use a connected backend."""
        self._backend = backend

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's server that writes nothing to the disk."""
        async with connected(arena.servers.valkey_in_memory) as client:
            yield cls(RedisBackend(client))

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Claim and complete one item of a feed after the other."""
        return sum([await self.claim_and_confirm(f"{namespace}|{key}") for key in keys])

    async def claim_and_confirm(self, key: str) -> bool:
        """Claim a key and complete it with an empty response."""
        claim = await self._backend.claim(key, "", 1, LEASE)
        if claim.our_claim_token is None:
            return False
        return await self._backend.complete(
            key, claim.our_claim_token, 200, {}, b"", TTL
        )
