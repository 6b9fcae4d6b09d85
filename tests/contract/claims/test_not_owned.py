"""Blocks of false claims, ``required``, and the block of ``claim_many``."""

from __future__ import annotations

import asyncio

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    ClaimNotOwnedError,
    SeenStore,
    Verdict,
)

from ...support.clock import Clock
from ...support.targets import Target


class TestFalseBlock:
    """A block that never asks whether it owns its claim."""

    async def test_block_that_read_nothing_raises_at_its_end(
        self, store: AsyncSeenStore
    ) -> None:
        """The second of two such blocks raises, with key, namespace and verdict."""
        async with store.claim("k", namespace="n"):
            pass
        with pytest.raises(ClaimNotOwnedError, match=r"if claim:") as caught:
            async with store.claim("k", namespace="n"):
                pass
        assert (caught.value.key, caught.value.namespace) == ("k", "n")
        assert caught.value.verdict is Verdict.DUPLICATE
        assert caught.value.retry_after is None

    async def test_error_says_when_to_retry(self, store: AsyncSeenStore) -> None:
        """For a key in flight, the error has the seconds until it may be claimed."""
        await store.claim("k", lease=60)
        with pytest.raises(ClaimNotOwnedError) as caught:
            async with store.claim("k"):
                pass
        assert caught.value.verdict is Verdict.IN_FLIGHT
        assert caught.value.retry_after == 60

    @pytest.mark.parametrize("read", [bool, lambda claim: claim.verdict])
    async def test_block_that_asked_ends_quietly(
        self, store: AsyncSeenStore, read: type[bool]
    ) -> None:
        """Truth or verdict, read anywhere in the block, is enough."""
        await store.mark_seen("k")
        async with store.claim("k") as claim:
            assert not read(claim) or claim.verdict is Verdict.DUPLICATE

    async def test_repr_is_not_a_question(self, store: AsyncSeenStore) -> None:
        """A claim that is only printed or logged was not asked."""
        await store.mark_seen("k")
        with pytest.raises(ClaimNotOwnedError):
            async with store.claim("k") as claim:
                assert "duplicate" in f"{claim!r} {claim}"

    async def test_exception_of_the_block_comes_first(
        self, store: AsyncSeenStore
    ) -> None:
        """A block that raised keeps its own exception."""
        await store.mark_seen("k")
        with pytest.raises(LookupError):
            async with store.claim("k"):
                raise LookupError

    async def test_ten_blocks_handle_one_key_once(self, store: AsyncSeenStore) -> None:
        """Of ten callers with ``required``, one runs its block."""
        handled = []

        async def work(number: int) -> None:
            async with store.claim("k", required=True):
                handled.append(number)
                await asyncio.sleep(0)

        results = await asyncio.gather(*map(work, range(10)), return_exceptions=True)
        assert len(handled) == 1
        refused = [one for one in results if isinstance(one, ClaimNotOwnedError)]
        assert len(refused) == 9

    async def test_required_by_hand(self, store: AsyncSeenStore) -> None:
        """An awaited claim that is required raises as well, and changes nothing."""
        claim = await store.claim("k", required=True)
        with pytest.raises(ClaimNotOwnedError, match="required"):
            await store.claim("k", required=True)
        await claim.confirm()


class TestManyBlock:
    """``async with store.claim_many(keys) as claims``."""

    async def test_block_yields_the_owned_claims(self, store: AsyncSeenStore) -> None:
        """Only what is owned is yielded; its blocks confirm, the rest is released."""
        await store.mark_seen("seen")
        async with store.claim_many(["a", "seen", "b", "c", "a"]) as claims:
            assert [claim.key for claim in claims] == ["a", "b", "c"]
            async with claims[0]:
                pass
            await claims[1].confirm()
        assert await store.filter_new(["a", "b", "c"]) == ["c"]
        assert (await store.claim("c")).verdict is Verdict.RETRY

    @pytest.mark.parametrize("exit_", [LookupError, asyncio.CancelledError])
    async def test_exception_releases_the_rest(
        self, store: AsyncSeenStore, exit_: type[BaseException]
    ) -> None:
        """An exception in an inner block releases its claim and all later ones."""
        with pytest.raises(exit_):
            async with store.claim_many(["a", "b", "c"]) as claims:
                async with claims[0]:
                    pass
                async with claims[1]:
                    raise exit_
        assert await store.filter_new(["a", "b", "c"]) == ["b", "c"]
        claims = await store.claim_many(["b", "c"])
        assert [claim.verdict for claim in claims] == [Verdict.RETRY] * 2

    async def test_release_with_delay_is_kept(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A claim that was released by hand, with a delay, is not released again."""
        async with store.claim_many(["a"]) as (claim,):
            await claim.release(delay=30)
            clock.advance(10)
        assert (await store.claim("a")).retry_after == 20
        clock.advance(20)
        assert await store.claim("a")

    async def test_lost_claim_stays_with_its_new_owner(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """The end of the block releases nothing that another caller owns by now."""
        async with store.claim_many(["a"], lease=5):
            clock.advance(5)
            other = await store.claim("a")
        assert other.remaining() == 60
        await other.confirm()

    async def test_empty_block(self, store: AsyncSeenStore) -> None:
        """Nothing to claim is an empty block."""
        await store.mark_seen("seen")
        async with store.claim_many(["seen"]) as claims:
            assert claims == []


class TestBlocking:
    """The same on the blocking twin."""

    def test_false_block_raises(self, target: Target) -> None:
        """A block without the claim raises at its end, or before it if required."""
        with SeenStore(target.config()) as store:
            with store.claim("k") as claim:
                assert claim
            with pytest.raises(ClaimNotOwnedError), store.claim("k"):
                pass
            with pytest.raises(ClaimNotOwnedError):
                store.claim("k", required=True)
            with store.claim("k") as claim:
                assert claim.verdict is Verdict.DUPLICATE

    def test_many_as_a_block(self, target: Target) -> None:
        """What no inner block settles is released."""
        with SeenStore(target.config()) as store:
            store.mark_seen("seen")
            with store.claim_many(["a", "seen", "b"]) as claims, claims[0]:
                assert [claim.key for claim in claims] == ["a", "b"]
            assert store.filter_new(["a", "b"]) == ["b"]
            assert store.claim("b").verdict is Verdict.RETRY

    def test_exception_releases_the_rest(self, target: Target) -> None:
        """An exception in an inner block propagates, and nothing stays in flight."""
        with SeenStore(target.config()) as store:
            with (
                pytest.raises(LookupError),
                store.claim_many(["a", "b"]) as claims,
                claims[0],
            ):
                raise LookupError
            assert [bool(claim) for claim in store.claim_many(["a", "b"])] == [True] * 2


async def test_claim_of_an_owner_reads_as_before(store: AsyncSeenStore) -> None:
    """A block of an owned claim need not be asked."""
    async with store.claim("k") as claim:
        assert isinstance(claim, Claim)
    assert await store.is_seen("k")
