"""``create=False`` on every backend: an open makes no database, or is refused."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, ConfigurationError, StoreUnavailableError

from ..support.targets import Target


async def test_missing_database(target: Target) -> None:
    """Where there is a database to make, none is made; elsewhere it has no effect."""
    if target.name in {"valkey", "cluster", "reference"}:
        with pytest.raises(ConfigurationError, match="create: False has no effect"):
            AsyncSeenStore(target.config(create=False))
        return
    for _ in range(2):  # the first attempt has made nothing either
        with pytest.raises(StoreUnavailableError, match=r"there is no .*create=False"):
            await AsyncSeenStore(target.config(create=False)).open()


async def test_existing_database(shared: Target) -> None:
    """A database that is there is opened."""
    async with AsyncSeenStore(shared.config()) as store:
        await store.mark_seen("k")
    if shared.name in {"file", "postgres"}:
        async with AsyncSeenStore(shared.config(create=False)) as store:
            assert await store.is_seen("k")
