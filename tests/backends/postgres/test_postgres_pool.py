"""Stores on an asyncpg pool of the user's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import pytest

from catalyst_seen import AsyncSeenStore, OutcomeUnknownError, StoreUnavailableError
from catalyst_seen.backends.postgres import PostgresBackend

from ...support.postgres_stores import connected, until_blocked
from ...support.targets import Target


class TestOwnPool:
    """A pool of the user's."""

    async def test_pool_is_used_and_never_closed(self, place: Target) -> None:
        """The pool is used, never closed, and its connections keep their settings."""
        url = place.settings.url
        async with asyncpg.create_pool(
            url, min_size=1, max_size=1, server_settings={"lock_timeout": "1234"}
        ) as pool:
            config = place.config(purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                assert await store.check_and_mark("k")
                assert not any(await store.check_and_mark_many(["k", "k"]))
                assert store.location.startswith("postgresql://")
            assert await pool.fetchval("SHOW lock_timeout") == "1234ms"
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                assert await store.is_seen("k")

    async def test_exhausted_pool_is_an_error(self, place: Target) -> None:
        """A pool without a free connection until the timeout is an error."""
        async with asyncpg.create_pool(
            place.settings.url, min_size=1, max_size=1
        ) as pool:
            config = place.config(timeout=2, purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                async with pool.acquire():
                    with pytest.raises(StoreUnavailableError, match="your pool"):
                        await store.check_and_mark("k")
                assert await store.check_and_mark("k")

    async def test_settings_last_for_one_transaction(self, place: Target) -> None:
        """Settings end with the transaction, even in a pool that resets nothing."""

        async def keep_settings(_: asyncpg.Connection) -> None:
            pass

        async with asyncpg.create_pool(
            place.settings.url,
            min_size=1,
            max_size=1,
            reset=keep_settings,
            server_settings={"lock_timeout": "1234"},
        ) as pool:
            config = place.config(purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                assert await store.check_and_mark("k")
                assert not all(await store.check_and_mark_many(["l", "l"]))
                assert await store.count() == 2
            for name, value in (
                ("lock_timeout", "1234ms"),
                ("enable_seqscan", "on"),
                ("plan_cache_mode", "auto"),
                ("transaction_read_only", "off"),
            ):
                assert await pool.fetchval(f"SHOW {name}") == value

    async def test_serializable_pool_still_works(self, place: Target) -> None:
        """A store works whatever the default isolation of the pool is."""
        table = f'"{place.settings.schema}".seen'
        async with asyncpg.create_pool(
            place.settings.url,
            min_size=1,
            max_size=2,
            server_settings={"default_transaction_isolation": "serializable"},
        ) as pool:
            config = place.config(timeout=30, purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                claim = await store.claim("k")
                async with connected(place.settings.url) as other:
                    async with other.transaction():
                        await other.execute(f"UPDATE {table} SET last_seen = 1")
                        confirming = asyncio.ensure_future(claim.confirm())
                        await until_blocked(other)
                    await confirming
                    assert await store.is_seen("k")

    async def test_lock_timeout_applies_to_pool(self, place: Target) -> None:
        """On a connection of the pool, a lock wait ends at the timeout of the store."""
        table = f'"{place.settings.schema}".seen'
        async with asyncpg.create_pool(
            place.settings.url, min_size=1, max_size=2
        ) as pool:
            config = place.config(timeout=2, purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                claim = await store.claim("k")
                async with connected(place.settings.url) as other, other.transaction():
                    await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                    with pytest.raises(
                        StoreUnavailableError, match="pg_stat_activity"
                    ) as caught:
                        await claim.confirm()
                    assert not isinstance(caught.value, OutcomeUnknownError)

    async def test_pool_closed_under_store_is_an_error(self, place: Target) -> None:
        """A pool that is closed under an open store is an error that names it."""
        pool = await asyncpg.create_pool(place.settings.url, min_size=1, max_size=2)
        config = place.config(purge_interval=None, recent_staleness=0)
        async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
            await store.mark_seen("k")
            await pool.close()
            calls: list[Callable[[], Awaitable[object]]] = [
                partial(store.check_and_mark, "k"), partial(store.claim, "k"),
                store.count,
            ]  # fmt: skip
            for call in calls:
                with pytest.raises(StoreUnavailableError, match="your pool") as caught:
                    await call()
                assert not isinstance(caught.value, OutcomeUnknownError)
            assert await store.is_seen("k") is False

    async def test_uninitialised_pool_is_refused(self, place: Target) -> None:
        """A pool that was never initialised is refused when the store opens."""
        pool = asyncpg.create_pool(place.settings.url)
        store = AsyncSeenStore(PostgresBackend(pool, place.config()))
        with pytest.raises(StoreUnavailableError, match=r"your pool: .*not init"):
            await store.open()

    def test_other_target_types_are_refused(self) -> None:
        """A target that is neither a URL nor a pool is refused."""
        with pytest.raises(TypeError, match="must be a URL"):
            PostgresBackend(object())
