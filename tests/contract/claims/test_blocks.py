"""Blocks of claims: a normal end confirms, an exception releases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    LeaseLostError,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.base import BatchResult

from ...support.backends import intercepted
from ...support.clock import NOON, Clock
from ...support.locks import write_lock
from ...support.targets import Target
from ...support.waiting import verdict


class TestBlock:
    """``async with store.claim(key)``."""

    async def test_normal_block_end_confirms(self, store: AsyncSeenStore) -> None:
        """A block that ends normally marks the key, for the TTL of the claim."""
        async with store.claim("k", lease=5, ttl=60, namespace="n") as claim:
            assert claim
            assert (claim.key, claim.namespace, claim.attempt) == ("k", "n", 1)
            assert (claim.lease_until, claim.remaining()) == (NOON + 5, 5)
            assert await store.claim("k")  # the same key in another namespace
            other = await store.claim("k", namespace="n")
            assert (other.verdict, other.retry_after) == (Verdict.IN_FLIGHT, 5)
            assert other.token != claim.token
        record = await store.get("k", namespace="n")
        assert record is not None
        assert record.expires_at == NOON + 60

    @pytest.mark.parametrize(
        "error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
    )
    async def test_exception_in_block_releases(
        self, store: AsyncSeenStore, error: type[BaseException]
    ) -> None:
        """An exception in the block releases the key and propagates."""
        raised = error("mine")
        with pytest.raises(error) as caught:
            async with store.claim("k"):
                raise raised
        assert caught.value is raised
        claim = await store.claim("k")
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)

    async def test_timed_out_block_releases(self, store: AsyncSeenStore) -> None:
        """A block that times out releases the key."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout, store.claim("k"):
                timeout.reschedule(0)
                await asyncio.sleep(60)
        assert await verdict(store) is Verdict.RETRY

    async def test_block_without_ownership_does_nothing(
        self, store: AsyncSeenStore
    ) -> None:
        """The end of a block does not settle a claim that is not owned."""
        owner = await store.claim("k")
        for error in (None, ValueError):
            with suppress(ValueError):
                async with store.claim("k") as claim:
                    assert not claim
                    if error:
                        raise error
            assert (await store.claim("k")).verdict is Verdict.IN_FLIGHT
        await owner.confirm()
        async with store.claim("k") as claim:
            assert claim.verdict is Verdict.DUPLICATE
        assert (await store.stats()).operations["confirm"] == 1
        assert "release" not in (await store.stats()).operations

    async def test_block_keeps_confirm_or_release_by_hand(
        self, store: AsyncSeenStore
    ) -> None:
        """The end of a block keeps the confirm or release inside it."""
        with pytest.raises(ValueError, match="after"):
            async with store.claim("done") as claim:
                await claim.confirm()
                raise ValueError("after")
        assert await store.is_seen("done")
        async with store.claim("back") as claim:
            assert await claim.release()
        sent = (await store.stats()).operations
        assert (sent["confirm"], sent["release"]) == (1, 1)
        assert await verdict(store, "back") is Verdict.RETRY
        with pytest.raises(LeaseLostError, match="released"):
            async with store.claim("again") as claim:
                await claim.release()
                await claim.renew()
        assert await verdict(store, "again") is Verdict.RETRY

    async def test_awaited_claim_can_be_entered(self, store: AsyncSeenStore) -> None:
        """A claim that was awaited before can be entered as a block."""
        claim = await store.claim("a")
        async with claim as same:
            assert same is claim
        for claim in await store.claim_many(["b", "c"]):
            with suppress(ValueError):
                async with claim:
                    if claim.key == "c":
                        raise ValueError
        seen = [await store.is_seen(key) for key in "abc"]
        assert seen == [True, True, False]

    async def test_lost_lease_is_raised_at_block_end(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A lost lease is raised at the end of the block; its next owner keeps it."""
        with pytest.raises(LeaseLostError) as caught:
            async with store.claim("k", lease=1, namespace="n"):
                clock.advance(1)
                second = await store.claim("k", namespace="n")
                assert (second.verdict, second.attempt) == (Verdict.RETRY, 2)
        error = caught.value
        assert (error.key, error.namespace, error.attempt) == ("k", "n", 1)
        assert str(error).startswith("claim on 'k' in namespace 'n', attempt 1: it is")
        await second.confirm()

    async def test_store_failure_at_block_end(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A store failure at a normal block end is raised; else it is logged.

        An exception of the block propagates.
        """
        with pytest.raises(StoreUnavailableError, match="locked"):
            async with hasty.claim("k") as claim:
                lock = write_lock(path)
                lock.__enter__()
        lock.__exit__(None, None, None)
        await claim.confirm()
        with (
            capture_logs() as logs,
            pytest.raises(ValueError, match="mine"),
        ):
            async with hasty.claim("other"):
                lock = write_lock(path)
                lock.__enter__()
                raise ValueError("mine")
        lock.__exit__(None, None, None)
        assert [log["event"] for log in logs] == ["release_failed"]
        assert "locked" in logs[0]["error"]

    async def test_block_of_closed_store_is_an_error(self, target: Target) -> None:
        """The end of a block of a closed store raises, unless the block did."""
        store = AsyncSeenStore(target.config())
        await store.open()
        with pytest.raises(StoreClosedError):
            async with store.claim("k"):
                await store.aclose()
        store = AsyncSeenStore(target.config())
        await store.open()
        with pytest.raises(ValueError, match="mine"):
            async with store.claim("other"):
                await store.aclose()
                raise ValueError("mine")

    async def test_slow_release_completes_after_block(self, path: Path) -> None:
        """A release that exceeds its timeout completes after the block has ended."""
        config = SeenStoreConfig(
            path,
            timeout=200,
            purge_interval=None,
            tuning=Tuning(release_timeout=0.1),
        )
        async with AsyncSeenStore(config) as store:
            with pytest.raises(ValueError, match="mine"):
                async with asyncio.timeout(60), store.claim("k"):
                    lock = write_lock(path)
                    lock.__enter__()
                    started = time.monotonic()
                    raise ValueError("mine")
            assert time.monotonic() - started >= 0.1
            lock.__exit__(None, None, None)
            assert await verdict(store) is Verdict.RETRY

    async def test_close_waits_for_releases(self, shared: Target) -> None:
        """A close waits for the releases of blocks that are cancelled."""
        store = AsyncSeenStore(shared.config(purge_interval=None))
        await store.open()

        async def work(key: str) -> None:
            async with store.claim(key):
                await asyncio.sleep(60)

        tasks = [asyncio.create_task(work(str(number))) for number in range(50)]
        while (await store.stats()).operations.get("claim") != 50:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        await store.aclose()
        await asyncio.wait(tasks)
        async with AsyncSeenStore(shared.config()) as store:
            claims = await store.claim_many(map(str, range(50)))
        assert {claim.verdict for claim in claims} == {Verdict.RETRY}

    @pytest.mark.parametrize("callers", [1, 50])
    async def test_block_end_during_close_is_settled(
        self, shared: Target, callers: int
    ) -> None:
        """A block that ends after a close has begun is still confirmed or released.

        The close waits for a batch: of a lone caller, or of many.
        """
        for error in (None, ValueError):
            store = AsyncSeenStore(shared.config(purge_interval=None))
            await store.open()
            key, is_sent, may_end = f"{error}", asyncio.Event(), asyncio.Event()

            async def hold(
                _: object,
                apply: Callable[[], Awaitable[BatchResult]],
                is_sent: asyncio.Event = is_sent,
                may_end: asyncio.Event = may_end,
            ) -> BatchResult:
                is_sent.set()
                await may_end.wait()
                return await apply()

            with suppress(ValueError):
                async with store.claim(key):
                    with intercepted(store, hold):
                        marks = asyncio.gather(
                            *(store.mark_seen(f"{n}") for n in range(callers))
                        )
                        await is_sent.wait()
                    closing = asyncio.create_task(store.aclose())
                    for _ in range(5):
                        await asyncio.sleep(0)
                    with pytest.raises(StoreClosedError, match="closing"):
                        await store.claim("late")
                    asyncio.get_running_loop().call_soon(may_end.set)
                    if error:
                        raise error
            await asyncio.gather(marks, closing)
            async with AsyncSeenStore(shared.config(purge_interval=None)) as again:
                expected = Verdict.RETRY if error else Verdict.DUPLICATE
                assert await verdict(again, key) is expected

    async def test_second_block_of_a_claim_is_refused(
        self, store: AsyncSeenStore
    ) -> None:
        """A claim has one block at a time, and none after its confirm."""
        async with store.claim("k", keep_alive=True) as claim:
            with pytest.raises(RuntimeError, match="has a block already"):
                async with claim:
                    pass
            assert claim.remaining() == 60
        assert await store.is_seen("k")
        with pytest.raises(RuntimeError, match="or was confirmed"):
            async with claim:
                pass

    @pytest.mark.parametrize("error", [None, ValueError])
    @pytest.mark.parametrize("verb", ["confirm", "release"])
    async def test_block_repeats_failed_confirm_or_release(
        self,
        path: Path,
        hasty: AsyncSeenStore,
        verb: str,
        error: type[Exception] | None,
    ) -> None:
        """A confirm or release that failed inside the block is repeated at its end.

        It keeps its options, also if its caller was cancelled before it failed.
        """
        options = {"ttl": 500} if verb == "confirm" else {"delay": 500}
        for number in range(2):
            key = f"k {number}"
            with suppress(ValueError):
                async with hasty.claim(key) as claim:
                    with capture_logs() as logs, write_lock(path):
                        call = asyncio.create_task(getattr(claim, verb)(**options))
                        await asyncio.sleep(0)
                        if number:
                            call.cancel()
                            with pytest.raises(asyncio.CancelledError):
                                await call
                            while not logs:
                                await asyncio.sleep(0.001)
                            assert logs[0]["event"] == f"{verb}_failed"
                        else:
                            with pytest.raises(StoreUnavailableError):
                                await call
                    if error:
                        raise error
            record = await hasty.get(key)
            other = await hasty.claim(key)
            if verb == "confirm":
                assert record is not None
                assert record.expires_at == record.last_seen + 500
            else:
                assert record is not None
                assert record.state == "released"
                assert other.retry_after is not None
                assert 400 < other.retry_after <= 500

    async def test_renewal_does_not_undo_confirm_or_release(
        self, live: AsyncSeenStore
    ) -> None:
        """A renewal that ends after a release or confirm began does not undo it."""
        async with live.claim("back") as claim:
            renewal = asyncio.create_task(claim.renew())
            await asyncio.sleep(0)
            await claim.release()
            await renewal
        assert await verdict(live, "back") is Verdict.RETRY
        async with live.claim("done", lease=0.9, keep_alive=True) as claim:
            renewal = asyncio.create_task(claim.renew())
            await asyncio.sleep(0)
            await claim.confirm()
            await renewal
            await asyncio.sleep(0.4)  # a third of the lease, and more
        assert await live.is_seen("done")

    async def test_block_waits_for_confirm_under_way(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A block whose confirm is under way waits for its result."""
        with pytest.raises(StoreUnavailableError):
            async with hasty.claim("k") as claim:
                lock = write_lock(path)
                lock.__enter__()
                call = asyncio.create_task(claim.confirm())
                await asyncio.sleep(0)
                call.cancel()
        lock.__exit__(None, None, None)
        assert not await hasty.is_seen("k")
