"""What a store counts, on every backend."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    ErrorCount,
    LeaseLostError,
    OperationCount,
    SeenStore,
    Sizes,
    StoreMetrics,
    StoreUnavailableError,
)
from catalyst_seen._metrics import MAX_NAMESPACES, OTHER

from ..support.backends import failing
from ..support.clock import Clock
from ..support.targets import Target
from ..support.waiting import until


def counted(metrics: StoreMetrics, verb: str) -> dict[tuple[str, str], int]:
    """Return the counts of a verb, by outcome and namespace."""
    return {
        (one.outcome, one.namespace): number
        for one, number in metrics.operations.items()
        if one.verb == verb
    }


async def sampled(store: AsyncSeenStore) -> Sizes:
    """Return the first sample, once it was taken."""
    await until(lambda: store.metrics().sizes is not None)
    sizes = store.metrics().sizes
    assert sizes is not None
    return sizes


class TestOperations:
    """Operations are counted by verb, outcome and namespace."""

    async def test_verdicts(self, store: AsyncSeenStore, clock: Clock) -> None:
        """Each verdict of a check and of a claim is counted by its name."""
        await store.check_and_mark("a", namespace="n")
        await store.check_and_mark("a", namespace="n")
        held = await store.claim("h", lease=10, on_abandoned="hold")
        assert not await store.check_and_mark("h")
        clock.advance(11)
        assert not await store.check_and_mark("h")
        claim = await store.claim("c")
        await claim.release()
        assert await store.check_and_mark("c")
        assert counted(store.metrics(), "check_and_mark") == {
            ("new", "n"): 1,
            ("duplicate", "n"): 1,
            ("in_flight", ""): 1,
            ("held", ""): 1,
            ("retry", ""): 1,
        }
        assert counted(store.metrics(), "claim") == {("new", ""): 2}
        assert held.verdict == "new"

    async def test_other_verbs(self, store: AsyncSeenStore) -> None:
        """What a verb could not do is told from what it did."""
        await store.mark_seen("a")
        assert await store.is_seen("a")
        assert not await store.is_seen("b")
        assert await store.get("a")
        assert not await store.get("b")
        assert await store.refresh(["a", "b"]) == 1
        assert not await store.resolve("b", handled=True)
        claim = await store.claim("c")
        await claim.renew()
        await claim.confirm()
        assert await store.forget_many(["a", "b", "c"]) == 2
        metrics = store.metrics()
        found = {
            verb: {outcome: number for (outcome, _), number in counts.items()}
            for verb in ("mark", "is_seen", "get", "refresh", "resolve", "renew",
                         "confirm", "forget")
            if (counts := counted(metrics, verb))
        }  # fmt: skip
        assert found == {
            "mark": {"done": 1},
            "is_seen": {"seen": 1, "unseen": 1},
            "get": {"seen": 1, "unseen": 1},
            "refresh": {"done": 1, "refused": 1},
            "resolve": {"refused": 1},
            "renew": {"done": 1},
            "confirm": {"done": 1},
            "forget": {"done": 2, "refused": 1},
        }

    async def test_many_keys(self, store: AsyncSeenStore) -> None:
        """A call with many keys counts each, whoever answers: database or cache."""
        keys = [str(number) for number in range(700)]
        for _ in range(3):
            await store.check_and_mark_many(keys, namespace="n")
            await store.filter_new(keys, namespace="n")
        await store.claim_many([*keys, "other"], namespace="n")
        metrics = store.metrics()
        assert counted(metrics, "check_and_mark") == {
            ("new", "n"): 700,
            ("duplicate", "n"): 1400,
        }
        assert counted(metrics, "is_seen") == {("seen", "n"): 2100}
        assert counted(metrics, "claim") == {("duplicate", "n"): 700, ("new", "n"): 1}

    async def test_listings(self, store: AsyncSeenStore) -> None:
        """The items of a listing are counted by what became of them, and once."""
        feed = store.namespace("feed")
        await feed.observe(["a", "b"])
        await feed.observe(["a", "b", "c"], validators="v")
        assert await feed.observed_unchanged("v")
        assert counted(store.metrics(), "observe") == {
            ("baseline", "feed"): 2,
            ("new", "feed"): 1,
            ("duplicate", "feed"): 5,
        }

    async def test_the_same_as_the_statistics(self, store: AsyncSeenStore) -> None:
        """Each call is counted once: by the cache, or by what was sent."""
        for _ in range(3):
            await store.check_and_mark("k")
            await store.check_and_mark_many(["k", "l"])
        metrics, stats = store.metrics(), await store.stats()
        assert metrics.cache_hits == stats.recent_hits
        assert metrics.cache_keys == stats.recent_keys
        assert sum(metrics.operations.values()) == 9
        assert sum(stats.operations.values()) == 9 - stats.recent_hits
        assert metrics.batch_keys.sum == 9 - stats.recent_hits
        assert metrics.batch_seconds.count == stats.batches

    async def test_namespaces_are_limited(self, store: AsyncSeenStore) -> None:
        """The first namespaces are counted by themselves, all others together."""
        names = [f"n{number}" for number in range(MAX_NAMESPACES + 700)]
        for _ in range(5):
            await asyncio.gather(
                *(store.check_and_mark("k", namespace=name) for name in names)
            )
            await asyncio.gather(*(store.claim("l", namespace=name) for name in names))
            store.metrics()
        metrics = store.metrics()
        seen = {one.namespace for one in metrics.operations}
        assert len(seen) == MAX_NAMESPACES + 1
        assert sum(metrics.operations.values()) == 10 * len(names)
        assert counted(metrics, "claim")["new", OTHER] == 700
        assert counted(metrics, "check_and_mark")["duplicate", OTHER] == 2800


class TestBatches:
    """Batches, their size and their times are counted in ranges."""

    async def test_histograms(self, store: AsyncSeenStore) -> None:
        """Every batch is in one range of each; the sums are those of all values."""
        await asyncio.gather(*(store.mark_seen(str(number)) for number in range(300)))
        await store.mark_seen("k")
        metrics = store.metrics()
        batches = (await store.stats()).batches
        for histogram in (
            metrics.batch_keys,
            metrics.batch_seconds,
            metrics.wait_seconds,
        ):
            assert len(histogram.bounds) == 12
            assert len(histogram.counts) == 13
            assert histogram.count == batches
        assert metrics.batch_keys.sum == 301
        assert metrics.batch_seconds.sum > 0

    async def test_waiting_for_a_batch(self, store: AsyncSeenStore) -> None:
        """A call that waits for the batch before it has waited as long as that took."""
        await asyncio.gather(*(store.mark_seen(str(number)) for number in range(300)))
        metrics = store.metrics()
        assert 0 < metrics.wait_seconds.sum <= metrics.batch_seconds.sum * 2


class TestErrors:
    """Failed calls are counted by verb and kind."""

    async def test_kinds(self, store: AsyncSeenStore) -> None:
        """A refusal, an unknown outcome and a lost lease are told apart."""
        await store.mark_seen("k", namespace="n")
        with failing(store):
            for call in (
                store.mark_seen("a"),
                store.check_and_mark_many(["a", "b"]),
                store.get("a"),
            ):
                with pytest.raises(StoreUnavailableError):
                    await call
        assert store.metrics().errors == {
            ErrorCount("mark", "unavailable"): 1,
            ErrorCount("check_and_mark", "unavailable"): 1,
            ErrorCount("get", "unavailable"): 1,
        }
        assert len(store.metrics().alarms) == 2

    async def test_lost_leases(self, store: AsyncSeenStore, clock: Clock) -> None:
        """A claim that another owner has now is counted when its owner learns of it."""
        lost = [await store.claim(key, lease=10) for key in "ab"]
        clock.advance(11)
        await store.mark_seen("a")
        await store.mark_seen("b")
        with pytest.raises(LeaseLostError):
            await lost[0].confirm()
        assert await store.confirm_many(lost[1:]) == [False]
        metrics = store.metrics()
        assert metrics.leases_lost == 2
        assert counted(metrics, "confirm") == {("refused", ""): 2}


class TestSizes:
    """What only the database knows is read in the background, when somebody asks."""

    async def test_sample(self, store: AsyncSeenStore, clock: Clock) -> None:
        """A sample has the keys, the claims and the sources, and how old they are."""
        await store.mark_many(["a", "b"], namespace="n")
        await store.claim("c", lease=600)
        await store.claim("h", lease=1, on_abandoned="hold")
        await store.claim("abandoned", lease=1)
        for key, delay in {"r": 0, "s": 20, "delayed": 600}.items():
            await (await store.claim(key, lease=30)).release(delay=delay)
        feed = store.namespace("feed", first="all")
        await feed.observe(["x", "y"])
        clock.advance(60)
        sizes = await sampled(store)
        assert sizes.keys == {"n": 2}
        assert sizes.claimed == 2
        assert sizes.released == 2
        assert sizes.abandoned == {"retry": 1, "hold": 1, "drop": 0}
        assert sizes.oldest_claim == pytest.approx(60, abs=5)
        assert sizes.oldest_released == pytest.approx(60, abs=5)
        assert sizes.oldest_pending == pytest.approx(60, abs=5)
        assert [(one.namespace, one.pending) for one in sizes.sources] == [("feed", 2)]
        assert 0 <= sizes.age < 60
        assert sizes.duration > 0
        assert sizes.engine

    async def test_nothing_is_read_unless_asked(self, target: Target) -> None:
        """A store whose metrics nobody reads takes no sample."""
        async with AsyncSeenStore(target.config()) as store:
            await store.mark_seen("k")
            await asyncio.sleep(0.05)
            assert store._sampling.last is None

    async def test_interval(self, target: Target) -> None:
        """However often somebody asks, there is one sample in an interval."""
        async with AsyncSeenStore(target.config(sample_interval="1h")) as store:
            first = await sampled(store)
            await store.mark_seen("k")
            for _ in range(20):
                store.metrics()
                await asyncio.sleep(0.005)
            sizes = store.metrics().sizes
            assert sizes is not None
            assert (sizes.keys, sizes.duration) == ({}, first.duration)
            assert sizes.age > first.age

    async def test_later_samples(self, target: Target) -> None:
        """After the interval, the next one who asks causes a new sample."""
        async with AsyncSeenStore(target.config(sample_interval="10ms")) as store:
            first = await sampled(store)
            await store.mark_seen("k")
            await until(lambda: (store.metrics().sizes or first).keys == {"": 1})

    async def test_never(self, target: Target) -> None:
        """Without an interval nothing is read."""
        async with AsyncSeenStore(target.config(sample_interval=None)) as store:
            store.metrics()
            await asyncio.sleep(0.05)
            assert store.metrics().sizes is None

    async def test_failure(self, target: Target) -> None:
        """A sample that fails leaves the last one, is counted, and comes again."""
        config = target.config(sample_interval="10ms")
        async with AsyncSeenStore(config) as store:
            await sampled(store)
            backend: Any = store._lifecycle.backend
            stats, alarms = backend.stats, store.metrics().alarms

            async def fail(_: object) -> None:
                raise StoreUnavailableError(store.location, "no", "wait")

            backend.stats = fail
            error = ErrorCount("metrics", "unavailable")
            await until(lambda: error in store.metrics().errors)
            assert store.metrics().sizes is not None
            assert store.metrics().alarms == alarms
            backend.stats = stats
            await store.mark_seen("k")
            await until(lambda: store.metrics().sizes.keys == {"": 1})  # type: ignore[union-attr]


class TestAnyTime:
    """A snapshot needs neither an open store nor its event loop."""

    async def test_closed(self, target: Target) -> None:
        """Before the store is open and after it is closed, there is one as well."""
        store = AsyncSeenStore(target.config())
        assert store.metrics().operations == {}
        async with store:
            await store.mark_seen("k")
            inside = await asyncio.to_thread(store.metrics)
        after = store.metrics()
        mark = OperationCount("mark", "done", "")
        assert inside.operations == after.operations == {mark: 1}

    def test_twin(self, target: Target) -> None:
        """The blocking store counts the same, also what its cache has answered."""
        with SeenStore(target.config()) as store:
            for _ in range(3):
                store.check_and_mark("k", namespace="n")
            view = store.namespace("n")
            assert view.check_and_mark("l")
            assert counted(view.metrics(), "check_and_mark") == {
                ("new", "n"): 2,
                ("duplicate", "n"): 2,
            }

    async def test_backend(self, store: AsyncSeenStore, target: Target) -> None:
        """It says on which backend the store is."""
        names = {
            "valkey": "redis",
            "cluster": "redis",
            "postgres": "postgres",
            "reference": "memory",
        }
        metrics = store.metrics()
        assert metrics.backend == names.get(target.name, "sqlite")
        assert metrics.location == store.location
