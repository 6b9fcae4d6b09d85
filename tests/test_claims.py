"""Claims: blocks that confirm or release, renewal, waiting, batches, cancellation."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    LeaseLostError,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
    _lease,
    _taking,
)
from catalyst_seen.backends import _worker

from .conftest import DAY, NOON, Clock, Figures
from .targets import Target
from .test_cancellation import time_of_a_hop
from .test_sqlite import refuse, write_lock

Pair = tuple[AsyncSeenStore, AsyncSeenStore]


@pytest.fixture
async def live(shared: Target) -> AsyncIterator[AsyncSeenStore]:
    """An open store with the real clock."""
    async with AsyncSeenStore(shared.config(purge_interval=None)) as store:
        yield store


@pytest.fixture
async def pair(shared: Target) -> AsyncIterator[Pair]:
    """Two open stores at one place, with the real clock."""
    config = shared.config(purge_interval=None)
    async with AsyncSeenStore(config) as store, AsyncSeenStore(config) as other:
        yield store, other


@pytest.fixture
async def hasty(path: Path) -> AsyncIterator[AsyncSeenStore]:
    """An open store on a file, with the real clock, that waits for no lock."""
    config = SeenStoreConfig(path, timeout=0.001, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        yield store


@pytest.fixture
async def steady(shared: Target, clock: Clock) -> AsyncIterator[Pair]:
    """Two open stores at one place, whose leases do not run while the machine stalls.

    Their clock is the manual one; ``keep_alive`` notices within a third of a lease, in
    real seconds, that it has been advanced.
    """
    config = shared.config(purge_interval=None)
    async with (
        AsyncSeenStore(config, ttl=DAY, clock=clock) as store,
        AsyncSeenStore(config, ttl=DAY, clock=clock) as other,
    ):
        yield store, other


async def until(condition: Callable[..., bool]) -> None:
    """Wait until a condition holds; fail if that takes much longer than it may."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def operations(store: AsyncSeenStore, name: str, count: int) -> None:
    """Wait until a store has done so many operations of a kind."""
    async with asyncio.timeout(60):
        while (await store.stats()).operations.get(name, 0) < count:
            await asyncio.sleep(0.001)


async def verdict(store: AsyncSeenStore, key: str = "k") -> Verdict:
    """Ask by a claim that is given back at once, if it is owned."""
    claim = await store.claim(key)
    if claim:
        await claim.release()
    return claim.verdict


