"""Abandoned claims: the policies retry, hold and drop."""

from __future__ import annotations

from catalyst_seen import (
    AsyncSeenStore,
    Verdict,
)

from ...support.clock import DAY, Clock
from ...support.targets import Target
from ...support.waiting import verdict


class TestPolicies:
    """What becomes of abandoned claims."""

    async def test_policy_of_the_store_is_the_default(
        self, target: Target, clock: Clock
    ) -> None:
        """The policy of the store is that of its claims, unless a claim has its own."""
        async with AsyncSeenStore(target.config(), on_abandoned="hold") as store:
            await store.claim("k", lease=60)
            await store.claim_many(["many"], lease=60)
            await store.claim("drop", lease=60, on_abandoned="drop")
            await store.claim_many(["retry"], lease=60, on_abandoned="retry")
            clock.advance(60)
            verdicts = [await verdict(store, k) for k in ("k", "many", "drop", "retry")]
            assert verdicts == [
                Verdict.HELD, Verdict.HELD, Verdict.DUPLICATE, Verdict.RETRY,
            ]  # fmt: skip
            assert (await store.stats()).abandoned["hold"] == 2

    async def test_renewal_keeps_the_policy(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A renewed lease, also after its end, keeps the policy of the claim."""
        claim = await store.claim("k", lease=60, on_abandoned="hold")
        clock.advance(60)
        await claim.renew()
        clock.advance(60)
        assert await verdict(store) is Verdict.HELD

    async def test_held_lists_keys_in_order(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Held keys are listed in order, of one namespace or of all."""
        for namespace, key in (("n", "b"), ("", "z"), ("n", "a")):
            await store.claim(key, lease=60, on_abandoned="hold", namespace=namespace)
        clock.advance(59)
        await store.claim("live", lease=60, on_abandoned="hold", namespace="n")
        assert await store.held() == []
        clock.advance(1)
        ids = [(record.namespace, record.key) for record in await store.held()]
        assert ids == [("", "z"), ("n", "a"), ("n", "b")]
        assert [record.key for record in await store.held(namespace="n")] == ["a", "b"]
        await store.forget("a", namespace="n")
        await store.resolve("b", namespace="n", handled=False)
        assert [record.key for record in await store.held()] == ["z"]

    async def test_held_key_waits_for_resolve(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A held key stays held whatever the TTL, until it is resolved."""
        await store.claim("k", lease=60, ttl=60, on_abandoned="hold")
        clock.advance(1_000 * DAY)
        assert await store.purge_expired() == 0
        assert (await store.check_and_mark("k")).verdict is Verdict.HELD
        assert await store.resolve("k", handled=True, ttl=60)
        record = await store.get("k")
        assert record is not None
        assert record.expires_at == clock.now + 60
        assert not await store.resolve("k", handled=True)
