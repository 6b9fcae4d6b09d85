"""Claims without a block: taken, renewed and confirmed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    LeaseLostError,
    OutcomeUnknownError,
    Verdict,
)

from ...support.clock import DAY, NOON, Clock
from ...support.sqlite_faults import SqliteFaults
from ...support.targets import Target
from ...support.waiting import verdict


class TestByHand:
    """``await store.claim(key)``."""

    @pytest.mark.parametrize(
        "wrap",
        [
            asyncio.create_task,
            asyncio.ensure_future,
            asyncio.gather,
            lambda claim: asyncio.wait_for(claim, 5),
        ],
        ids=["create_task", "ensure_future", "gather", "wait_for"],
    )
    async def test_claim_is_awaitable_everywhere(
        self, store: AsyncSeenStore, wrap: Callable[[Any], Awaitable[Any]]
    ) -> None:
        """A claim is accepted by everything in asyncio that awaits coroutines."""
        taken = await wrap(store.claim("k"))
        (claim,) = taken if isinstance(taken, list) else [taken]
        assert claim
        assert repr(claim) == "<Claim 'k' new attempt=1 remaining=60.000>"
        other = await store.claim("k")
        assert repr(other) == "<Claim 'k' in_flight attempt=1 retry_after=60.000>"
        with pytest.raises(LeaseLostError, match="never owned, its verdict is in_fli"):
            await other.confirm()

    async def test_claim_without_await_has_no_truth(
        self, store: AsyncSeenStore
    ) -> None:
        """A claim that was not awaited is neither true nor false."""
        claiming: Any = store.claim("k")
        with pytest.raises(TypeError, match=r"await store\.claim"):
            assert claiming
        with pytest.raises(AttributeError, match=r"'confirm': .* not acquired yet"):
            claiming.confirm()
        assert "await store.claim" in repr(claiming)
        claiming.close()
        assert await verdict(store) is Verdict.NEW

    async def test_remaining_counts_down(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """The remaining time falls to zero by the store's clock; renew restarts it."""
        claim = await store.claim("k", lease=10)
        clock.advance(4)
        assert claim.remaining() == 6
        await claim.renew()
        assert claim.remaining() == 10
        await claim.renew(2)
        assert (claim.remaining(), claim.lease_until) == (2, NOON + 6)
        clock.advance(5)
        assert claim.remaining() == 0
        await claim.renew()
        await claim.release()
        assert claim.remaining() == 0

    async def test_ttl_counts_from_the_confirm(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """The TTL counts from the confirm, first_seen from the first claim."""
        claim = await store.claim("k")
        clock.advance(30)
        await claim.confirm(ttl=None)
        record = await store.get("k")
        assert record is not None
        assert (record.first_seen, record.last_seen) == (NOON, NOON + 30)
        assert record.expires_at is None

    async def test_abandoned_claim_is_purged(
        self, store: AsyncSeenStore, target: Target, clock: Clock
    ) -> None:
        """An abandoned claim is purged one TTL after the end of its lease."""
        await store.claim("k", lease=60)
        clock.advance(60 + DAY - 1)
        assert await store.purge_expired() == 0
        clock.advance(1)
        assert await store.purge_expired() == target.removed(1)
        assert await verdict(store) is Verdict.NEW

    @pytest.mark.parametrize("is_done", [False, True])
    async def test_confirm_of_unknown_outcome_is_repeatable(
        self, faulty: AsyncSeenStore, faults: SqliteFaults, *, is_done: bool
    ) -> None:
        """A confirm whose commit met an I/O error is an error, and can be repeated.

        The block that ends with the confirm raises the error, and does not release.
        """
        with pytest.raises(OutcomeUnknownError, match="Ask again"):
            async with faulty.claim("k") as claim:
                faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC", [is_done])
        assert await faulty.is_seen("k") is is_done
        assert "release" not in (await faulty.stats()).operations
        await claim.confirm()
        assert await faulty.is_seen("k")

    @pytest.mark.parametrize("are_done", [[True], [True, False]], ids=[1, 2])
    async def test_claim_of_unknown_outcome_is_released(
        self, faulty: AsyncSeenStore, faults: SqliteFaults, are_done: list[bool]
    ) -> None:
        """A claim whose commit met an I/O error is released, if it was stored.

        The same holds if the release meets another I/O error.
        """
        faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC", are_done)
        with pytest.raises(OutcomeUnknownError):
            await faulty.claim("k")
        claim = await faulty.claim("k")
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)
