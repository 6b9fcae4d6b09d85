"""PostgreSQL by hand, through asyncpg.

The table is as small as possible for the same job: a key, its expiry, and for claims a
token and the end of the lease. Expired rows would be removed by a periodic ``DELETE``
without an index, which is not part of the measurement.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import asyncpg

from . import LEASE, TTL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from benchmarks.arena import Arena

CONNECTIONS = 10
CONNECTIONS_TUNED = 20

_CREATE = """CREATE TABLE public.seen (
    id text PRIMARY KEY, expires_at timestamptz NOT NULL,
    token text, lease_until timestamptz)"""
_EXPIRES = f"now() + interval '{TTL} seconds'"
_MARK = f"""INSERT INTO public.seen (id, expires_at) VALUES ($1, {_EXPIRES})
    ON CONFLICT DO NOTHING RETURNING true"""
_MARK_MANY = f"""INSERT INTO public.seen (id, expires_at)
    SELECT unnest($1::text[]), {_EXPIRES} ON CONFLICT DO NOTHING RETURNING id"""
_CLAIM = f"""INSERT INTO public.seen AS old (id, expires_at, token, lease_until)
    VALUES ($1, {_EXPIRES}, $2, now() + interval '{LEASE} seconds')
    ON CONFLICT (id) DO UPDATE
    SET token = excluded.token, lease_until = excluded.lease_until
    WHERE old.lease_until <= now() RETURNING true"""
_CONFIRM = f"""UPDATE public.seen SET expires_at = {_EXPIRES}, lease_until = NULL
    WHERE id = $1 AND token = $2 RETURNING true"""


@asynccontextmanager
async def _connected(
    arena: Arena,
    connections: int,
    reset: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
) -> AsyncIterator[asyncpg.Pool]:
    """Return a pool with open connections, on a server with an empty table."""
    server = arena.servers.postgres
    server.clear()
    async with asyncpg.create_pool(
        server.url, min_size=connections, max_size=connections, reset=reset
    ) as pool:
        await pool.execute(_CREATE)
        yield pool


async def _keep(_: asyncpg.Connection) -> None:
    """Do not reset a connection: that costs one more round trip per statement."""


class Asyncpg:
    """asyncpg with its pool of connections, a statement for each key."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Use a pool whose connections are open."""
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's server, and create the table."""
        async with _connected(arena, CONNECTIONS) as pool:
            yield cls(pool)

    @classmethod
    @asynccontextmanager
    async def opened_tuned(cls, arena: Arena) -> AsyncIterator[Self]:
        """The same with more connections, which the pool does not reset after use."""
        async with _connected(arena, CONNECTIONS_TUNED, reset=_keep) as pool:
            yield cls(pool)

    async def check_and_mark(self, key: str) -> bool:
        """Insert a key that is not there."""
        return bool(await self._pool.fetchval(_MARK, key))

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Insert the keys that are not there, in one statement."""
        return len(await self._pool.fetch(_MARK_MANY, keys))

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Insert the items of a feed that are not there, in one statement."""
        return await self.check_and_mark_many([f"{namespace}|{key}" for key in keys])

    async def claim_and_confirm(self, key: str) -> bool:
        """Insert a key with a token, and confirm if it still has that token."""
        token = secrets.token_hex(16)
        if not await self._pool.fetchval(_CLAIM, key, token):
            return False
        return bool(await self._pool.fetchval(_CONFIRM, key, token))
