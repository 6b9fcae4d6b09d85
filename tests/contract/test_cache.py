"""Recent sightings: what is known to be seen is answered without a hop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStore,
    SeenStoreConfig,
    Verdict,
)
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import AllSeen, IsSeen, Operation, Row

from ..support.backends import Batch, intercepted
from ..support.clock import DAY, Clock
from ..support.sqlite_faults import SqliteFaults
from ..support.sqlite_files import write
from ..support.targets import Target

LONG = 1_000.0
LARGE = [str(number) for number in range(3_000)]

Ask = Callable[[AsyncSeenStore, str], Awaitable[object]]

QUESTIONS: dict[str, Ask] = {
    "is_seen": lambda store, key: store.is_seen(key),
    "check_and_mark": lambda store, key: store.check_and_mark(key),
    "check_and_mark_many": lambda store, key: store.check_and_mark_many([key, key]),
    "filter_new": lambda store, key: store.filter_new([key]),
    "claim": lambda store, key: store.claim(key),
}


def config(
    place: Path | Target, staleness: float = LONG, keys: int = 100
) -> SeenStoreConfig:
    """Settings with a memory that lasts."""
    settings = SeenStoreConfig(place) if isinstance(place, Path) else place.settings
    return replace(
        settings, recent_staleness=staleness, recent_keys=keys, purge_interval=None
    )


@pytest.fixture
async def store(
    shared: Target,
    clock: Clock,  # noqa: ARG001 - its time is the target's
) -> AsyncIterator[AsyncSeenStore]:
    """An open store that remembers."""
    async with AsyncSeenStore(config(shared), ttl=DAY) as made:
        yield made


async def asked(store: AsyncSeenStore) -> int:
    """How many operations went to the database."""
    return sum((await store.stats()).operations.values())


def learning(store: AsyncSeenStore, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """An event that is set when a store has cached the first key of a batch."""
    begun = asyncio.Event()
    cache = store._dispatcher.cache
    update = cache._update_key

    def noting(operation: Operation[object], row: Row | AllSeen | None) -> None:
        update(operation, row)
        begun.set()

    monkeypatch.setattr(cache, "_update_key", noting)
    return begun


async def mark_one_by_one(
    store: AsyncSeenStore, keys: list[str], ttl: float = DAY
) -> None:
    """Mark many keys as one call whose operations are each on one key."""
    await store.mark_many(keys, ttl=ttl, note=lambda _: None)


@pytest.mark.parametrize("question", QUESTIONS)
class TestAnswers:
    """What is answered from memory."""

    async def test_seen_key_is_read_once(
        self, store: AsyncSeenStore, question: str
    ) -> None:
        """A seen key is read once; the cache returns what the database would."""
        await store.mark_seen("k")
        fresh = await store.check_and_mark("k")
        await QUESTIONS[question](store, "k")  # a listing is cached when it was read
        before, hits = await asked(store), (await store.stats()).recent_hits
        for _ in range(10):
            await QUESTIONS[question](store, "k")
        assert await asked(store) == before
        assert (await store.stats()).recent_hits >= hits + 10
        is_listing = question in {"check_and_mark_many", "filter_new"}
        assert (await store.stats()).recent_keys == 1 + is_listing
        assert await store.check_and_mark_many(["k", "k"]) == [fresh, fresh]
        assert await store.check_and_mark("k") == fresh
        claim = await store.claim("k")
        assert (claim.verdict, claim.retry_after) == (Verdict.DUPLICATE, None)

    async def test_unseen_key_is_read_every_time(
        self, store: AsyncSeenStore, question: str
    ) -> None:
        """An unseen key is read every time, since another store may mark it."""
        await store.claim("claimed")
        for key in ("new", "claimed"):
            before = await asked(store)
            for _ in range(3):
                await store.forget("new")
                await QUESTIONS[question](store, key)
            assert await asked(store) >= before + 6

    async def test_cache_ends_with_the_ttl(
        self, store: AsyncSeenStore, clock: Clock, question: str
    ) -> None:
        """No key is cached beyond its time to live, to the instant."""
        await store.mark_seen("k", ttl=10)
        await QUESTIONS[question](store, "k")
        clock.advance(9.999)
        before = await asked(store)
        await QUESTIONS[question](store, "k")
        assert await asked(store) == before
        clock.advance(0.001)
        await QUESTIONS[question](store, "k")
        assert await asked(store) > before

    @pytest.mark.usefixtures("clock")
    async def test_cache_of_no_keys_reads_every_time(
        self, shared: Target, question: str
    ) -> None:
        """Without a cache every operation reaches the database."""
        for off in (config(shared, staleness=0), config(shared, keys=0)):
            async with AsyncSeenStore(off) as store:
                await store.mark_seen("k")
                before = await asked(store)
                for _ in range(5):
                    await QUESTIONS[question](store, "k")
                assert await asked(store) >= before + 5
                stats = await store.stats()
                assert (stats.recent_keys, stats.recent_hits) == (0, 0)


class TestForgotten:
    """What is not seen any more."""

    @pytest.mark.parametrize("other", ["itself", "store", "thread"])
    @pytest.mark.parametrize("verb", ["forget", "cleanup"])
    async def test_forget_invalidates_all_stores_here(
        self, store: AsyncSeenStore, shared: Target, clock: Clock, other: str, verb: str
    ) -> None:
        """A forget by any store of this process counts at once in all of them."""

        def forget(by: AsyncSeenStore) -> Awaitable[object]:
            return by.forget("k") if verb == "forget" else by.cleanup_old_entries(0)

        def forget_blocking() -> None:
            with SeenStore(config(shared)) as by:
                assert by.forget("k") if verb == "forget" else by.cleanup_old_entries(0)

        for _ in range(3):
            await store.mark_many(["k", "other"])
            assert await store.is_seen("k")
            clock.advance(1)
            if other == "thread":
                await asyncio.to_thread(forget_blocking)
            elif other == "store":
                async with AsyncSeenStore(config(shared)) as by:
                    assert await forget(by)
            else:
                assert await forget(store)
            assert not await store.is_seen("k")

    async def test_forget_by_another_name_invalidates(self, path: Path) -> None:
        """A forget counts whatever name its store has for the same file."""
        linked = path.with_name("link")
        linked.symlink_to(path.parent)
        async with (
            AsyncSeenStore(config(path)) as store,
            AsyncSeenStore(config(linked / path.name)) as other,
        ):
            for _ in range(3):
                await store.mark_seen("k")
                assert await store.is_seen("k")
                assert await other.forget("k")
                assert not await store.is_seen("k")

    async def test_forget_invalidates_only_its_keys(
        self, store: AsyncSeenStore
    ) -> None:
        """A forget of this store invalidates the forgotten keys only."""
        for key in ("k", "other"):
            await store.mark_seen(key)
        await store.forget("k")
        before = await asked(store)
        assert await store.is_seen("other")
        assert await asked(store) == before

    async def test_read_overtaken_by_forget_is_not_cached(
        self, store: AsyncSeenStore, shared: Target
    ) -> None:
        """A result that was under way when its key was forgotten is not cached."""
        await store.mark_seen("k")
        await store.forget("other")
        async with AsyncSeenStore(config(shared), ttl=DAY) as other:

            async def forget_meanwhile(
                _: Batch, apply: Callable[[], Awaitable[BatchResult]]
            ) -> BatchResult:
                result = await apply()
                await other.forget("k")
                return result

            with intercepted(store, forget_meanwhile):
                assert await store.get("k") is not None  # at the time of the read
            assert not await store.is_seen("k")

    async def test_update_overtaken_by_forget_is_not_cached(
        self, shared: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A forget during the update of the cache after a large batch counts."""
        async with AsyncSeenStore(config(shared, keys=10_000)) as store:
            await mark_one_by_one(store, LARGE)
            begun = learning(store, monkeypatch)
            marking = asyncio.create_task(mark_one_by_one(store, LARGE))
            await begun.wait()
            with SeenStore(config(shared)) as other:
                assert other.forget(LARGE[-1])
            await store.is_seen(LARGE[0])
            await marking
            assert not await store.is_seen(LARGE[-1])

    @pytest.mark.slow
    async def test_cancelled_update_leaves_nothing_outdated(
        self, shared: Target, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call that is cancelled during that update leaves nothing outdated."""
        settings = config(shared, keys=10_000)
        async with AsyncSeenStore(settings, ttl=DAY) as store:
            await mark_one_by_one(store, LARGE)
            begun = learning(store, monkeypatch)
            marking = asyncio.create_task(mark_one_by_one(store, LARGE, ttl=5))
            await begun.wait()
            marking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await marking
            clock.advance(5)
            assert await store.filter_new(LARGE) == LARGE

    @pytest.mark.parametrize("is_done", [True, False])
    async def test_forget_of_unknown_outcome_invalidates(
        self, path: Path, *, is_done: bool
    ) -> None:
        """A key whose forget has an unknown outcome is read again."""
        faults = SqliteFaults()
        tuned = replace(config(path), tuning=faults.tuning)
        async with AsyncSeenStore(tuned) as store:
            await store.mark_seen("k")
            faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC", [is_done])
            with pytest.raises(OutcomeUnknownError):
                await store.forget("k")
            assert await store.is_seen("k") is not is_done

    async def test_unknown_outcome_hides_no_other_forget(self, path: Path) -> None:
        """A forget of unknown outcome hides no earlier forget of another store."""
        faults = SqliteFaults()
        tuned = replace(config(path), tuning=faults.tuning)
        async with AsyncSeenStore(tuned) as store:
            await store.mark_many(["k", "other"])
            async with AsyncSeenStore(config(path)) as by:
                await by.forget("other")
            faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC", [True])
            with pytest.raises(OutcomeUnknownError):
                await store.forget("k")
            assert not await store.is_seen("other")

    async def test_cached_result_is_as_old_as_its_request(self, shared: Target) -> None:
        """A result that took long is as old as its request."""
        async with AsyncSeenStore(config(shared, staleness=0.1)) as store:

            async def wipe_and_wait(
                _: Batch, apply: Callable[[], Awaitable[BatchResult]]
            ) -> BatchResult:
                result = await apply()
                await asyncio.to_thread(shared.wipe)
                await asyncio.sleep(0.2)
                return result

            with intercepted(store, wipe_and_wait):
                await store.mark_seen("k")
            assert not await store.is_seen("k")

    @pytest.mark.parametrize("staleness", [0.01, 0.3])
    async def test_staleness_is_bounded(self, shared: Target, staleness: float) -> None:
        """A forget by another program is noticed after the staleness at the latest."""
        async with AsyncSeenStore(config(shared, staleness)) as store:
            for _ in range(3):
                await store.mark_seen("k")
                assert await store.is_seen("k")
                await asyncio.to_thread(shared.wipe)
                gone = time.monotonic()
                asked_at = gone
                while await store.is_seen("k"):
                    assert asked_at - gone < staleness
                    await asyncio.sleep(0.001)
                    asked_at = time.monotonic()

    async def test_forget_during_reconnect_is_noticed(self, path: Path) -> None:
        """A forget by another program during a reconnect is noticed."""
        faults = SqliteFaults()
        tuned = replace(config(path, staleness=0.05), tuning=faults.tuning)
        async with AsyncSeenStore(tuned) as store:
            await store.mark_seen("k")
            faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC")
            with pytest.raises(OutcomeUnknownError):
                await store.mark_seen("other")
            write(path, "DELETE FROM seen")
            await asyncio.sleep(0.1)
            await store.get("other")
            assert not await store.is_seen("k")

    async def test_cache_fills_again_after_invalidation(
        self, store: AsyncSeenStore, shared: Target
    ) -> None:
        """After a forget by another store the cache fills again."""
        await store.mark_seen("k")
        await store.forget("k")
        async with AsyncSeenStore(config(shared)) as other:
            await other.mark_seen("other")
            await other.forget("other")
        await store.mark_seen("first")
        await store.mark_seen("k")
        assert (await store.stats()).recent_keys > 0

    async def test_one_check_revalidates_all_keys(self, path: Path) -> None:
        """After a pause one check of the database revalidates all keys."""
        async with AsyncSeenStore(config(path, staleness=0.05)) as store:
            await store.mark_many(["a", "b", "c", "d"])
            looks: list[int] = []
            while len(looks) < 10 and min(looks, default=4) >= 4:
                await asyncio.sleep(0.1)
                before = await asked(store)
                for key in "abcd":
                    assert await store.is_seen(key)
                looks.append(await asked(store) - before)
            assert min(looks) < 4  # a machine that stalls between them needs more
            write(path, "DELETE FROM seen WHERE key = 'd'")
            await asyncio.sleep(0.1)
            assert [await store.is_seen(key) for key in "abcd"] == [True] * 3 + [False]

    async def test_revocable_verdicts_are_not_cached(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A verdict that an owner can still revoke is not cached."""
        claim = await store.claim("k", lease=10, on_abandoned="drop")
        clock.advance(10)
        assert await store.is_seen("k")
        assert (await store.stats()).recent_keys == 0
        await claim.renew()
        assert not await store.is_seen("k")

    async def test_shorter_ttl_counts_in_the_cache(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A mark with a shorter time to live counts from then on."""
        await store.mark_seen("k")
        await store.mark_seen("k", ttl=5)
        clock.advance(5)
        assert not await store.is_seen("k")


LISTED = ["a", "b", "c"]


class TestListings:
    """A listing that is asked for again is answered as a whole."""

    async def hits(self, store: AsyncSeenStore) -> int:
        """How many keys a question on the listing finds in the cache."""
        before = (await store.stats()).recent_hits
        assert await store.filter_new(LISTED) == []
        return (await store.stats()).recent_hits - before

    @pytest.fixture
    async def listing(self, store: AsyncSeenStore) -> AsyncSeenStore:
        """A store with a listing of seen keys, which it has read."""
        await store.mark_many(LISTED)
        await store.filter_new(LISTED)
        assert await self.hits(store) == len(LISTED)
        return store

    async def test_order_and_keys_count(self, listing: AsyncSeenStore) -> None:
        """Another listing of the same keys, or of one less, is read."""
        before = await asked(listing)
        assert await listing.filter_new(["c", "b", "a"]) == []
        assert await listing.filter_new(["a", "b"]) == []
        assert await listing.filter_new(LISTED, namespace="other") == LISTED
        assert await asked(listing) == before + 8

    @pytest.mark.parametrize("verb", ["forget", "mark", "mark_many", "forget_many"])
    async def test_what_may_end_a_key(
        self, listing: AsyncSeenStore, clock: Clock, verb: str
    ) -> None:
        """A forgotten key, and one whose TTL was shortened, count at once."""
        if verb == "forget":
            await listing.forget("b")
        elif verb == "forget_many":
            assert await listing.forget_many(["b", "unknown"]) == 1
        elif verb == "mark_many":
            await listing.mark_many(["x", "b"], ttl=5)
        else:
            await listing.mark_seen("b", ttl=5)
        clock.advance(5)
        assert await listing.filter_new(LISTED) == ["b"]

    async def test_other_verbs_do_not_matter(self, listing: AsyncSeenStore) -> None:
        """What changes no seen key leaves the listing cached."""
        await listing.check_and_mark("x")
        async with listing.claim("y"):
            pass
        await (await listing.claim("z")).release()
        await listing.refresh(["a"])
        await listing.get("b")
        await listing.mark_seen("a", namespace="other", ttl=1)
        await listing.forget("a", namespace="other")
        assert await self.hits(listing) == len(LISTED)

    async def test_refresh_updates_the_sightings(
        self, listing: AsyncSeenStore, clock: Clock
    ) -> None:
        """The last sighting of a refreshed key is the one that the database has."""
        await listing.check_and_mark_many(LISTED)
        clock.advance(10)
        await listing.refresh(["b"])
        sightings = await listing.check_and_mark_many(LISTED)
        assert [one.last_seen - one.first_seen for one in sightings] == [0, 10, 0]
        assert sightings == await listing.check_and_mark_many(LISTED)
        assert await self.hits(listing) == len(LISTED)

    async def test_revocable_verdicts(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A listing with a key that the owner of a claim may renew is not cached."""
        claim = await store.claim("b", lease=10, on_abandoned="drop")
        await store.mark_many(["a", "c"])
        clock.advance(10)
        for _ in range(2):
            assert await store.filter_new(LISTED) == []
            assert [bool(one) for one in await store.check_and_mark_many(LISTED)] == [
                False
            ] * 3
        assert await self.hits(store) == 0
        await claim.renew()
        assert await store.filter_new(LISTED) == ["b"]

    async def test_forget_by_another_store(
        self, listing: AsyncSeenStore, shared: Target
    ) -> None:
        """A forget by another store of this process counts at once."""
        async with AsyncSeenStore(config(shared)) as other:
            await other.forget("b")
        assert await listing.filter_new(LISTED) == ["b"]

    async def test_listings_count_by_their_size(self, path: Path) -> None:
        """Listings of many keys take no more memory than as many keys would."""
        async with AsyncSeenStore(config(path, keys=1_000)) as store:
            for number in range(40):
                listing = [f"{number} {key}" for key in LARGE[:1_000]]
                for _ in range(2):
                    await store.check_and_mark_many(listing)
            assert 0 < (await store.stats()).recent_keys <= 1_000
            before = await asked(store)
            await store.check_and_mark_many(listing)  # the last one
            assert await asked(store) == before
            first = [f"0 {key}" for key in LARGE[:1_000]]
            await store.check_and_mark_many(first)
            assert await asked(store) == before + 1_000

    async def test_poller_with_many_feeds(self, shared: Target) -> None:
        """Feeds with more keys than the cache has entries are answered from it."""
        settings = replace(config(shared, keys=2_000), max_in_flight=10_000)
        feeds = {f"feed {n}": [f"{n} {i}" for i in range(100)] for n in range(50)}
        async with AsyncSeenStore(settings) as store:
            for _ in range(2):
                for feed, keys in feeds.items():
                    await store.check_and_mark_many(keys, namespace=feed)
            before = await asked(store)
            for feed, keys in feeds.items():
                sightings = await store.check_and_mark_many(keys, namespace=feed)
                assert [one.key for one in sightings] == keys
                assert not any(sightings)
                assert await store.filter_new(keys, namespace=feed) == []
            assert await asked(store) == before
            assert (await store.stats()).recent_keys <= 2_000


class TestSize:
    """It is bounded."""

    @pytest.mark.parametrize("keys", [0, 1, 2, 3, 10, 99])
    @pytest.mark.slow
    async def test_cache_size_is_bounded(self, path: Path, keys: int) -> None:
        """The cache never holds more keys than allowed; evicted keys are read again."""
        async with AsyncSeenStore(config(path, keys=keys)) as store:
            for number in range(50):
                await store.check_and_mark(f"one {number}")
                assert (await store.stats()).recent_keys <= keys
            await mark_one_by_one(store, LARGE)
            assert (await store.stats()).recent_keys <= keys
            for number in range(20):
                for _ in range(2):
                    await store.check_and_mark_many([f"listed {number}"])
            assert (await store.stats()).recent_keys <= keys
            for number in range(50):
                assert not await store.check_and_mark(f"one {number}")

    async def test_used_keys_are_not_evicted(self, shared: Target) -> None:
        """A key in regular use is not evicted by new keys."""
        async with AsyncSeenStore(config(shared, keys=10)) as store:
            await store.mark_seen("k")
            before = (await store.stats()).operations.get("is_seen", 0)
            for number in range(100):
                await store.check_and_mark(str(number))
                assert await store.is_seen("k")
            assert (await store.stats()).operations.get("is_seen", 0) == before

    @pytest.mark.slow
    async def test_large_cached_call_yields_to_the_loop(self, path: Path) -> None:
        """A call for very many cached keys does not stop the event loop."""
        keys = [str(number) for number in range(20_000)]
        async with AsyncSeenStore(config(path, keys=100_000)) as store:
            await mark_one_by_one(store, keys)
            asking = asyncio.create_task(
                store._dispatcher.query_many([IsSeen("", k) for k in keys])
            )
            turns = 0
            while not asking.done():
                await asyncio.sleep(0)
                turns += 1
            assert None not in await asking
            assert turns >= 19

    async def test_cached_calls_yield_to_the_loop(self, store: AsyncSeenStore) -> None:
        """A task whose calls the cache serves does not stop the event loop."""
        await store.mark_seen("k")
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(other())
        for _ in range(10_000):
            await store.is_seen("k")
        assert turns >= 9
        keys = [str(number) for number in range(30)]
        await store.mark_many(keys)
        for verb in (store.filter_new, store.check_and_mark_many):
            turns = 0
            for _ in range(4_000):  # each takes as long as four keys by themselves
                await verb(keys)
            assert turns >= 9
        task.cancel()