class TestBlock:
    """``async with store.claim(key)``."""

    async def test_normal_end_confirms(self, store: AsyncSeenStore) -> None:
        """Leaving the block normally marks the key, for the claim's TTL."""
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
    async def test_exception_releases(
        self, store: AsyncSeenStore, error: type[BaseException]
    ) -> None:
        """Leaving it by an exception gives the key back, and the exception goes on."""
        raised = error("mine")
        with pytest.raises(error) as caught:
            async with store.claim("k"):
                raise raised
        assert caught.value is raised
        claim = await store.claim("k")
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)

    async def test_cancellation_releases(self, store: AsyncSeenStore) -> None:
        """A block that is cancelled gives the key back before it ends."""
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

    async def test_timeout_releases(self, store: AsyncSeenStore) -> None:
        """So does one that takes too long."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout, store.claim("k"):
                timeout.reschedule(0)
                await asyncio.sleep(60)
        assert await verdict(store) is Verdict.RETRY

    async def test_cancelled_again_while_releasing(
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
            await store.is_seen("k")  # behind the release
            assert await verdict(hasty) is Verdict.RETRY

    async def test_not_owned(self, store: AsyncSeenStore) -> None:
        """Leaving the block of a claim that is not owned does nothing."""
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

    async def test_settled_by_hand(self, store: AsyncSeenStore) -> None:
        """What was confirmed or released inside the block stays that."""
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
        async with store.claim("again") as claim:
            await claim.release()
            await claim.renew()
        assert await store.is_seen("again")

    async def test_claim_that_was_awaited(self, store: AsyncSeenStore) -> None:
        """A claim that was taken before may be entered as well."""
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

    async def test_lost_meanwhile(self, store: AsyncSeenStore, clock: Clock) -> None:
        """A confirm that fails on leaving the block is raised; the record stays."""
        with pytest.raises(LeaseLostError) as caught:
            async with store.claim("k", lease=1, namespace="n"):
                clock.advance(1)
                second = await store.claim("k", namespace="n")
                assert (second.verdict, second.attempt) == (Verdict.RETRY, 2)
        error = caught.value
        assert (error.key, error.namespace, error.attempt) == ("k", "n", 1)
        assert str(error).startswith("claim on 'k' in namespace 'n', attempt 1: it is")
        await second.confirm()

    async def test_store_fails_on_leaving(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """A store that fails is an error on a normal end; else it is logged.

        An exception of the block is more to the point, and goes on.
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

    async def test_store_closed_meanwhile(self, target: Target) -> None:
        """Leaving a block of a closed store says so, unless it has its own error."""
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

    async def test_release_is_bounded(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A release that takes too long goes on after the block has ended."""
        monkeypatch.setattr(_lease, "RELEASE_TIMEOUT", 0.1)
        config = SeenStoreConfig(path, timeout=200, purge_interval=None)
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
        """What blocks give back while a store closes is given back."""
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

    async def test_ends_while_closing(self, shared: Target) -> None:
        """What ends its block after a close has begun is still settled."""
        for error in (None, ValueError):
            store = AsyncSeenStore(shared.config(purge_interval=None))
            await store.open()
            marks = asyncio.gather(*(store.mark_seen(f"{n}") for n in range(50)))
            await asyncio.sleep(0)
            key = f"{error}"
            with suppress(ValueError):
                async with store.claim(key):
                    more = asyncio.gather(
                        *(store.mark_seen(f"{n}") for n in range(500))
                    )
                    await asyncio.sleep(0)
                    closing = asyncio.create_task(store.aclose())
                    for _ in range(5):
                        await asyncio.sleep(0)
                    assert not more.done()
                    with pytest.raises(StoreClosedError, match="closing"):
                        await store.claim("late")
                    if error:
                        raise error
            await asyncio.gather(marks, more, closing)
            async with AsyncSeenStore(shared.config(purge_interval=None)) as again:
                expected = Verdict.RETRY if error else Verdict.DUPLICATE
                assert await verdict(again, key) is expected

    async def test_entered_twice(self, store: AsyncSeenStore) -> None:
        """A claim is one block at a time."""
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
    async def test_failed_by_hand(
        self,
        path: Path,
        hasty: AsyncSeenStore,
        verb: str,
        error: type[Exception] | None,
    ) -> None:
        """What was asked for by hand, and failed, is what the block does at its end.

        With the options it was asked with, and also if nobody waited for it to fail.
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
                assert record is None
                assert other.retry_after is not None
                assert 400 < other.retry_after <= 500

    async def test_renew_and_settle_at_once(self, live: AsyncSeenStore) -> None:
        """A renewal that ends after a release or confirm began does not undo it."""
        async with live.claim("back") as claim:
            renewal = asyncio.create_task(claim.renew())
            await asyncio.sleep(0)
            await claim.release()
            await renewal
        assert await verdict(live, "back") is Verdict.RETRY
        async with live.claim("done", lease=0.1, keep_alive=True) as claim:
            renewal = asyncio.create_task(claim.renew())
            await asyncio.sleep(0)
            await claim.confirm()
            await renewal
            await asyncio.sleep(0.3)
        assert await live.is_seen("done")

    async def test_confirm_under_way(self, path: Path, hasty: AsyncSeenStore) -> None:
        """A block whose confirm is still under way waits to see whether it works."""
        with pytest.raises(StoreUnavailableError):
            async with hasty.claim("k") as claim:
                lock = write_lock(path)
                lock.__enter__()
                call = asyncio.create_task(claim.confirm())
                await asyncio.sleep(0)
                call.cancel()
        lock.__exit__(None, None, None)
        assert not await hasty.is_seen("k")


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
    async def test_awaitable(
        self, store: AsyncSeenStore, wrap: Callable[[Any], Awaitable[Any]]
    ) -> None:
        """A claim is taken by everything that asyncio awaits coroutines with."""
        taken = await wrap(store.claim("k"))
        (claim,) = taken if isinstance(taken, list) else [taken]
        assert claim
        assert repr(claim) == "<Claim 'k' new attempt=1 remaining=60.000>"
        other = await store.claim("k")
        assert repr(other) == "<Claim 'k' in_flight attempt=1 retry_after=60.000>"
        with pytest.raises(LeaseLostError, match="never owned, its verdict is in_fli"):
            await other.confirm()

    async def test_forgotten_await(self, store: AsyncSeenStore) -> None:
        """A claim that was not awaited is neither true nor false."""
        claiming: Any = store.claim("k")
        with pytest.raises(TypeError, match=r"await store\.claim"):
            assert claiming
        with pytest.raises(AttributeError, match=r"'confirm': .* not taken yet"):
            claiming.confirm()
        assert "await store.claim" in repr(claiming)
        claiming.close()
        assert await verdict(store) is Verdict.NEW

    async def test_remaining(self, store: AsyncSeenStore, clock: Clock) -> None:
        """Remaining counts down by the store's clock, to zero; renew begins anew."""
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

    async def test_confirm_and_ttl(self, store: AsyncSeenStore, clock: Clock) -> None:
        """The TTL counts from the confirm; first_seen is when it was first claimed."""
        claim = await store.claim("k")
        clock.advance(30)
        await claim.confirm(ttl=None)
        record = await store.get("k")
        assert record is not None
        assert (record.first_seen, record.last_seen) == (NOON, NOON + 30)
        assert record.expires_at is None

    async def test_abandoned_row_is_purged(
        self, store: AsyncSeenStore, target: Target, clock: Clock
    ) -> None:
        """An abandoned claim is remembered for one TTL after its lease ended."""
        await store.claim("k", lease=60)
        clock.advance(60 + DAY - 1)
        assert await store.purge_expired() == 0
        clock.advance(1)
        assert await store.purge_expired() == target.removed(1)
        assert await verdict(store) is Verdict.NEW

    async def test_confirm_is_done_though_cancelled(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """Whoever gives up waiting for a confirm does not take it back."""
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

    @pytest.mark.parametrize("is_done", [False, True])
    async def test_unknown_confirm(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, *, is_done: bool
    ) -> None:
        """An I/O error at the commit of a confirm is named; confirming again is fine.

        A block that ends with it raises it, and does not release.
        """
        async with AsyncSeenStore(path, purge_interval=None) as store:
            with pytest.raises(OutcomeUnknownError, match="Ask again"):
                async with store.claim("k") as claim:
                    refuse(monkeypatch, "COMMIT", "SQLITE_IOERR_FSYNC", [is_done])
            assert await store.is_seen("k") is is_done
            assert "release" not in (await store.stats()).operations
            await claim.confirm()
            assert await store.is_seen("k")

    @pytest.mark.parametrize("are_done", [[True], [True, False]], ids=[1, 2])
    async def test_unknown_claim_is_given_back(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, are_done: list[bool]
    ) -> None:
        """A claim whose commit met an I/O error is leased to nobody, if it is there.

        Also if its release meets another.
        """
        async with AsyncSeenStore(path, purge_interval=None) as store:
            refuse(monkeypatch, "COMMIT", "SQLITE_IOERR_FSYNC", are_done)
            with pytest.raises(OutcomeUnknownError):
                await store.claim("k")
            claim = await store.claim("k")
            assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)


class TestMany:
    """claim_many, confirm_many, release_many."""

    async def test_claim_many(self, store: AsyncSeenStore) -> None:
        """A claim per key, in order; of a key that comes twice the second waits."""
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

    async def test_settle_any_subset(self, store: AsyncSeenStore, clock: Clock) -> None:
        """Some are confirmed, some released; each says what happened to it."""
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

    async def test_from_many_batches(self, store: AsyncSeenStore) -> None:
        """Claims of several calls and namespaces are confirmed together."""
        claims = [
            *await store.claim_many(["a"], namespace="n"),
            await store.claim("a"),
            *await store.claim_many(["a"]),  # in flight: not owned
        ]
        assert await store.confirm_many(iter(claims)) == [True, True, False]
        assert await store.confirm_many(claims[:2]) == [True, True]

    async def test_empty(self, store: AsyncSeenStore) -> None:
        """Nothing in, nothing out, nothing sent."""
        assert await store.claim_many([]) == []
        assert await store.confirm_many([]) == []
        assert await store.release_many([]) == []
        assert (await store.stats()).operations == {}

    async def test_block_after_batch(self, store: AsyncSeenStore) -> None:
        """A claim that was settled in a batch is left alone by its block."""
        claims = await store.claim_many(["a", "b"])
        async with claims[0]:
            await store.release_many(claims)
        assert await store.filter_new(["a", "b"]) == ["a", "b"]

    async def test_all_or_nothing(self, path: Path, hasty: AsyncSeenStore) -> None:
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

    async def test_not_a_claim_of_this_store(
        self, store: AsyncSeenStore, hasty: AsyncSeenStore
    ) -> None:
        """Anything but a claim that this store made is refused, with its place."""
        claims = [await store.claim("a"), await hasty.claim("b")]
        for verb in (store.confirm_many, store.release_many):
            with pytest.raises(ValueError, match=r"claims\[1\], <Claim 'b'"):
                await verb(claims)
            with pytest.raises(TypeError, match=r"claims\[0\] must be a Claim, not s"):
                await verb("a")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="an iterable of claims, not <Claim"):
                await verb(claims[0])  # type: ignore[arg-type]
        assert not await store.is_seen("a")

    async def test_sizes(self, store: AsyncSeenStore, target: Target) -> None:
        """A batch of 20,000 is one call, both ways; a quarter of it over the wire."""
        half = 2_500 if target.is_server else 10_000
        claims = await store.claim_many(map(str, range(2 * half)))
        assert all(claims)
        assert sum(await store.confirm_many(claims[::2])) == half
        assert sum(await store.release_many(claims)) == half
        assert await store.count() == half


