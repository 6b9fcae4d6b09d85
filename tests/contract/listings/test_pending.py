"""Handling what is pending."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from catalyst_seen import AsyncSeenStore, FeedRules, LeaseLostError, Verdict

from ...support.clock import DAY, Clock
from ...support.targets import Target
from .support import Entry, baseline, fail, handled, keys, observe


@asynccontextmanager
async def set_right(target: Target, clock: Clock) -> AsyncIterator[AsyncSeenStore]:
    """Yield a store with a source that was polled while the clock was years ahead."""
    config = target.config(purge_interval=None)
    clock.advance(1_000 * DAY)
    async with AsyncSeenStore(config) as store:
        await baseline(store.namespace("feed"), "a")
    clock.advance(-900 * DAY)
    async with AsyncSeenStore(config) as store:
        yield store


@pytest.fixture
async def feed(feed: AsyncSeenStore) -> AsyncSeenStore:
    """The view of a namespace in which b, c and d are pending."""
    await baseline(feed, "a")
    await observe(feed, "abcd")
    return feed


class TestOrder:
    """Which claims come, and in which order."""

    async def test_oldest_observation_first(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """Earlier polls come first, and in each the order of its items."""
        clock.advance(60)
        await observe(feed, "zyabcd")
        assert await handled(feed) == list("bcdzy")
        assert await handled(feed) == []

    async def test_claims_are_claims(self, feed: AsyncSeenStore) -> None:
        """Each step claims one key, and no other."""
        async for claim in feed.pending(lease=30):
            assert (claim.namespace, claim.attempt) == ("feed", 1)
            assert claim.verdict is Verdict.NEW
            assert claim.remaining() == 30
            record = await feed.get(claim.key)
            assert record is not None
            assert record.state == "claimed"
            assert not await feed.claim(claim.key)
            states = [one.state async for one in feed.records()]
            assert states.count("claimed") == 1
            async with claim:
                pass
            assert await feed.is_seen(claim.key)

    async def test_key_comes_once_in_an_iteration(self, feed: AsyncSeenStore) -> None:
        """One that is released without a delay comes in the next one."""
        came = []
        async for claim in feed.pending():
            came.append(claim.key)
            await claim.release(delay=0)
        assert came == ["b", "c", "d"]
        async for claim in feed.pending():
            assert claim.attempt == 2
            async with claim:
                came.append(claim.key)
        assert came == ["b", "c", "d"] * 2

    async def test_new_items_join_an_iteration(self, feed: AsyncSeenStore) -> None:
        """What is observed meanwhile comes at its end."""
        came = []
        async for claim in feed.pending():
            async with claim:
                came.append(claim.key)
                if claim.key == "b":
                    await observe(feed, "abcdefg")
        assert came == list("bcdefg")

    async def test_what_others_handle_is_left_out(self, feed: AsyncSeenStore) -> None:
        """Keys that are claimed or seen by the time of their step do not come."""
        other = await feed.claim("c")
        came = []
        async for claim in feed.pending():
            async with claim:
                came.append(claim.key)
                await feed.mark_seen("d")
        assert came == ["b"]
        await other.confirm()

    async def test_many_workers_share(self, feed: AsyncSeenStore) -> None:
        """Each key comes to one of several workers."""
        await observe(feed, [f"item {number}" for number in range(50)])
        came: list[str] = []

        async def work() -> None:
            async for claim in feed.pending():
                async with claim:
                    await asyncio.sleep(0)
                    came.append(claim.key)

        await asyncio.gather(*(work() for _ in range(5)))
        assert len(came) == 53
        assert len(set(came)) == 53


class TestFailures:
    """Attempts that fail."""

    async def test_failed_attempt_waits(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """After an exception the key comes again after a pause, which doubles."""
        pauses = []
        for attempt in range(1, 10):
            with pytest.raises(OSError, match="refused"):
                await fail(feed, OSError("refused by https://user:pass@host/?x=1"))
            record = await feed.get("b")
            assert record is not None
            assert record.until is not None
            assert (record.state, record.attempt) == ("released", attempt)
            assert record.error == "OSError: refused by https://…"
            pauses.append(record.until - clock.now)
            assert not (await feed.claim("b")).verdict
            clock.advance(record.until - clock.now)
        expected = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
        assert pauses == [pytest.approx(pause, rel=0.11) for pause in expected]
        assert (
            len(
                {
                    round(pause / wait, 6)
                    for pause, wait in zip(pauses, expected, strict=True)
                }
            )
            > 1
        )

    async def test_release_by_hand(self, feed: AsyncSeenStore, clock: Clock) -> None:
        """A release says the delay and the error itself, or gets the usual delay."""
        async for claim in feed.pending():
            if claim.key == "b":
                await claim.release(delay="1h", error="429")
            else:
                await claim.release()
        records = {one.key: one async for one in feed.records(state="released")}
        assert records["b"].until == clock.now + 3_600
        assert records["b"].error == "429"
        assert records["c"].until == pytest.approx(clock.now + 30, abs=3.3)
        assert await handled(feed) == []
        clock.advance(40)
        assert await handled(feed) == ["c", "d"]
        clock.advance(3_600)
        assert await handled(feed) == ["b"]

    async def test_last_attempt_is_held(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """After ``max_attempts`` the key is held with its error, until resolved."""
        feed = store.namespace("feed", max_attempts=2)
        await baseline(feed, "a")
        await observe(feed, "ab")
        for _ in range(2):
            clock.advance(DAY)
            with pytest.raises(OSError, match="down"):
                await fail(feed, OSError("down"))
        (record,) = await feed.held()
        assert (record.key, record.attempt) == ("b", 2)
        assert record.error == "OSError: down"
        clock.advance(100 * DAY)
        assert await handled(feed) == []
        assert not (await observe(feed, "ab")).new
        assert await feed.resolve("b", handled=False)
        assert await handled(feed) == ["b"]

    async def test_pause_of_a_receiver_holds_nothing(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """``may_hold=False`` releases at any attempt; the next failure holds."""
        feed = store.namespace("feed", max_attempts=2)
        await baseline(feed, "a")
        await observe(feed, "ab")
        for attempt in (1, 2, 3):
            async for claim in feed.pending():
                assert (claim.attempt, claim.is_last_attempt) == (attempt, attempt > 1)
                assert await claim.release(60, error="a pause", may_hold=False)
            record = await feed.get("b")
            assert record is not None
            assert (record.state, record.error) == ("released", "a pause")
            assert await handled(feed) == []
            clock.advance(60)
        async for claim in feed.pending():
            await claim.release(error="down")
        assert [one.error for one in await feed.held()] == ["down"]
        other = await store.claim("k")
        assert not other.is_last_attempt

    async def test_crash_at_the_last_attempt_holds(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """An attempt that nobody ended counts as well."""
        feed = store.namespace("feed", max_attempts=1)
        await baseline(feed, "a")
        await observe(feed, "ab")
        iteration = feed.pending()
        await anext(iteration)
        clock.advance(61)
        assert [one.key for one in await feed.held()] == ["b"]
        assert await handled(feed) == []

    async def test_cancellation_counts_nothing(self, feed: AsyncSeenStore) -> None:
        """A worker that is cancelled gives its claim back, as if it had not begun."""
        started = asyncio.Event()

        async def work() -> None:
            async for claim in feed.pending():
                async with claim:
                    started.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        record = await feed.get("b")
        assert record is not None
        assert (record.state, record.attempt) == ("pending", 0)
        assert await handled(feed) == list("bcd")

    async def test_abandoned_claim_is_pending_again(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A worker that dies on an item, and a stop of eight days, lose nothing."""
        claim = await feed.claim("b", lease=60)
        clock.advance(8 * DAY)
        await feed.purge_expired()
        assert await handled(feed) == list("bcd")
        with pytest.raises(LeaseLostError):
            await claim.renew()

    async def test_nothing_is_dropped(self, feed: AsyncSeenStore, clock: Clock) -> None:
        """A claim that asks to be dropped when its owner dies is not, if observed."""
        await feed.claim("b", on_abandoned="drop")
        (claim,) = await feed.claim_many(["c"], on_abandoned="drop")
        await claim.renew()
        await feed.claim("later", on_abandoned="drop")
        await observe(feed, ["later"])
        clock.advance(DAY)
        assert await handled(feed) == ["b", "c", "d", None]

    async def test_clock_that_was_ahead(self, target: Target, clock: Clock) -> None:
        """What is observed after the clock was set right can be claimed at once."""
        if target.name in {"memory", "reference"}:
            return  # a clock never runs backwards inside an open store
        async with set_right(target, clock) as store:
            feed = store.namespace("feed")
            assert keys((await observe(feed, "ab")).new) == ["b"]
            assert await handled(feed) == ["b"]

    async def test_verdicts_after_the_clock_was_ahead(
        self, target: Target, clock: Clock
    ) -> None:
        """A lease and a TTL go by the time of this poll, not of the last one."""
        if target.name in {"memory", "reference"}:
            return  # a clock never runs backwards inside an open store
        async with set_right(target, clock) as store:
            feed = store.namespace("feed")
            await feed.mark_seen("marked", ttl=DAY)
            await observe(feed, "ab")
            claim = await feed.claim("b", lease=60)
            assert not (await observe(feed, ["a", "b", "marked"])).new
            await claim.confirm()

    async def test_hold_ends_the_attempts(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A key that its worker holds comes no more, and keeps its error."""
        async for claim in feed.pending():
            if claim.key == "b":
                assert await claim.hold("410 from http://e.com/?token=1")
                assert not (await feed.claim("b")).verdict
            else:
                async with claim:
                    pass
        clock.advance(DAY)
        assert await handled(feed) == []
        (record,) = await feed.held()
        assert (record.key, record.state) == ("b", "held")
        assert record.error == "410 from http://…"
        assert await feed.resolve("b", handled=True)
        assert await feed.is_seen("b")

    async def test_hold_of_any_claim(self, store: AsyncSeenStore, clock: Clock) -> None:
        """Any claim can be held, but for one that is lost."""
        claim, lost = await store.claim("k"), await store.claim("lost", lease=1)
        assert await claim.hold("why")
        clock.advance(10 * DAY)
        await store.purge_expired()
        (record,) = await store.held()
        assert (record.key, record.error) == ("k", "why")
        assert await store.claim("lost")
        assert not await lost.hold("why")
        assert (await store.check_and_mark("k")).verdict is Verdict.HELD

    async def test_error_ends_with_the_mark(self, feed: AsyncSeenStore) -> None:
        """The error of an attempt is gone when the key is handled."""
        await (await feed.claim("b")).release(error="first")
        record = await feed.get("b")
        assert record is not None
        assert record.error == "first"
        async with feed.claim("b"):
            pass
        record = await feed.get("b")
        assert record is not None
        assert record.error is None

    async def test_webhook_down_for_days(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A receiver that is down while the feed moves on misses nothing."""
        sent = []
        expected = list("bcd")
        for hour in range(60):
            clock.advance(3_600)
            listing = [f"item {number}" for number in range(hour, hour + 5)]
            expected += [key for key in listing if key not in expected]
            await observe(feed, listing)
            async for claim in feed.pending():
                if hour < 48:
                    await claim.release(error="down")
                    continue
                async with claim:
                    sent.append(claim.key)
        assert sorted(sent) == sorted(expected)


class TestLeaving:
    """Loops that end early, and bodies that forget the block."""

    async def test_body_without_a_block_raises(self, feed: AsyncSeenStore) -> None:
        """A body that ends no claim is told so at the next step, and loses nothing."""
        iteration = feed.pending()
        assert (await anext(iteration)).key == "b"
        with pytest.raises(RuntimeError, match="'b' was neither confirmed nor"):
            await anext(iteration)
        assert await handled(feed) == list("bcd")

    async def test_leaving_strands_nothing(self, feed: AsyncSeenStore) -> None:
        """A loop that is left gives its claim back, without an attempt."""
        claim = await anext(feed.pending())
        gc.collect()
        with pytest.raises(RuntimeError, match="cannot be entered"):
            async with claim:
                pass
        record = await feed.get("b")
        assert record is not None
        assert (record.state, record.attempt) == ("pending", 0)
        assert await handled(feed) == list("bcd")

    async def test_leaving_inside_the_block_confirms(
        self, feed: AsyncSeenStore
    ) -> None:
        """A break in the block is its end, which confirms."""
        async for claim in feed.pending():
            async with claim:
                break
        assert await handled(feed) == ["c", "d"]

    async def test_block_in_another_task(self, feed: AsyncSeenStore) -> None:
        """A claim whose block runs belongs to it, whatever becomes of the loop."""
        iteration = feed.pending()
        claim = await anext(iteration)
        async with claim:
            following = await anext(iteration)
            assert following.key == "c"
            await following.release(delay=0)
            del iteration, following
            gc.collect()
            record = await feed.get("b")
            assert record is not None
            assert record.state == "claimed"
        assert await feed.is_seen("b")

    async def test_one_iteration_is_for_one_task(self, feed: AsyncSeenStore) -> None:
        """Two tasks cannot step at once."""
        iteration = feed.pending()
        results = await asyncio.gather(
            anext(iteration), anext(iteration), return_exceptions=True
        )
        assert sum(isinstance(one, RuntimeError) for one in results) == 1


class TestWaiting:
    """Iterations that follow."""

    async def test_wait_follows(self, target: Target, clock: Clock) -> None:
        """It gets what is observed later, by another store as well."""
        config = target.config(purge_interval=None)
        config = replace(
            config, tuning=replace(config.tuning, last_poll=0.02, first_poll=0.01)
        )
        async with AsyncSeenStore(config) as store:
            feed = store.namespace("feed")
            await baseline(feed, "a")
            came: list[str] = []

            async def work() -> None:
                async for claim in feed.pending(wait=True):
                    async with claim:
                        came.append(claim.key)
                        if claim.key == "c" and claim.attempt == 1:
                            raise OSError("down")

            worker = asyncio.create_task(work())
            await observe(feed, "ab")
            while came != ["b"]:
                await asyncio.sleep(0.01)
            await observe(feed, "abc")
            with pytest.raises(OSError, match="down"):
                await worker
            clock.advance(DAY)
            worker = asyncio.create_task(work())
            while len(came) < 3:
                await asyncio.sleep(0.01)
        await worker  # the end of the store ends it
        assert came == ["b", "c", "c"]


class TestAlarm:
    """Alarms of what nobody handles."""

    async def test_many_pending(self, target: Target) -> None:
        """So many pending keys are an alarm, until they are handled."""
        config = target.config(feeds=FeedRules(pending_most=2), purge_interval=None)
        async with AsyncSeenStore(config) as store:
            feed = store.namespace("feed")
            await baseline(feed, "a")
            await observe(feed, "ab")
            assert not any("pending" in one for one in (await store.stats()).alarms)
            await observe(feed, "abc")
            assert any(
                "'feed' are pending" in one for one in (await store.stats()).alarms
            )
            await handled(feed)
            await observe(feed, "abc")
            assert not any("pending" in one for one in (await store.stats()).alarms)

    async def test_long_pending(self, feed: AsyncSeenStore, clock: Clock) -> None:
        """So is one that waits for a week."""
        clock.advance(6.9 * DAY)
        await observe(feed, "abcd")
        assert not any("pending" in one for one in (await feed.stats()).alarms)
        clock.advance(0.2 * DAY)
        await observe(feed, "abcd")
        (alarm,) = (one for one in (await feed.stats()).alarms if "pending" in one)
        assert "3 keys" in alarm
        assert "7.1 days" in alarm


async def test_two_stores_double_nothing(shared: Target) -> None:
    """Two stores that observe and handle one namespace handle each item once."""
    config = shared.config(purge_interval=None)
    came: list[str] = []
    async with AsyncSeenStore(config) as one, AsyncSeenStore(config) as other:
        await baseline(one.namespace("feed"), "z")

        async def work(store: AsyncSeenStore, start: int) -> None:
            feed = store.namespace("feed")
            for number in range(start, start + 10):
                listing = [f"item {n}" for n in range(number, number + 5)]
                await observe(feed, listing)
                async for claim in feed.pending():
                    async with claim:
                        came.append(claim.key)

        await asyncio.gather(work(one, 0), work(other, 0), work(one, 3), work(other, 7))
    assert sorted(came) == sorted(f"item {n}" for n in range(21))


async def test_claimable_again_in_seen_new(feed: AsyncSeenStore, clock: Clock) -> None:
    """``new`` has what can be claimed now, and not what has to wait."""
    await (await feed.claim("b")).release(delay=60)
    await (await feed.claim("c")).release()
    assert keys((await observe(feed, [*"abcd", Entry("e")])).new) == ["c", "d", "e"]
    clock.advance(60)
    assert keys((await observe(feed, [*"abcd", Entry("e")])).new) == list("bcde")
