"""Claims of many keys: taken, confirmed and released in batches."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    StoreUnavailableError,
    Verdict,
)

from ...support.clock import Clock
from ...support.locks import write_lock
from ...support.targets import Target
from ...support.waiting import verdict


class TestMany:
    """claim_many, confirm_many, release_many."""

    async def test_claim_many_returns_a_claim_per_key(
        self, store: AsyncSeenStore
    ) -> None:
        """A batch returns a claim per key, in order; a repeated key is in flight."""
        await store.mark_seen("seen")
        claims = await store.claim_many(["a", "seen", "b", "a"], lease=5, ttl=60)
        assert [(claim.key, claim.verdict) for claim in claims] == [
            ("a", Verdict.NEW),
            ("seen", Verdict.DUPLICATE),
            ("b", Verdict.NEW),
            ("a", Verdict.IN_FLIGHT),
        ]
        assert claims[3].retry_after == 5
        assert len({claim.token for claim in claims}) == 4

    async def test_block_that_an_anyio_scope_cancels(
        self, store: AsyncSeenStore
    ) -> None:
        """All claims that are left are released, although each await is cancelled."""
        with anyio.CancelScope() as scope:
            async with store.claim_many(list("abcd")) as claims:
                for claim in claims:
                    async with claim:
                        if claim.key == "b":
                            scope.cancel()
                            await anyio.sleep_forever()
        assert scope.cancelled_caught
        verdicts = [await verdict(store, key) for key in "abcd"]
        assert verdicts == [Verdict.DUPLICATE, *[Verdict.RETRY] * 3]

    async def test_any_subset_is_confirmed_or_released(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Some claims are confirmed, some released; each has its own result."""
        claims = await store.claim_many(list("abcdef"), lease=5)
        clock.advance(5)
        await store.mark_seen("a")
        again = await store.claim("b")
        with capture_logs() as logs:
            assert await store.confirm_many(claims[:4], ttl=60) == [
                False, False, True, True,
            ]  # fmt: skip
        assert [(log["event"], log["lost"]) for log in logs] == [("claims_lost", 2)]
        assert await store.release_many(claims, delay=10) == [
            False, False, False, False, True, True,
        ]  # fmt: skip
        assert again.remaining() == 60
        assert await store.filter_new(list("abcdef")) == ["b", "e", "f"]
        assert (await store.claim("e")).retry_after == 10

    async def test_claims_of_many_batches_confirm_together(
        self, store: AsyncSeenStore
    ) -> None:
        """Claims of several calls and namespaces are confirmed together."""
        claims = [
            *await store.claim_many(["a"], namespace="n"),
            await store.claim("a"),
            *await store.claim_many(["a"]),  # in flight: not owned
        ]
        assert await store.confirm_many(iter(claims)) == [True, True, False]
        assert await store.confirm_many(claims[:2]) == [True, True]

    async def test_empty_claim_batches_do_nothing(self, store: AsyncSeenStore) -> None:
        """Batches without claims return no results and reach no backend."""
        assert await store.claim_many([]) == []
        assert await store.confirm_many([]) == []
        assert await store.release_many([]) == []
        assert (await store.stats()).operations == {}

    async def test_block_keeps_release_by_batch(self, store: AsyncSeenStore) -> None:
        """The end of a block does not change a claim that a batch released."""
        claims = await store.claim_many(["a", "b"])
        async with claims[0]:
            await store.release_many(claims)
        assert await store.filter_new(["a", "b"]) == ["a", "b"]

    async def test_failed_claim_batch_changes_nothing(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A batch that fails has claimed, confirmed or released nothing."""
        claims = await hasty.claim_many(map(str, range(1_000)))
        with write_lock(path):
            for call in (
                hasty.claim_many(["new", "more"]),
                hasty.confirm_many(claims),
                hasty.release_many(claims),
            ):
                with pytest.raises(StoreUnavailableError):
                    await call
        assert await hasty.claim_many(["new", "more"])
        stats = await hasty.stats()
        assert (stats.keys, stats.claimed) == (0, 1_002)
        async with claims[0]:  # what failed was the release, and so it is released
            pass
        assert await verdict(hasty, "0") is Verdict.RETRY
        assert (await hasty.confirm_many(claims)).count(True) == 999

    async def test_foreign_claims_are_refused(self, store: AsyncSeenStore) -> None:
        """Anything but a claim of this store is refused, with its position."""
        async with AsyncSeenStore(":memory:") as other:
            claims = [await store.claim("a"), await other.claim("b")]
        for verb in (store.confirm_many, store.release_many):
            with pytest.raises(ValueError, match=r"claims\[1\], <Claim 'b'"):
                await verb(claims)
            with pytest.raises(TypeError, match=r"claims\[0\] must be a Claim, not s"):
                await verb("a")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="an iterable of claims, not <Claim"):
                await verb(claims[0])  # type: ignore[arg-type]
        assert not await store.is_seen("a")

    @pytest.mark.slow
    async def test_large_claim_batch_is_one_call(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """A batch of 20,000 claims is one call; over the network, of 5,000."""
        half = 2_500 if target.is_server else 10_000
        claims = await store.claim_many(map(str, range(2 * half)))
        assert all(claims)
        assert sum(await store.confirm_many(claims[::2])) == half
        assert sum(await store.release_many(claims)) == half
        assert await store.count() == half
