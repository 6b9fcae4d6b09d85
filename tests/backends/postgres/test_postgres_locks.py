"""Rows that a transaction of the user's has locked: only calls on them wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from catalyst_seen import AsyncSeenStore, ErrorCount, StoreUnavailableError
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import Renew

from ...support.backends import Batch, intercepted
from ...support.postgres_stores import at, connected
from ...support.targets import Target

Apply = Callable[[], Awaitable[BatchResult]]


@pytest.fixture
async def store(place: Target) -> AsyncIterator[AsyncSeenStore]:
    """A store that sets calls on locked keys aside."""
    async with at(place, timeout=60, tuning=Tuning()) as made:
        yield made


async def test_other_keys_do_not_wait(store: AsyncSeenStore, place: Target) -> None:
    """Calls on other keys complete, in the same batch and later; the rest waits."""
    claim = await store.claim("k")
    async with connected(place.settings.url) as own:
        async with own.transaction():
            await claim.confirm(connection=own)
            waiting = [
                asyncio.create_task(store.mark_seen("k")),
                asyncio.create_task(store.mark_many(["a", "k", "a"])),
                asyncio.create_task(store.forget("k", namespace="other")),
            ]
            await waiting.pop()
            await asyncio.gather(*(store.mark_seen(f"b{one}") for one in range(9)))
            for number in range(3):
                await store.mark_seen(f"c{number}")
            assert await store.cleanup_old_entries(1) == 0
            assert not any(task.done() for task in waiting)
            assert not await store.is_seen("a")  # a call is done whole, or not at all
        await asyncio.gather(*waiting)
    assert await store.filter_new(["a", "k"]) == []


async def test_locked_key_fails_in_time(place: Target) -> None:
    """A call on a key that stays locked names the remedy; nothing of it is stored."""
    async with at(place, timeout=1, tuning=Tuning()) as store:
        claim = await store.claim("k")
        async with connected(place.settings.url) as own, own.transaction():
            await claim.confirm(connection=own)
            calls = (store.mark_seen("k"), store.mark_many(["a", "k"]))
            for result in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(result, StoreUnavailableError)
                assert "pg_stat_activity" in str(result)
            assert not await store.is_seen("a")
            metrics = store.metrics()
            assert metrics.errors == {ErrorCount("mark", "locked"): 2}
            assert metrics.alarms == ()  # the database is well


async def test_block_that_confirms_in_a_transaction_is_not_renewed(
    store: AsyncSeenStore, place: Target
) -> None:
    """After a confirm in the user's transaction nothing is renewed, nothing lost."""
    renewals = 0

    async def count(batch: Batch, apply: Apply) -> BatchResult:
        nonlocal renewals
        renewals += sum(isinstance(operation, Renew) for operation in batch)
        return await apply()

    async with (
        connected(place.settings.url) as own,
        store.claim("k", lease=0.9, keep_alive=True) as claim,
    ):
        async with own.transaction():
            await claim.confirm(connection=own)
            with intercepted(store, count):
                await asyncio.sleep(1)  # longer than the lease
        with intercepted(store, count):
            await asyncio.sleep(1)
    assert renewals == 0
    assert await store.is_seen("k")


async def test_block_of_many_releases_no_confirm_in_a_transaction(
    store: AsyncSeenStore, place: Target
) -> None:
    """What the user's transaction decides is not released at the end of the block."""
    async with connected(place.settings.url) as own:
        async with own.transaction(), store.claim_many(["k", "left"]) as claims:
            await claims[0].confirm(connection=own)
        assert await store.filter_new(["k", "left"]) == ["left"]
    assert (await store.stats()).operations["release"] == 1


async def test_failed_confirm_in_a_transaction_goes_on_renewing(
    store: AsyncSeenStore, place: Target
) -> None:
    """A confirm that the transaction refuses leaves the lease to be renewed."""
    async with (
        connected(place.settings.url) as own,
        store.claim("k", lease=1.5, keep_alive=True) as claim,
    ):
        transaction = own.transaction()
        await transaction.start()
        with pytest.raises(Exception, match="syntax"):
            await own.execute("no SQL")
        with pytest.raises(StoreUnavailableError, match="Roll your transaction back"):
            await claim.confirm(connection=own)
        await transaction.rollback()
        until = claim.lease_until or 0.0
        async with asyncio.timeout(60):
            while (claim.lease_until or 0.0) <= until:
                await asyncio.sleep(0.01)
    assert await store.is_seen("k")
