"""Leases that ``keep_alive`` renews while a block runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    LeaseLostError,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import Renew

from ...support.backends import Batch, intercepted
from ...support.clock import Clock
from ...support.locks import write_lock
from ...support.sqlite_faults import SqliteFaults
from ...support.targets import Pair, Target
from ...support.waiting import operations, until, verdict

Apply = Callable[[], Awaitable[BatchResult]]


class TestKeepAlive:
    """keep_alive=True."""

    async def test_lease_is_renewed_while_block_runs(
        self, steady: Pair, clock: Clock
    ) -> None:
        """The lease of a running block never ends; no other claim gets the key."""
        store, other = steady
        async with store.claim("k", lease=0.6, keep_alive=True) as claim:
            for _ in range(6):
                clock.advance(0.25)
                await until(lambda: claim.remaining() > 0.5)
                assert (await other.claim("k")).verdict is Verdict.IN_FLIGHT
        assert (await store.stats()).operations["renew"] == 6
        assert await store.is_seen("k")
        await asyncio.sleep(0)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "catalyst-seen keep alive" not in names

    async def test_lost_lease_cancels_the_block(self, live: AsyncSeenStore) -> None:
        """A block whose lease is lost is cancelled, and ends with LeaseLostError."""
        cancelled = False
        with pytest.raises(LeaseLostError):
            async with live.claim("k", lease=0.1, keep_alive=True):
                await live.forget("k")
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled = True
                    raise
        assert cancelled
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    async def test_outer_cancellation_wins_over_loss(
        self, live: AsyncSeenStore
    ) -> None:
        """A block with a lost lease that is cancelled from outside ends cancelled."""
        entered, lost = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            async with live.claim("k", lease=0.1, keep_alive=True):
                entered.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    lost.set()
                    await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await entered.wait()
        await live.forget("k")
        await lost.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_loss_is_raised_though_swallowed(self, live: AsyncSeenStore) -> None:
        """A block that swallows its cancellation raises LeaseLostError at its end."""
        with pytest.raises(LeaseLostError):
            async with live.claim("k", lease=0.1, keep_alive=True):
                await live.forget("k")
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    async def test_timeout_of_renewed_block_releases(
        self, live: AsyncSeenStore
    ) -> None:
        """A timeout around a renewed block raises, and the key is released."""
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(None) as timeout,
                live.claim("k", lease=3, keep_alive=True),
            ):
                await operations(live, "renew", 1)
                timeout.reschedule(0)
                await asyncio.sleep(60)
        assert await verdict(live) is Verdict.RETRY

    async def test_failures_are_retried_until_the_lease_is_over(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A store that fails for a part of the lease costs no lease.

        Each series of failed renewals is logged once.
        """
        with capture_logs() as logs:
            async with hasty.claim("k", lease=3, keep_alive=True) as claim:
                for failures in (1, 2):
                    with write_lock(path):
                        await until(lambda: len(logs) >= failures)  # noqa: B023 - awaited here
                        before = claim.lease_until or 0.0
                    await until(lambda: (claim.lease_until or 0.0) > before)  # noqa: B023
        assert [log["event"] for log in logs] == ["renew_failed"] * 2
        assert await hasty.is_seen("k")

    async def test_lease_that_cannot_be_renewed_ends_the_block(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A block is cancelled when its lease is over and no renewal succeeded."""
        left, claim = None, await hasty.claim("k", lease=2, keep_alive=True)
        with write_lock(path), pytest.raises(LeaseLostError, match="no renewal"):
            async with claim:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    left = claim.remaining()
                    raise
        assert left == 0

    async def test_renewal_does_not_wait_for_the_timeout_of_the_store(
        self, live: AsyncSeenStore
    ) -> None:
        """A store that does not answer ends the block with the lease, not later."""
        gate = asyncio.Event()

        async def hang(batch: Batch, apply: Apply) -> BatchResult:
            if any(isinstance(operation, Renew) for operation in batch):
                await gate.wait()
            return await apply()

        with intercepted(live, hang), pytest.raises(LeaseLostError, match="no renewal"):
            async with live.claim("k", lease=0.3, keep_alive=True):
                await asyncio.sleep(60)
        gate.set()

    async def test_late_renewal_that_succeeds_keeps_the_block(
        self, steady: Pair, clock: Clock
    ) -> None:
        """A lease that ended in a suspended machine begins again if the key is free."""
        store, other = steady
        async with store.claim("k", lease=0.6, keep_alive=True) as claim:
            clock.advance(3_600)
            await until(lambda: claim.remaining() > 0)
            assert (await other.claim("k")).verdict is Verdict.IN_FLIGHT
        assert await store.is_seen("k")

    async def test_renewal_survives_a_clock_that_fails(self, path: Path) -> None:
        """A clock that raises during a renewal does not end the renewals."""
        times = [OSError("no clock"), ValueError("no clock")]

        def clock() -> float:
            task = (
                asyncio.current_task() if threading.current_thread() is here else None
            )
            if task and "keep alive" in task.get_name() and is_broken and times:
                raise times.pop()
            return time.time()

        here, is_broken = threading.current_thread(), False
        async with AsyncSeenStore(path, clock=clock) as store:
            with capture_logs() as logs:
                async with store.claim("k", lease=3, keep_alive=True) as claim:
                    is_broken, before = True, claim.lease_until or 0.0
                    await until(
                        lambda: not times and (claim.lease_until or 0.0) > before
                    )
        assert times == []
        assert {log["event"] for log in logs} == {"renew_failed"}

    async def test_renewal_follows_the_current_lease(
        self, steady: Pair, clock: Clock
    ) -> None:
        """A lease of any length and origin is renewed in time."""
        store, other = steady

        async def goes_on(claim: Claim) -> None:
            for _ in range(5):
                clock.advance(claim.remaining() * 0.6)
                left = claim.remaining()
                await until(lambda left=left: claim.remaining() > left)
                assert await verdict(other, claim.key) is Verdict.IN_FLIGHT

        async with store.claim("shorter", lease=6_000, keep_alive=True) as claim:
            await claim.renew(0.3)
            await goes_on(claim)
        claim = await store.claim("late", lease=0.6, keep_alive=True)
        clock.advance(0.5)
        async with claim:
            await until(lambda: claim.remaining() > 0.5)
            await goes_on(claim)

    async def test_failed_renew_keeps_the_renewals(
        self, path: Path, clock: Clock
    ) -> None:
        """A renewal by hand that fails leaves the automatic renewals as they were."""
        config = SeenStoreConfig(path, timeout=0.2, purge_interval=None)
        async with (
            AsyncSeenStore(config, clock=clock) as other,
            AsyncSeenStore(config, clock=clock) as store,
            store.claim("k", lease=0.6, keep_alive=True) as claim,
        ):
            with write_lock(path), pytest.raises(StoreUnavailableError):
                await claim.renew(3_000)
            for _ in range(3):
                clock.advance(0.25)
                await until(lambda: claim.remaining() > 0.5)
                assert await verdict(other) is Verdict.IN_FLIGHT

    async def test_failed_confirm_keeps_the_renewals(self, path: Path) -> None:
        """A slow confirm that fails leaves the lease to be renewed."""
        config = SeenStoreConfig(path, timeout=0.5, purge_interval=None)
        async with (
            AsyncSeenStore(config) as store,
            store.claim("k", lease=0.3, keep_alive=True) as claim,
        ):
            with write_lock(path), pytest.raises(StoreUnavailableError):
                await claim.confirm()
            while claim.remaining() == 0:
                await asyncio.sleep(0.01)

    async def test_longer_lease_by_hand_is_kept(
        self, hasty: AsyncSeenStore, faults: SqliteFaults
    ) -> None:
        """An automatic renewal does not shorten a longer lease requested by hand."""
        is_slow = False

        def begin(execute: Callable[[], object]) -> object:
            if is_slow:
                time.sleep(0.25)
            return execute()

        faults.replace("BEGIN", begin)
        async with hasty.claim("k", lease=0.6, keep_alive=True) as claim:
            is_slow = True
            await claim.renew(60)  # meanwhile a renewal is due, and waits behind it
            await asyncio.sleep(0.6)
            is_slow = False
            retry_after = (await hasty.claim("k")).retry_after
        assert retry_after is not None
        assert retry_after > 50

    async def test_cancelled_shorter_renew_is_assumed(
        self, steady: Pair, clock: Clock
    ) -> None:
        """A cancelled renewal may be stored: the renewals follow the shorter lease."""
        store, other = steady
        async with store.claim("k", lease=6_000, keep_alive=True) as claim:
            await asyncio.sleep(0.01)
            renewal = asyncio.create_task(claim.renew(0.3))
            for _ in range(3):
                await asyncio.sleep(0)
            renewal.cancel()
            with suppress(asyncio.CancelledError):
                await renewal
            assert claim.remaining() < 1
            for _ in range(3):
                clock.advance(0.2)
                await until(lambda: claim.remaining() > 0.2)
                assert await verdict(other) is Verdict.IN_FLIGHT

    async def test_stopped_clock_costs_no_busy_loop(
        self, path: Path, clock: Clock
    ) -> None:
        """A clock that stops just before a renewal is read at intervals only."""
        reads = 0

        def count() -> float:
            nonlocal reads
            reads += 1
            return clock.now

        async with (
            AsyncSeenStore(path, clock=count, purge_interval=None) as store,
            store.claim("k", lease=60, keep_alive=True),
        ):
            clock.advance(20 - 1e-6)
            await asyncio.sleep(0.01)
            reads, started = 0, time.monotonic()
            await asyncio.sleep(0.5)
            took = time.monotonic() - started
        assert reads < 3 * (took / 0.05 + 1)

    async def test_loss_reaches_a_task_cancelled_before(
        self, live: AsyncSeenStore
    ) -> None:
        """A task that survived a cancellation receives LeaseLostError as well."""

        async def work() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            async with live.claim("k", lease=0.1, keep_alive=True):
                await live.forget("k")
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(LeaseLostError):
            await task

    async def test_settled_claim_is_not_renewed(self, steady: Pair) -> None:
        """A block that continues after its confirm or release has no lease to lose."""
        store, _ = steady
        for verb in ("confirm", "release"):
            async with store.claim(verb, lease=0.06, keep_alive=True) as claim:
                await getattr(claim, verb)()
                await asyncio.sleep(0.2)
        assert "renew" not in (await store.stats()).operations
        assert await verdict(store, "release") is Verdict.RETRY

    async def test_only_blocks_of_owners_renew(
        self, steady: Pair, clock: Clock
    ) -> None:
        """Without a block, or without ownership, nothing is renewed."""
        store, _ = steady
        claim = await store.claim("k", lease=0.1, keep_alive=True)
        async with store.claim("k", lease=0.06, keep_alive=True) as other:
            assert not other
            clock.advance(0.1)
            await asyncio.sleep(0.2)
        assert claim.remaining() == 0
        assert "renew" not in (await store.stats()).operations

    @pytest.mark.usefixtures("nothing_left")
    async def test_close_ends_the_renewals(self, target: Target) -> None:
        """A store that is closed inside the block ends the renewals."""
        store = AsyncSeenStore(target.config())
        await store.open()
        with pytest.raises(StoreClosedError):
            async with store.claim("k", lease=0.1, keep_alive=True):
                await store.aclose()
                await asyncio.sleep(0.1)
