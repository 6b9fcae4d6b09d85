"""Stores on PostgreSQL, and connections of other programs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg

from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreError

from .servers import Postgres
from .targets import Target

SOON = 10.0


def at(place: Target | Postgres, **settings: object) -> AsyncSeenStore:
    """Return a store on a server, without a background purge or a cache.

    Its batches wait for locked rows, so that a test can see them wait.
    """
    config = {
        "purge_interval": None,
        "recent_staleness": 0,
        "timeout": SOON,
        **settings,
    }
    if isinstance(place, Postgres):
        return AsyncSeenStore(SeenStoreConfig(url=place.url, **config))  # type: ignore[arg-type]
    waiting = replace(place.settings.tuning, lock_patience=60)
    return AsyncSeenStore(place.config(**{"tuning": waiting, **config}))


@asynccontextmanager
async def connected(url: str | None) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection of another program."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def named(
    connection: asyncpg.Connection, place: Target, namespace: str = ""
) -> int:
    """Return the id of a namespace, which is inserted if there is none."""
    table = f'"{place.settings.schema}".namespace'
    await connection.execute(
        f"INSERT INTO {table} (name) VALUES ($1) ON CONFLICT DO NOTHING", namespace
    )
    id_: int = await connection.fetchval(
        f"SELECT id FROM {table} WHERE name = $1", namespace
    )
    return id_


def places_log(place: Target) -> str:
    """Return the log of the shared server."""
    server = getattr(place.wipe, "func", None)
    return str(server.__self__.log) if server else ""


async def until_blocked(connection: asyncpg.Connection) -> None:
    """Wait until another connection of the server waits for a lock."""
    async with asyncio.timeout(60):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        ):
            await asyncio.sleep(0.01)


async def until_read_only(server: Postgres, setting: str) -> None:
    """Wait until the read-only default of new transactions is "on" or "off"."""
    async with asyncio.timeout(60):
        while server.execute("SHOW default_transaction_read_only") != [[(setting,)]]:
            await asyncio.sleep(0.01)


async def opened(place: Target | Postgres, **settings: object) -> AsyncSeenStore:
    """Open a store whose timeout may be too short to open on a busy machine."""
    async with asyncio.timeout(60):
        while True:
            store = at(place, **settings)
            try:
                await store.open()
            except StoreError:
                continue
            return store
