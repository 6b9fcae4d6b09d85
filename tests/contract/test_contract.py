"""What every backend does, through the public verbs; run once on each of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from catalyst_seen import AsyncSeenStore, Record, Verdict

from ..support.clock import DAY, NOON, Clock
from ..support.targets import LOCAL, Target

HOUR = 3_600.0


class TestExpiry:
    """A key is seen while now < expires_at, the same everywhere."""

    @pytest.mark.parametrize("ttl", [1, 0.001, 90.5, timedelta(hours=3)])
    async def test_key_expires_at_the_instant(
        self,
        store: AsyncSeenStore,
        target: Target,
        clock: Clock,
        ttl: float | timedelta,
    ) -> None:
        """A key is seen just before its expiry and unseen at it, purged or not."""
        await store.mark_seen("k", ttl=ttl)
        record = await store.get("k")
        assert record is not None
        assert record.expires_at is not None
        clock.now = record.expires_at - 1e-6
        assert await store.is_seen("k")
        assert await store.purge_expired() == 0
        assert not await store.check_and_mark("k", ttl=ttl)
        clock.now = record.expires_at
        assert not await store.is_seen("k")
        assert await store.purge_expired() == target.removed(1)

    async def test_ttl_of_none_never_expires(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A TTL of None never expires."""
        await store.mark_seen("k", ttl=None)
        clock.advance(99 * 365 * DAY)
        assert await store.is_seen("k")
        assert await store.purge_expired() == 0

    async def test_last_mark_sets_the_ttl(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A later mark sets the TTL anew, shorter or longer."""
        await store.mark_seen("k", ttl=None)
        await store.mark_seen("k", ttl=10)
        clock.advance(10)
        assert not await store.is_seen("k")

    @pytest.mark.parametrize("target", LOCAL, indirect=True)
    async def test_clock_set_back_revives_no_key(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A clock that is set back revives no expired key and moves no last_seen.

        A server's clock is the server's business.
        """
        await store.mark_seen("gone", ttl=10)
        await store.mark_seen("k")
        clock.advance(20)
        assert not await store.is_seen("gone")
        clock.advance(-DAY)
        assert not await store.is_seen("gone")
        await store.mark_seen("k")
        record = await store.get("k")
        assert record is not None
        assert record.last_seen == NOON + 20


class TestTimestamp:
    """mark_seen with the instant of the sight."""

    async def test_ttl_counts_from_ts(self, store: AsyncSeenStore) -> None:
        """The TTL counts from ts."""
        await store.mark_seen("k", NOON - HOUR)
        expected = Record("k", "", "seen", NOON - HOUR, NOON - HOUR, NOON - HOUR + DAY)
        assert await store.get("k") == expected

    async def test_mark_that_expired_before_is_unseen(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """A key whose TTL ended before its mark is unseen, and purged."""
        await store.mark_seen("k", NOON - 2 * DAY)
        assert not await store.is_seen("k")
        assert await store.purge_expired() == target.removed(1)

    async def test_older_mark_keeps_the_newer(self, store: AsyncSeenStore) -> None:
        """A mark of a seen key with an older ts leaves first and last as they are."""
        await store.mark_seen("k")
        await store.mark_seen("k", NOON - 2 * DAY)
        assert await store.get("k") == Record("k", "", "seen", NOON, NOON, NOON + DAY)

    async def test_mark_many_has_one_ts(self, store: AsyncSeenStore) -> None:
        """mark_many has one ts for all keys."""
        await store.mark_many(["a", "b"], NOON - HOUR)
        records = [await store.get(key) for key in ("a", "b")]
        assert [record and record.last_seen for record in records] == [NOON - HOUR] * 2


class TestBatches:
    """Many keys in one call."""

    async def test_check_and_mark_many_in_key_order(
        self, store: AsyncSeenStore
    ) -> None:
        """A sighting per key, in order; of a repeated key the first is new."""
        await store.mark_seen("old")
        sightings = await store.check_and_mark_many(["a", "old", "b", "a", "a"])
        assert [sighting.key for sighting in sightings] == ["a", "old", "b", "a", "a"]
        assert [bool(sighting) for sighting in sightings] == [
            True, False, True, False, False,
        ]  # fmt: skip

    async def test_filter_new_keeps_order_and_marks_nothing(
        self, store: AsyncSeenStore
    ) -> None:
        """Unseen items are returned in order, each key once; nothing is marked."""
        await store.mark_seen("b")
        assert await store.filter_new(iter("cbacba")) == ["c", "a"]
        assert await store.filter_new(["c", "a"]) == ["c", "a"]

    async def test_filter_new_by_key_keeps_the_first(
        self, store: AsyncSeenStore
    ) -> None:
        """The first of the items with one key is kept."""
        await store.mark_seen("2")
        items = [("1", "first"), ("2", "seen"), ("1", "second"), ("3", "third")]
        fresh = await store.filter_new(items, key=lambda item: item[0])
        assert fresh == [items[0], items[3]]

    async def test_mark_many_marks_every_key(self, store: AsyncSeenStore) -> None:
        """Every key is marked, a repeated one once."""
        await store.mark_many(f"{number % 10}" for number in range(100))
        assert await store.count() == 10

    async def test_empty_batch_sends_nothing(self, store: AsyncSeenStore) -> None:
        """An empty batch returns an empty list and sends nothing."""
        assert await store.check_and_mark_many([]) == []
        assert await store.filter_new([]) == []
        await store.mark_many([])
        assert (await store.stats()).operations == {}

    @pytest.mark.parametrize(
        "size", [1, 999, 1_000, 1_001, pytest.param(32_767, marks=pytest.mark.slow)]
    )
    async def test_batch_of_any_size_works(
        self, store: AsyncSeenStore, size: int
    ) -> None:
        """Any size works, around every limit that an implementation could have."""
        keys = [f"key {number}" for number in range(size)]
        await store.mark_many(keys[::2])
        assert await store.filter_new(keys) == keys[1::2]
        assert sum(map(bool, await store.check_and_mark_many(keys))) == size // 2
        assert await store.count() == size

    @pytest.mark.slow
    async def test_hundred_thousand_keys_are_one_call(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """A batch of 100,000 from a generator is one call, and other tasks run.

        A tenth of that is enough where it goes over the wire.
        """
        size = 10_000 if target.is_server else 100_000
        batch = asyncio.create_task(
            store.check_and_mark_many(str(number) for number in range(size))
        )
        turns = 0
        while not batch.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > size / 1_000
        assert sum(map(bool, await batch)) == size
        reading = asyncio.create_task(
            store.filter_new(str(number) for number in range(size + 1))
        )
        for _ in range(5):  # the read goes in chunks, so these slip in
            await store.is_seen("0")
            assert not reading.done()
        assert await reading == [str(size)]


class TestNamespaces:
    """Whose keys."""

    async def test_namespaces_are_independent(self, store: AsyncSeenStore) -> None:
        """A key in one namespace is independent of it in another."""
        await store.mark_seen("k", namespace="one")
        assert await store.is_seen("k", namespace="one")
        assert not await store.is_seen("k", namespace="two")
        assert not await store.is_seen("k")
        assert await store.get("k", namespace="two") is None
        assert not await store.forget("k", namespace="two")
        assert await store.filter_new(["k"], namespace="two") == ["k"]
        assert await store.check_and_mark("k", namespace="two")
        assert not await store.check_and_mark("k", namespace="one")
        (sighting,) = await store.check_and_mark_many(["k"], namespace="three")
        assert (sighting.namespace, sighting.verdict) == ("three", Verdict.NEW)
        await store.mark_many(["k"], namespace="four")
        assert await store.forget("k", namespace="one")
        assert (await store.stats()).keys_by_namespace == {
            "two": 1,
            "three": 1,
            "four": 1,
        }

    async def test_concurrent_forgets_hit_their_namespace(
        self, store: AsyncSeenStore
    ) -> None:
        """Concurrent forgets in two namespaces remove those keys, and no other."""
        for namespace in ("one", "two"):
            await store.mark_many(["a", "b", "c"], namespace=namespace)
        _, *forgotten = await asyncio.gather(
            store.get("what goes alone, so that the others go together"),
            store.forget("a", namespace="one"),
            store.forget("b", namespace="two"),
        )
        assert forgotten == [True, True]
        assert await store.filter_new(["a", "b", "c"], namespace="one") == ["a"]
        assert await store.filter_new(["a", "b", "c"], namespace="two") == ["b"]
        assert await store.count() == 4  # not from memory

    async def test_namespace_and_key_never_merge(self, store: AsyncSeenStore) -> None:
        """Namespace and key are never joined ambiguously."""
        await store.mark_seen("c", namespace="a:b")
        assert not await store.is_seen("b:c", namespace="a")
        assert await store.check_and_mark("b:c", namespace="a")
        assert await store.count() == 2

    async def test_counts_and_removals_default_to_all(
        self, store: AsyncSeenStore, target: Target, clock: Clock
    ) -> None:
        """Counts and removals cover one namespace, or all of them by default."""
        for namespace in ("", "one", "two"):
            await store.mark_many(["a", "b"], ttl=60, namespace=namespace)
            await store.mark_seen("c", namespace=namespace)
        assert await store.count() == 9
        assert await store.count(namespace="one") == 3
        assert (await store.stats(namespace="one")).keys == 3
        clock.advance(60)
        assert await store.purge_expired(namespace="one") == target.removed(2)
        assert await store.purge_expired() == target.removed(4)
        for namespace in ("", "one", "two"):
            await store.mark_seen("c", ttl=2 * DAY, namespace=namespace)
        clock.advance(DAY + 1)
        assert await store.cleanup_old_entries(1, namespace="two") == 1
        assert await store.cleanup_old_entries(1) == 2
        assert await store.count() == 0

    async def test_purge_of_one_namespace(
        self, store: AsyncSeenStore, target: Target, clock: Clock
    ) -> None:
        """A purge of one namespace removes its expired rows, and those only."""
        await store.mark_many([f"live {n}" for n in range(2_500)], namespace="n")
        await store.mark_many([f"old {n}" for n in range(2_500)], ttl=1, namespace="n")
        await store.mark_many([f"old {n}" for n in range(2_500)], ttl=1, namespace="o")
        clock.advance(1)
        assert await store.purge_expired(namespace="n") == target.removed(2_500)
        assert await store.purge_expired(namespace="n") == 0
        assert await store.count(namespace="n") == 2_500
        assert await store.purge_expired() == target.removed(2_500)


class TestCleanup:
    """cleanup_old_entries."""

    async def test_cleanup_removes_by_last_mark(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Rows last marked over N days ago are removed, whatever their TTL."""
        await store.mark_seen("old", ttl=None)
        await store.mark_seen("refreshed", ttl=None)
        clock.advance(10 * DAY)
        await store.mark_seen("refreshed", ttl=None)
        assert await store.cleanup_old_entries(days_old=10) == 0
        clock.advance(1)
        assert await store.cleanup_old_entries(days_old=10) == 1
        assert not await store.is_seen("old")
        assert await store.is_seen("refreshed")

    async def test_cleanup_keeps_thirty_days_by_default(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Without an argument thirty days are kept."""
        await store.mark_seen("k", ttl=None)
        clock.advance(30 * DAY)
        assert await store.cleanup_old_entries() == 0
        clock.advance(1)
        assert await store.cleanup_old_entries() == 1

    async def test_paged_cleanup_visits_every_row(
        self, store: AsyncSeenStore, target: Target, clock: Clock
    ) -> None:
        """A removal of many pages visits every row once."""
        keys = [f"{number:05}" for number in range(5_000)]
        await store.mark_many(keys[::3])
        clock.advance(2)
        await store.mark_many(keys[1::3], namespace="other")
        old = len(keys[::3])
        assert await store.cleanup_old_entries(1 / DAY) == old
        assert await store.count() == len(keys[1::3])
        clock.advance(2 * DAY)
        assert await store.purge_expired() == target.removed(len(keys[1::3]))


class TestRaces:
    """Exactly one true verdict per key."""

    async def test_one_task_wins_each_key(self, store: AsyncSeenStore) -> None:
        """Of 64 tasks that check and mark the same 200 keys, one wins each key."""
        keys = [f"key {number}" for number in range(200)]

        async def worker() -> list[str]:
            return [key for key in keys if await store.check_and_mark(key)]

        won = await asyncio.gather(*(worker() for _ in range(64)))
        assert sorted(key for keys in won for key in keys) == sorted(keys)

    async def test_one_batch_wins_each_key(self, store: AsyncSeenStore) -> None:
        """Of batches that overlap, one wins each key."""
        keys = [f"key {number}" for number in range(500)]
        batches = await asyncio.gather(
            *(store.check_and_mark_many(keys[start:]) for start in range(0, 500, 20))
        )
        won = [sighting.key for batch in batches for sighting in batch if sighting]
        assert sorted(won) == sorted(keys)


class TestStats:
    """stats."""

    async def test_stats_count_keys_and_operations(
        self, store: AsyncSeenStore, target: Target, clock: Clock
    ) -> None:
        """Keys are live ones; operations are counted by verb; purges are counted."""
        await store.mark_many(["a", "b"], ttl=10, namespace="feed")
        await store.check_and_mark("c")
        clock.advance(10)
        stats = await store.stats()
        assert stats.keys == 1
        assert stats.keys_by_namespace == {"": 1}
        assert stats.operations == {"mark": 2, "check_and_mark": 1}
        assert (stats.purge_runs, stats.last_purge) == (0, None)
        removed = target.removed(2)
        assert await store.purge_expired() == removed
        stats = await store.stats()
        purged = (stats.purge_runs, stats.purge_rows, stats.purge_failures)
        assert purged == (1, removed, 0)
        assert stats.last_purge == clock.now
        assert stats.engine.startswith(target.engine)

    async def test_stats_sizes_are_those_of_the_files(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """File and WAL sizes are those of the files; without a file, None."""
        await store.mark_many(f"key {number}" for number in range(5_000))
        stats = await store.stats()
        assert (stats.file_bytes > 0) is target.has_size
        assert (stats.wal_bytes > 100_000) is target.is_file
        assert await store.cleanup_old_entries(0) == 0