class TestPolicies:
    """What becomes of abandoned claims."""

    async def test_of_the_store(self, target: Target, clock: Clock) -> None:
        """The store's policy is that of its claims, unless one has its own."""
        async with AsyncSeenStore(
            target.config(), clock=clock, on_abandoned="hold"
        ) as store:
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

    async def test_renewed_keeps_its_policy(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A lease that is renewed, also after a release, is abandoned in its way."""
        claim = await store.claim("k", lease=60, on_abandoned="hold")
        await claim.release()
        await claim.renew()
        clock.advance(60)
        assert await verdict(store) is Verdict.HELD

    async def test_held_lists(self, store: AsyncSeenStore, clock: Clock) -> None:
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

    async def test_held_for_ever(self, store: AsyncSeenStore, clock: Clock) -> None:
        """A held key stays held whatever the TTL, until somebody decides."""
        await store.claim("k", lease=60, ttl=60, on_abandoned="hold")
        clock.advance(1_000 * DAY)
        assert await store.purge_expired() == 0
        assert (await store.check_and_mark("k")).verdict is Verdict.HELD
        assert await store.resolve("k", handled=True, ttl=60)
        record = await store.get("k")
        assert record is not None
        assert record.expires_at == clock.now + 60
        assert not await store.resolve("k", handled=True)


class TestKeepAlive:
    """keep_alive=True."""

    async def test_outlives_the_lease(self, steady: Pair, clock: Clock) -> None:
        """The lease of a block that runs on never ends; nobody else gets the key."""
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

    async def test_lost(self, live: AsyncSeenStore) -> None:
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

    async def test_lost_and_cancelled(self, live: AsyncSeenStore) -> None:
        """A block that is also cancelled from outside ends cancelled."""
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

    async def test_lost_and_ignored(self, live: AsyncSeenStore) -> None:
        """A block that swallows its cancellation learns of the loss at its end."""
        with pytest.raises(LeaseLostError):
            async with live.claim("k", lease=0.1, keep_alive=True):
                await live.forget("k")
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    async def test_inside_a_timeout(self, live: AsyncSeenStore) -> None:
        """A timeout around the block is a timeout, and the key is given back."""
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(None) as timeout,
                live.claim("k", lease=0.2, keep_alive=True),
            ):
                await operations(live, "renew", 1)
                timeout.reschedule(0)
                await asyncio.sleep(60)
        assert await verdict(live) is Verdict.RETRY

    async def test_store_fails_for_a_while(
        self, path: Path, hasty: AsyncSeenStore
    ) -> None:
        """While nobody took the key, a store that fails costs no lease; it is logged.

        The lease that ran out meanwhile is begun anew.
        """
        with capture_logs() as logs:
            async with hasty.claim("k", lease=0.3, keep_alive=True) as claim:
                with write_lock(path):
                    await until(lambda: bool(logs) and claim.remaining() == 0)
                await until(lambda: claim.remaining() > 0)
        assert [log["event"] for log in logs] == ["renew_failed"]
        assert await hasty.is_seen("k")

    async def test_fails_twice(self, path: Path, hasty: AsyncSeenStore) -> None:
        """Each time that renewing begins to fail is logged, once."""
        with capture_logs() as logs:
            async with hasty.claim("k", lease=0.3, keep_alive=True) as claim:
                for failures in (1, 2):
                    with write_lock(path):
                        await until(
                            lambda: len(logs) >= failures and claim.remaining() == 0  # noqa: B023 - awaited here
                        )
                    await until(lambda: claim.remaining() > 0)
        assert [log["event"] for log in logs] == ["renew_failed"] * 2

    async def test_clock_fails(self, path: Path) -> None:
        """Whatever goes wrong while renewing, the next try comes."""
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
                async with store.claim("k", lease=0.3, keep_alive=True) as claim:
                    is_broken, before = True, claim.lease_until
                    await until(lambda: not times and claim.lease_until != before)
        assert times == []
        assert {log["event"] for log in logs} == {"renew_failed"}

    async def test_follows_the_lease(self, steady: Pair, clock: Clock) -> None:
        """However the lease came to be as long as it is, it is renewed in time."""
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
        async with store.claim("again", lease=0.3, keep_alive=True) as claim:
            await claim.release()
            for _ in range(5):
                await asyncio.sleep(0)
            await claim.renew()
            await goes_on(claim)

    async def test_renew_that_failed(self, path: Path, clock: Clock) -> None:
        """A renewal by hand that fails leaves the lease to be renewed as it was."""
        config = SeenStoreConfig(path, timeout=0.001, purge_interval=None)
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

    async def test_confirm_that_failed(self, path: Path) -> None:
        """A confirm that fails, and takes its time, leaves the lease to be renewed."""
        config = SeenStoreConfig(path, timeout=0.5, purge_interval=None)
        async with (
            AsyncSeenStore(config) as store,
            store.claim("k", lease=0.3, keep_alive=True) as claim,
        ):
            with write_lock(path), pytest.raises(StoreUnavailableError):
                await claim.confirm()
            while claim.remaining() == 0:
                await asyncio.sleep(0.01)

    async def test_longer_by_hand(self, hasty: AsyncSeenStore) -> None:
        """A longer lease that is being asked for by hand is not taken back."""
        backend: Any = hasty._session.backend._connections  # type: ignore[attr-defined]
        perform = backend._perform

        def slow(db: object, work: object) -> object:
            time.sleep(0.15)
            return perform(db, work)

        async with hasty.claim("k", lease=0.3, keep_alive=True) as claim:
            backend._perform = slow
            await claim.renew(60)  # meanwhile a renewal is due, and waits behind it
            await asyncio.sleep(0.3)
            backend._perform = perform
            retry_after = (await hasty.claim("k")).retry_after
        assert retry_after is not None
        assert retry_after > 50

    async def test_shorter_and_cancelled(self, steady: Pair, clock: Clock) -> None:
        """A renewal that is cancelled may hold: the shorter lease is counted on."""
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

    async def test_standing_clock(self, path: Path, clock: Clock) -> None:
        """A clock that stands still just before a renewal is looked at now and then."""
        looks = 0

        def count() -> float:
            nonlocal looks
            looks += 1
            return clock.now

        async with (
            AsyncSeenStore(path, clock=count, purge_interval=None) as store,
            store.claim("k", lease=60, keep_alive=True),
        ):
            clock.advance(20 - 1e-6)
            await asyncio.sleep(0.01)
            looks, started = 0, time.monotonic()
            await asyncio.sleep(0.5)
            took = time.monotonic() - started
        assert looks < 3 * (took / 0.05 + 1)

    async def test_lost_in_a_cancelled_task(self, live: AsyncSeenStore) -> None:
        """A task that was cancelled before, and went on, learns of a loss as well."""

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

    async def test_settled_inside(self, steady: Pair) -> None:
        """A block that goes on after its confirm or release is not taken for lost."""
        store, _ = steady
        for verb in ("confirm", "release"):
            async with store.claim(verb, lease=0.06, keep_alive=True) as claim:
                await getattr(claim, verb)()
                await asyncio.sleep(0.2)
        assert "renew" not in (await store.stats()).operations
        assert await verdict(store, "release") is Verdict.RETRY

    async def test_only_in_a_block_of_an_owner(
        self, steady: Pair, clock: Clock
    ) -> None:
        """By hand, or for a claim that is not owned, nothing is renewed."""
        store, _ = steady
        claim = await store.claim("k", lease=0.1, keep_alive=True)
        async with store.claim("k", lease=0.06, keep_alive=True) as other:
            clock.advance(0.1)
            await asyncio.sleep(0.2)
        assert not other
        assert claim.remaining() == 0
        assert "renew" not in (await store.stats()).operations

    @pytest.mark.usefixtures("nothing_left")
    async def test_store_closes_first(self, target: Target) -> None:
        """A store that is closed under the block ends the renewal with it."""
        store = AsyncSeenStore(target.config())
        await store.open()
        with pytest.raises(StoreClosedError):
            async with store.claim("k", lease=0.1, keep_alive=True):
                await store.aclose()
                await asyncio.sleep(0.1)


class TestWait:
    """wait=seconds."""

    @pytest.mark.parametrize(
        ("end", "expected"),
        [
            ("confirm", Verdict.DUPLICATE),
            ("release", Verdict.RETRY),
            ("mark", Verdict.DUPLICATE),
            ("forget", Verdict.NEW),
        ],
    )
    async def test_woken(
        self,
        live: AsyncSeenStore,
        monkeypatch: pytest.MonkeyPatch,
        end: str,
        expected: Verdict,
    ) -> None:
        """In one store a waiter is woken: it asks once before and once after.

        What is seen then, it learns without asking the database.
        """
        monkeypatch.setattr(_taking, "_FIRST_POLL", 60)
        owner = await live.claim("k")
        ends: dict[str, Callable[[], Awaitable[object]]] = {
            "confirm": owner.confirm,
            "release": owner.release,
            "mark": lambda: live.mark_many(["other", "k"]),
            "forget": lambda: live.forget("k"),
        }
        waiter = asyncio.create_task(live.claim("k", wait=60))
        await operations(live, "claim", 2)
        async with asyncio.timeout(30):
            await ends[end]()
            claim = await waiter
        assert claim.verdict is expected
        asked = 2 if expected is Verdict.DUPLICATE else 3
        assert (await live.stats()).operations["claim"] == asked

    async def test_lease_ends(
        self, live: AsyncSeenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A waiter claims the key as soon as its lease is over."""
        monkeypatch.setattr(_taking, "_FIRST_POLL", 120)
        owner = await live.claim("k", lease=0.3)
        async with asyncio.timeout(30):
            claim = await live.claim("k", wait=60)
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)
        with pytest.raises(LeaseLostError):
            await owner.confirm()

    async def test_time_is_over(self, live: AsyncSeenStore) -> None:
        """Then it is IN_FLIGHT; meanwhile it asked now and then, not all the time."""
        await live.claim("k")
        started = time.monotonic()
        async with asyncio.timeout(30):  # the lease is 60 seconds
            claim = await live.claim("k", wait=1)
        assert claim.verdict is Verdict.IN_FLIGHT
        took = time.monotonic() - started
        assert took >= 1
        assert 3 <= (await live.stats()).operations["claim"] <= 12 * took

    async def test_another_process(self, pair: Pair) -> None:
        """What another store did is noticed, by a claim a second.

        The control is a caller that sleeps for a second between its claims.
        """
        store, other = pair
        ends = {"release": Verdict.RETRY, "confirm": Verdict.DUPLICATE}
        owners = [await other.claim(end) for end in ends]
        waiters = [asyncio.create_task(store.claim(end, wait=200)) for end in ends]
        await asyncio.sleep(2)  # by then the pauses are as long as they become
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

    async def test_every_waiter(self, live: AsyncSeenStore) -> None:
        """Of many waiters one claims what is released, all see what is confirmed."""
        owner = await live.claim("k")
        waiters = [asyncio.create_task(live.claim("k", wait=50)) for _ in range(50)]
        await operations(live, "claim", 51)
        await owner.release()
        done, waiting = await asyncio.wait(waiters, return_when="FIRST_COMPLETED")
        (first,) = [task.result() for task in done]
        assert first.verdict is Verdict.RETRY
        assert len(waiting) == 49
        await asyncio.sleep(0.5)  # woken for nothing, they sleep again
        assert (await live.stats()).operations["claim"] < 50 * 12
        await first.confirm()
        verdicts = {claim.verdict for claim in await asyncio.gather(*waiting)}
        assert verdicts == {Verdict.DUPLICATE}

    async def test_one_after_the_other(
        self, live: AsyncSeenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A release wakes one waiter: many that take turns ask a few times each."""
        monkeypatch.setattr(_taking, "_FIRST_POLL", 120)
        turns = 0

        async def work() -> None:
            nonlocal turns
            claim = await live.claim("k", wait=50)
            assert claim
            turns += 1
            await claim.release()

        owner = await live.claim("k")
        waiters = [asyncio.create_task(work()) for _ in range(100)]
        given_up = [asyncio.create_task(live.claim("k", wait=50)) for _ in range(20)]
        await operations(live, "claim", 121)
        await owner.release()
        for task in given_up:  # woken or not, they do not use it
            task.cancel()
        await asyncio.gather(*waiters)
        assert turns == 100
        assert (await live.stats()).operations["claim"] < 1_500
        assert not live._sender._watchers

    async def test_passed_on(
        self, live: AsyncSeenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A waiter that is cancelled when it is woken leaves the key to the next."""
        monkeypatch.setattr(_taking, "_FIRST_POLL", 60)
        owner = await live.claim("k")
        first, second = (
            asyncio.create_task(live.claim("k", wait=60)) for _ in range(2)
        )
        await operations(live, "claim", 3)
        release = asyncio.create_task(owner.release())
        while not live._sender._watchers["", "k"][0].is_set():
            await asyncio.sleep(0)
        first.cancel()
        assert await release
        async with asyncio.timeout(30):
            assert await second

    async def test_passed_on_by_a_failure(
        self, hasty: AsyncSeenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A waiter whose claim fails leaves the key to the next as well."""
        monkeypatch.setattr(_taking, "_FIRST_POLL", 60)
        owner = await hasty.claim("k")
        first, second = (
            asyncio.create_task(hasty.claim("k", wait=60)) for _ in range(2)
        )
        await operations(hasty, "claim", 3)
        await owner.release()
        refuse(monkeypatch, "BEGIN", "SQLITE_FULL")
        with pytest.raises(StoreUnavailableError):
            await first
        async with asyncio.timeout(30):
            assert await second

    async def test_closed_meanwhile(self, target: Target) -> None:
        """A store that closes tells who waits at once; the key is still in flight."""
        store = AsyncSeenStore(target.config())
        await store.open()
        await store.claim("k")
        waiters = [asyncio.create_task(store.claim("k", wait=60)) for _ in range(10)]
        await operations(store, "claim", 11)
        async with asyncio.timeout(30):
            await store.aclose()
            claims = await asyncio.gather(*waiters)
        assert {claim.verdict for claim in claims} == {Verdict.IN_FLIGHT}

    async def test_seen_key_does_not_wait(self, live: AsyncSeenStore) -> None:
        """Only a key in flight is waited for."""
        await live.mark_seen("k")
        await live.claim("held", lease=0.001, on_abandoned="hold")
        await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            assert (await live.claim("k", wait=60)).verdict is Verdict.DUPLICATE
            assert (await live.claim("held", wait=60)).verdict is Verdict.HELD

    async def test_cancelled(self, live: AsyncSeenStore) -> None:
        """A waiter that is cancelled leaves nothing behind."""
        owner = await live.claim("k")
        waiter = asyncio.create_task(live.claim("k", wait=30))
        await operations(live, "claim", 2)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not live._sender._watchers
        await owner.confirm()


class TestCancelled:
    """A claim that is cancelled while it is taken is leased to nobody."""

    @pytest.mark.parametrize("many", [False, True], ids=["claim", "claim_many"])
    async def test_at_random(
        self, target: Target, figures: Figures, *, many: bool
    ) -> None:
        """Of many claims cancelled at random, each key is free before its lease ends.

        The lease is 60 seconds.
        """
        calls = 500 if target.name == "file" and not many else 100
        rng = random.Random(20_261_123)
        endings: Counter[str] = Counter()
        worst = 0.0
        async with AsyncSeenStore(target.config(purge_interval=None)) as store:
            hop = await time_of_a_hop(store)
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

    async def test_all_at_once(self, target: Target) -> None:
        """500 concurrent claims, each cancelled at its own moment, are all free."""
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

    async def test_again_at_once(self, target: Target) -> None:
        """Whoever gives up a claim and asks again is not told of the own ghost."""
        rng = random.Random(11)
        given_up = 0
        async with AsyncSeenStore(target.config(purge_interval=None)) as store:
            hop = await time_of_a_hop(store)
            for number in range(200):
                try:
                    async with asyncio.timeout(rng.random() * hop):
                        claim = await store.claim(f"{number}")
                except TimeoutError:
                    given_up += 1
                    claim = await store.claim(f"{number}")
                assert claim
        assert given_up > 20

    async def test_unknown_and_cancelled(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cancelled claim whose commit met an I/O error is given back all the same.

        Its release is on the broken connection, and has to be sent again.
        """
        began, go_on = threading.Event(), threading.Event()
        execute = _worker.Connection.execute

        def slow(db: _worker.Connection, work: object, *rest: object) -> object:
            if work == "COMMIT" and not began.is_set():
                began.set()
                assert go_on.wait(60)
            return execute(db, work, *rest)

        async with AsyncSeenStore(path, purge_interval=None) as store:
            refuse(monkeypatch, "COMMIT", "SQLITE_IOERR_FSYNC", [True])
            execute = _worker.Connection.execute
            monkeypatch.setattr(_worker.Connection, "execute", slow)
            claim = asyncio.create_task(store.claim("k"))
            assert await asyncio.to_thread(began.wait, 60)
            claim.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await claim
            again = await store.claim("k", wait=30)
            assert (again.verdict, again.attempt) == (Verdict.RETRY, 2)

    async def test_over_a_broken_connection(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was cancelled behind an I/O error is not carried out after all.

        Its release goes over a new connection, and would come too early.
        """
        failing, failed, overtaken, done = (threading.Event() for _ in range(4))
        async with AsyncSeenStore(path, purge_interval=None) as store:
            backend: Any = store._session.backend._connections  # type: ignore[attr-defined]
            perform, calls = backend._perform, itertools.count()

            def slow(db: object, work: object) -> object:
                number = next(calls)
                if number == 0:  # the mark, whose commit fails
                    failing.set()
                    assert failed.wait(60)
                elif number == 1:  # the claim, behind it
                    assert overtaken.wait(60)
                try:
                    return perform(db, work)
                finally:
                    if number == 1:
                        done.set()

            monkeypatch.setattr(backend, "_perform", slow)
            refuse(monkeypatch, "COMMIT", "SQLITE_IOERR_FSYNC")
            mark = asyncio.create_task(store.mark_seen("other"))
            assert await asyncio.to_thread(failing.wait, 60)
            mark.cancel()
            await asyncio.sleep(0)
            claim = asyncio.create_task(store.claim("k"))
            for _ in range(5):
                await asyncio.sleep(0)
            failed.set()
            while not backend._worker.is_suspect:
                await asyncio.sleep(0)
            claim.cancel()
            outcomes = await asyncio.gather(mark, claim, return_exceptions=True)
            assert {type(one) for one in outcomes} == {asyncio.CancelledError}
            await store.is_seen("k")  # behind the release
            overtaken.set()
            assert await asyncio.to_thread(done.wait, 60)
            assert await store.claim("k")

    async def test_given_back_while_closing(self, shared: Target) -> None:
        """Also if the store closes right after."""
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
