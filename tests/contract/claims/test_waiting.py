"""Callers that wait until a claimed key is free."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    LeaseLostError,
    SeenStoreConfig,
    StoreUnavailableError,
    Verdict,
)

from ...support.sqlite_faults import SqliteFaults
from ...support.targets import Pair, Target
from ...support.waiting import operations, waiting_callers


class TestWait:
    """wait=seconds."""

    @pytest.mark.parametrize(
        ("end", "expected"),
        [
            ("confirm", Verdict.DUPLICATE),
            ("release", Verdict.RETRY),
            ("mark", Verdict.DUPLICATE),
            ("forget", Verdict.NEW),
            ("hold", Verdict.HELD),
        ],
    )
    async def test_waiter_is_woken_by_its_store(
        self,
        unpolled: AsyncSeenStore,
        end: str,
        expected: Verdict,
    ) -> None:
        """A waiter of the same store is woken: it claims once before and once after.

        A key that is seen then is read from the cache, which caches no key of a batch.
        """
        owner = await unpolled.claim("k")
        ends: dict[str, Callable[[], Awaitable[object]]] = {
            "confirm": owner.confirm,
            "release": owner.release,
            "mark": lambda: unpolled.mark_many(["other", "k"]),
            "forget": lambda: unpolled.forget("k"),
            "hold": owner.hold,
        }
        waiter = asyncio.create_task(unpolled.claim("k", wait=60))
        await operations(unpolled, "claim", 2)
        async with asyncio.timeout(30):
            await ends[end]()
            claim = await waiter
        assert claim.verdict is expected
        sent = 2 if end == "confirm" else 3
        assert (await unpolled.stats()).operations["claim"] == sent

    async def test_waiter_claims_at_the_end_of_the_lease(
        self, unpolled: AsyncSeenStore
    ) -> None:
        """A waiter claims the key as soon as the lease has ended."""
        owner = await unpolled.claim("k", lease=0.3)
        async with asyncio.timeout(30):
            claim = await unpolled.claim("k", wait=60)
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)
        with pytest.raises(LeaseLostError):
            await owner.confirm()

    async def test_wait_ends_in_flight(self, live: AsyncSeenStore) -> None:
        """A wait that ends without the key is IN_FLIGHT, after few operations."""
        await live.claim("k")
        started = time.monotonic()
        async with asyncio.timeout(30):  # the lease is 60 seconds
            claim = await live.claim("k", wait=1)
        assert claim.verdict is Verdict.IN_FLIGHT
        took = time.monotonic() - started
        assert took >= 1
        assert 3 <= (await live.stats()).operations["claim"] <= 12 * took

    @pytest.mark.slow
    async def test_waiter_polls_for_other_stores(self, pair: Pair) -> None:
        """A waiter notices a change by another store by a claim every second.

        The control is a caller that sleeps for a second between its claims.
        """
        store, other = pair
        ends = {"release": Verdict.RETRY, "confirm": Verdict.DUPLICATE}
        owners = [await other.claim(end) for end in ends]
        waiters = [asyncio.create_task(store.claim(end, wait=200)) for end in ends]
        await asyncio.sleep(2)  # by then the pauses have reached their maximum
        before = (await store.stats()).operations["claim"]
        for number in range(4):
            await asyncio.sleep(1)
            await other.claim(f"control {number}")
        claims = (await store.stats()).operations["claim"] - before
        assert claims >= 3 * len(waiters)
        async with asyncio.timeout(60):
            for owner, waiter in zip(owners, waiters, strict=True):
                await getattr(owner, owner.key)()
                assert (await waiter).verdict is ends[owner.key]

    async def test_one_waiter_claims_all_see_the_confirm(
        self, live: AsyncSeenStore
    ) -> None:
        """Of many waiters one claims a released key, and all see the confirm."""
        owner = await live.claim("k")
        waiters = [asyncio.create_task(live.claim("k", wait=50)) for _ in range(50)]
        await operations(live, "claim", 51)
        await owner.release()
        done, waiting = await asyncio.wait(waiters, return_when="FIRST_COMPLETED")
        (first,) = [task.result() for task in done]
        assert first.verdict is Verdict.RETRY
        assert len(waiting) == 49
        await asyncio.sleep(0.5)  # waiters that were woken without need wait again
        assert (await live.stats()).operations["claim"] < 50 * 12
        await first.confirm()
        verdicts = {claim.verdict for claim in await asyncio.gather(*waiting)}
        assert verdicts == {Verdict.DUPLICATE}

    async def test_many_waiters_poll_as_one(self, live: AsyncSeenStore) -> None:
        """Waiters of one key poll as often as one of them would alone."""
        owner = await live.claim("k")
        alone = await live.claim("alone")
        lone = asyncio.create_task(live.claim("alone", wait=60))
        waiters = [asyncio.create_task(live.claim("k", wait=60)) for _ in range(200)]
        await operations(live, "claim", 203)
        await operations(live, "claim", 203 + 8)
        # Each of two queues makes about half of these; 200 pollers make more at once.
        assert (await live.stats()).operations["claim"] < 203 + 40
        await asyncio.gather(owner.confirm(), alone.confirm())
        verdicts = {claim.verdict for claim in await asyncio.gather(lone, *waiters)}
        assert verdicts == {Verdict.DUPLICATE}
        assert not waiting_callers(live)

    async def test_poll_of_the_first_waiter_serves_all(self, pair: Pair) -> None:
        """What the first waiter finds, as a confirm elsewhere, ends all waits."""
        store, other = pair
        owner = await other.claim("k")
        waiters = [asyncio.create_task(store.claim("k", wait=60)) for _ in range(300)]
        await operations(store, "claim", 300)
        await owner.confirm()
        async with asyncio.timeout(30):
            claims = await asyncio.gather(*waiters)
        assert {claim.verdict for claim in claims} == {Verdict.DUPLICATE}

    async def test_poll_of_the_first_waiter_serves_all_at_once(
        self, path: Path
    ) -> None:
        """Without a cache, what the first one finds costs the others a few batches."""
        config = SeenStoreConfig(path, purge_interval=None, recent_staleness=0)
        async with AsyncSeenStore(config) as store, AsyncSeenStore(config) as other:
            owner = await other.claim("k")
            waiters = [
                asyncio.create_task(store.claim("k", wait=60)) for _ in range(300)
            ]
            await operations(store, "claim", 300)
            before = (await store.stats()).batches
            await owner.confirm()
            async with asyncio.timeout(60):
                claims = await asyncio.gather(*waiters)
            assert {claim.verdict for claim in claims} == {Verdict.DUPLICATE}
            assert (await store.stats()).batches - before < 100

    async def test_many_waiters_that_wake_let_others_run(self) -> None:
        """The end of a claim with a thousand waiters does not stop the loop."""
        turn, woken = 0, Counter[int]()

        async def other() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        async def wait(store: AsyncSeenStore) -> None:
            await store.claim("k", wait=60)
            woken[turn] += 1

        # The cache answers those that wake; a batch would wake its callers together.
        config = SeenStoreConfig(
            ":memory:", purge_interval=None, recent_staleness=3_600
        )
        async with AsyncSeenStore(config) as store:
            owner = await store.claim("k")
            waiters = [asyncio.create_task(wait(store)) for _ in range(1_000)]
            await operations(store, "claim", 1_001)
            others = asyncio.create_task(other())
            await owner.confirm()
            await asyncio.wait(waiters)
            others.cancel()
        assert woken.total() == 1_000
        assert max(woken.values()) <= 200

    async def test_waiters_are_served_in_order(self, unpolled: AsyncSeenStore) -> None:
        """A released key goes to the waiter that came first."""
        order: list[int] = []

        async def work(number: int) -> None:
            claim = await unpolled.claim("k", wait=60)
            order.append(number)
            await claim.release()

        owner = await unpolled.claim("k")
        tasks = []
        for number in range(10):
            tasks.append(asyncio.create_task(work(number)))
            await operations(unpolled, "claim", 2 + number)
        await owner.release()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
        assert order == list(range(10))

    async def test_claim_that_would_wait_for_itself_raises(
        self, live: AsyncSeenStore
    ) -> None:
        """Inside of its own block a task cannot wait for the same key; others can."""
        async with live.claim("k"):
            with pytest.raises(RuntimeError, match="would wait for itself"):
                await live.claim("k", wait=60)
            assert (await live.claim("k")).verdict is Verdict.IN_FLIGHT
            waiter = asyncio.create_task(live.claim("k", wait=60))
            await operations(live, "claim", 4)
        async with asyncio.timeout(30):
            assert (await waiter).verdict is Verdict.DUPLICATE
        assert not live._dispatcher.blocks

    async def test_release_wakes_one_waiter(self, unpolled: AsyncSeenStore) -> None:
        """A release wakes one waiter: many waiters cost a few operations each."""
        turns = 0

        async def work() -> None:
            nonlocal turns
            claim = await unpolled.claim("k", wait=50)
            assert claim
            turns += 1
            await claim.release()

        owner = await unpolled.claim("k")
        waiters = [asyncio.create_task(work()) for _ in range(100)]
        given_up = [
            asyncio.create_task(unpolled.claim("k", wait=50)) for _ in range(20)
        ]
        await operations(unpolled, "claim", 121)
        await owner.release()
        for task in given_up:  # a wake-up of a cancelled waiter passes on
            task.cancel()
        await asyncio.gather(*waiters)
        assert turns == 100
        assert (await unpolled.stats()).operations["claim"] < 1_500
        assert not waiting_callers(unpolled)

    async def test_cancelled_waiter_wakes_the_next(
        self, unpolled: AsyncSeenStore
    ) -> None:
        """A waiter that is cancelled when it is woken wakes the next one."""
        owner = await unpolled.claim("k")
        first, second = (
            asyncio.create_task(unpolled.claim("k", wait=60)) for _ in range(2)
        )
        await operations(unpolled, "claim", 3)
        release = asyncio.create_task(owner.release())
        while not waiting_callers(unpolled)["", "k"][0].ended.is_set():
            await asyncio.sleep(0)
        first.cancel()
        assert await release
        async with asyncio.timeout(30):
            assert await second

    async def test_failed_waiter_wakes_the_next(self, path: Path) -> None:
        """A waiter whose claim fails wakes the next one."""
        faults = SqliteFaults(first_poll=60)
        config = SeenStoreConfig(path, purge_interval=None, tuning=faults.tuning)
        async with AsyncSeenStore(config) as store:
            owner = await store.claim("k")
            first, second = (
                asyncio.create_task(store.claim("k", wait=60)) for _ in range(2)
            )
            await operations(store, "claim", 3)
            await owner.release()
            faults.refuse("BEGIN", "SQLITE_FULL")
            with pytest.raises(StoreUnavailableError):
                await first
            async with asyncio.timeout(30):
                assert await second

    async def test_close_ends_all_waits(self, target: Target) -> None:
        """A store that closes ends all waits at once; the key is in flight."""
        store = AsyncSeenStore(target.config())
        await store.open()
        await store.claim("k")
        waiters = [asyncio.create_task(store.claim("k", wait=60)) for _ in range(10)]
        await operations(store, "claim", 11)
        async with asyncio.timeout(30):
            await store.aclose()
            claims = await asyncio.gather(*waiters)
        assert {claim.verdict for claim in claims} == {Verdict.IN_FLIGHT}

    async def test_only_keys_in_flight_are_waited_for(
        self, live: AsyncSeenStore
    ) -> None:
        """A wait for a key that is seen or held returns at once."""
        await live.mark_seen("k")
        await live.claim("held", lease=0.001, on_abandoned="hold")
        await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            assert (await live.claim("k", wait=60)).verdict is Verdict.DUPLICATE
            assert (await live.claim("held", wait=60)).verdict is Verdict.HELD

    async def test_cancelled_waiter_is_removed(self, live: AsyncSeenStore) -> None:
        """A waiter that is cancelled leaves nothing behind."""
        owner = await live.claim("k")
        waiter = asyncio.create_task(live.claim("k", wait=30))
        await operations(live, "claim", 2)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not waiting_callers(live)
        await owner.confirm()
