"""Waits for a condition of a store, without a pause of a fixed length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    StoreError,
    Verdict,
)
from catalyst_seen._engine.waiters import Waiter
from catalyst_seen.backends.operations import Get, Id

if TYPE_CHECKING:
    from .servers import Server


async def until(condition: Callable[..., bool]) -> None:
    """Wait until a condition holds; fail after a minute."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def operations(store: AsyncSeenStore, name: str, count: int) -> None:
    """Wait until a store has executed a number of operations of a kind."""
    async with asyncio.timeout(60):
        while (await store.stats()).operations.get(name, 0) < count:
            await asyncio.sleep(0.001)


async def verdict(store: AsyncSeenStore, key: str = "k") -> Verdict:
    """Return the verdict of a claim, which is released at once if it is owned."""
    claim = await store.claim(key)
    if claim:
        await claim.release()
    return claim.verdict


def waiting_callers(store: AsyncSeenStore) -> dict[Id, list[Waiter]]:
    """Return the callers that wait for each key; no figure shows them."""
    return store._dispatcher.waiters.waiting


async def waits_for_the_rest_only(store: AsyncSeenStore, server: Server) -> None:
    """Check that a batch with little time left fails soon, whatever the timeout is."""
    apply = store._lifecycle.backend.apply
    server.pause()
    async with asyncio.timeout(60):
        with pytest.raises(StoreError):
            await apply([Get("", "k")], sample_version=False, timeout=0.3)
    server.resume()
    assert await store.check_and_mark("k")
