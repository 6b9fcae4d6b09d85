"""Claims that are cancelled: no key stays leased to a task that has ended."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    SeenStoreConfig,
    Verdict,
)

from ...support.cancellation import time_of_two_calls
from ...support.figures import Figures
from ...support.locks import write_lock
from ...support.sqlite_faults import SqliteFaults, sqlite_error
from ...support.targets import Target
from ...support.waiting import verdict


class TestCancelled:
    """A cancelled claim, confirm or block leaves no key leased."""

    async def test_cancelled_block_releases(self, store: AsyncSeenStore) -> None:
        """A block that is cancelled releases the key before it ends."""
        entered = asyncio.Event()

        async def work() -> None:
            async with store.claim("k"):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await verdict(store) is Verdict.RETRY

    async def test_second_cancellation_keeps_release(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A second cancellation ends the wait for the release, not the release."""
        config = SeenStoreConfig(path, timeout=20, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            entered = asyncio.Event()

            async def work() -> None:
                async with store.claim("k"):
                    entered.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(work())
            await entered.wait()
            with write_lock(path):
                for _ in range(2):
                    task.cancel()
                    await asyncio.sleep(0.05)
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (await hasty.claim("k")).verdict is Verdict.IN_FLIGHT
            await store.is_seen("k")  # this read follows the release
            assert await verdict(hasty) is Verdict.RETRY

    async def test_cancelled_confirm_completes(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A confirm whose caller is cancelled completes."""
        config = SeenStoreConfig(path, timeout=20, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            entered = asyncio.Event()

            async def work() -> None:
                async with store.claim("k"):
                    entered.set()

            with write_lock(path) as other:
                task = asyncio.create_task(work())
                await asyncio.sleep(0.05)
                other.execute("ROLLBACK")
                await entered.wait()
                other.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not await hasty.is_seen("k")
            await store.is_seen("k")
            assert await hasty.is_seen("k")

    async def test_failed_confirm_of_a_cancelled_caller_is_logged(
        self, faulty: AsyncSeenStore, faults: SqliteFaults
    ) -> None:
        """A confirm that fails after its caller was cancelled is logged."""
        claim = await faulty.claim("k")
        faults.refuse("COMMIT", "SQLITE_FULL")
        with capture_logs() as logs:
            confirming = asyncio.create_task(claim.confirm())
            await asyncio.sleep(0)
            confirming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await confirming
            await faulty.get("other")  # its batch is sent after that of the confirm
        assert [log["event"] for log in logs] == ["confirm_failed"]

    @pytest.mark.parametrize("many", [False, True], ids=["claim", "claim_many"])
    @pytest.mark.slow
    async def test_cancelled_claims_lease_nothing(
        self, target: Target, figures: Figures, *, many: bool
    ) -> None:
        """Of claims cancelled at random, each key is free before its lease ends.

        The lease is 60 seconds.
        """
        calls = 500 if target.name == "file" and not many else 100
        rng = random.Random(20_261_123)
        endings: Counter[str] = Counter()
        worst = 0.0
        async with AsyncSeenStore(target.config(purge_interval=None)) as store:
            hop = await time_of_two_calls(store)
            for number in range(calls):
                keys = [f"{number} {place}" for place in range(20 if many else 1)]
                calling = store.claim_many(keys) if many else _one(store, keys[0])
                task = asyncio.create_task(calling)
                if rng.random() < 0.5:
                    for _ in range(rng.randrange(7)):
                        await asyncio.sleep(0)
                else:
                    await asyncio.sleep(rng.random() * 2 * hop)
                task.cancel()
                try:
                    claims = await task
                except asyncio.CancelledError:
                    endings["cancelled"] += 1
                else:
                    endings["taken"] += 1
                    await store.release_many(claims)
                started = time.monotonic()
                for key in keys:
                    claim = await store.claim(key, wait=30)
                    assert claim
                    endings["had been taken"] += claim.verdict is Verdict.RETRY
                    await claim.confirm()
                worst = max(worst, time.monotonic() - started)
            assert (await store.stats()).claimed == 0
        assert endings["cancelled"] > calls / 10
        verb = "claim_many" if many else "claim"
        figures(
            f"{target.name}: {verb} cancelled {endings['cancelled']} of {calls} times,"
            f" {endings['taken']} were faster: leased to nobody 0, worst wait"
            f" {worst:.3f} s"
        )

    async def test_concurrent_cancelled_claims_are_free(self, target: Target) -> None:
        """The keys of 500 concurrent claims, cancelled at random moments, are free."""
        rng = random.Random(5)
        async with AsyncSeenStore(target.config(purge_interval=None)) as store:
            loop = asyncio.get_running_loop()
            tasks = [asyncio.create_task(store.claim(f"{n}")) for n in range(500)]
            for number, task in enumerate(tasks):
                if number % 5:  # some are cancelled at once, some never
                    pause = rng.random() * 0.3 if number % 5 > 1 else 0
                    loop.call_later(pause, task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            taken = [claim for claim in outcomes if isinstance(claim, Claim)]
            kinds = {type(outcome) for outcome in outcomes}
            assert kinds == {Claim, asyncio.CancelledError}
            await store.release_many(taken)
            claims = await store.claim_many(f"{number}" for number in range(500))
            assert all(claims)

    async def test_cancelled_caller_can_claim_again(self, target: Target) -> None:
        """A caller that is cancelled and claims again does not meet its own lease."""
        rng = random.Random(11)
        given_up = 0
        async with AsyncSeenStore(target.config(purge_interval=None)) as store:
            hop = await time_of_two_calls(store)
            for number in range(200):
                try:
                    async with asyncio.timeout(rng.random() * hop):
                        claim = await store.claim(f"{number}")
                except TimeoutError:
                    given_up += 1
                    claim = await store.claim(f"{number}")
                assert claim
        assert given_up > 20

    async def test_cancelled_claim_of_unknown_outcome(
        self, faulty: AsyncSeenStore, faults: SqliteFaults
    ) -> None:
        """A cancelled claim whose commit met an I/O error is released.

        Its release is on the broken connection, and has to be sent again.
        """
        began, go_on = threading.Event(), threading.Event()

        def slow(commit: Callable[[], object]) -> object:
            if began.is_set():
                return commit()
            began.set()
            assert go_on.wait(60)
            commit()
            raise sqlite_error("SQLITE_IOERR_FSYNC")

        faults.replace("COMMIT", slow)
        claim = asyncio.create_task(faulty.claim("k"))
        assert await asyncio.to_thread(began.wait, 60)
        claim.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await claim
        again = await faulty.claim("k", wait=30)
        assert (again.verdict, again.attempt) == (Verdict.RETRY, 2)

    @pytest.mark.slow
    async def test_cancelled_claim_is_released_by_close(self, shared: Target) -> None:
        """A claim cancelled just before a close is released."""
        for _ in range(20):
            async with AsyncSeenStore(shared.config(purge_interval=None)) as store:
                task = asyncio.create_task(store.claim("k"))
                await asyncio.sleep(0.0005)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await (await task).release()
            async with AsyncSeenStore(shared.config()) as store:
                assert (await store.stats()).claimed == 0


async def _one(store: AsyncSeenStore, key: str) -> list[Claim]:
    return [await store.claim(key)]
