"""How long keys of a source are kept."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, FeedRules

from ...support.clock import DAY, Clock
from ...support.targets import Target
from .support import Entry, baseline, handled, keys, observe, read

FEW = FeedRules(kept_keys=0, kept_listings=1)
"""Rules that keep a listing's worth of absent keys, and no more."""


async def poll_daily(
    feed: AsyncSeenStore, clock: Clock, days: int, listing: str = "xyz"
) -> None:
    """Poll once a day."""
    for _ in range(days):
        clock.advance(DAY)
        await observe(feed, listing)


@pytest.fixture
def brief(store: AsyncSeenStore) -> AsyncSeenStore:
    """The view of a namespace that keeps few absent keys."""
    return store.namespace("feed", feeds=FEW)


class TestAbsentKeys:
    """Keys that a source does not list any more."""

    async def test_kept_for_sixty_days_of_polls(
        self, brief: AsyncSeenStore, clock: Clock
    ) -> None:
        """A key is known for 60 days of daily polls, and then new."""
        await baseline(brief, "abc")
        await poll_daily(brief, clock, 59)
        assert await brief.is_seen("a")
        await poll_daily(brief, clock, 1)
        assert not await brief.is_seen("a")
        assert await brief.count() == 0  # x, y and z are pending
        assert keys((await observe(brief, "axyz")).new) == ["a", "x", "y", "z"]

    async def test_time_without_polls_ages_nothing(
        self, brief: AsyncSeenStore, clock: Clock
    ) -> None:
        """A pause of three years counts as a day."""
        await baseline(brief, "abc")
        await observe(brief, "xyz")
        for _ in range(20):
            clock.advance(1_000 * DAY)
            await observe(brief, "xyz")
        assert not [key for key in "abc" if not await brief.is_seen(key)]

    async def test_clock_that_was_behind(self, target: Target, clock: Clock) -> None:
        """A poll by a clock of years ago delays no end of a key by more than a day."""
        if target.name in {"memory", "reference"}:
            return  # a clock never runs backwards inside an open store
        config = target.config(purge_interval=None, feeds=FEW)
        async with AsyncSeenStore(config) as store:
            feed = store.namespace("feed")
            await baseline(feed, "abc")
            await poll_daily(feed, clock, 59)
        for days in (-1_000, 1_001):
            clock.advance(days * DAY)
            async with AsyncSeenStore(config) as store:
                feed = store.namespace("feed")
                await observe(feed, "xyz")
                assert await feed.is_seen("a") is (days < 0)

    async def test_listed_keys_never_end(
        self, brief: AsyncSeenStore, clock: Clock
    ) -> None:
        """What is listed stays known, for ever."""
        await baseline(brief, "abcdef")
        await poll_daily(brief, clock, 200, "abcdef")
        assert await brief.count() == 6
        assert not (await observe(brief, "abcdef")).new

    async def test_some_keys_are_kept_for_ever(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """The rules keep so many keys, the latest ones, for however long."""
        feed = store.namespace("feed", feeds=FeedRules(kept_keys=5, kept_listings=1))
        await baseline(feed, "ab")
        await poll_daily(feed, clock, 1, "cd")
        await poll_daily(feed, clock, 200, "ef")
        assert [key for key in "abcdef" if await feed.get(key)] == ["b", *"cdef"]

    async def test_default_keeps_five_hundred(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """By default 500 keys stay, or five times the largest listing."""
        await baseline(feed, [f"old {number}" for number in range(200)])
        await poll_daily(feed, clock, 100)
        assert await feed.count() == 200
        assert not (await observe(feed, [f"old {n}" for n in range(200)])).new

    async def test_absent_from_few_polls(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A key is known for three polls at least, by whatever clock."""
        rules = FeedRules(absent_for="1h", kept_keys=0, kept_listings=1)
        feed = store.namespace("feed", feeds=rules)
        await baseline(feed, "abc")
        for expected in (True, True, False):
            await poll_daily(feed, clock, 1)
            assert await feed.is_seen("a") is expected

    async def test_rejoining_begins_anew(
        self, brief: AsyncSeenStore, clock: Clock
    ) -> None:
        """A key that is listed again is kept as long as at first."""
        await baseline(brief, "abc")
        await poll_daily(brief, clock, 50)
        await poll_daily(brief, clock, 1, "abc")
        await poll_daily(brief, clock, 59)
        assert await brief.is_seen("a")

    async def test_unchanged_polls_pass_the_time(
        self, brief: AsyncSeenStore, clock: Clock
    ) -> None:
        """So do polls at which the source says that nothing has changed."""
        await baseline(brief, "abc")
        await observe(brief, "xyz", validators="v")
        for _ in range(62):
            clock.advance(DAY)
            assert await brief.observed_unchanged("v")
        assert not await brief.is_seen("a")
        assert await brief.count() == 0  # x, y and z are pending

    async def test_what_is_not_handled_never_ends(
        self, brief: AsyncSeenStore, clock: Clock
    ) -> None:
        """Pending, released and held keys stay, however long they are absent."""
        await baseline(brief, "a")
        await observe(brief, "pqr")
        await (await brief.claim("q")).release()
        await (await brief.claim("r")).hold()
        await poll_daily(brief, clock, 200)
        assert {one.key async for one in brief.records()} >= {"p", "q", "r"}
        assert (await handled(brief))[:2] == ["p", "q"]


class TestBrokenSources:
    """Listings that are not what they should be."""

    @pytest.mark.parametrize("broken", ["", "j"])
    @pytest.mark.parametrize("polls", [1, 24, 7 * 24])
    async def test_collapse(
        self, feed: AsyncSeenStore, clock: Clock, broken: str, polls: int
    ) -> None:
        """A source that lists nothing, or one item, for up to a week repeats none."""
        await baseline(feed, "abcdefghij")
        for _ in range(polls):
            clock.advance(3_600)
            await observe(feed, broken)
        seen = await observe(feed, "abcdefghijk")
        assert (keys(seen.new), seen.replaced) == (["k"], [])

    async def test_small_listing_ages_nothing(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """One below half of the usual size is recorded, and nothing leaves by it."""
        rules = FeedRules(absent_for="1h", absent_polls=1, kept_keys=0, kept_listings=1)
        feed = store.namespace("feed", feeds=rules)
        await baseline(feed, "abcdefghij")
        for number in range(4):
            clock.advance(DAY)
            seen = await observe(feed, ["a", f"new {number}"])
            assert keys(seen.new) == [f"new {number}"]
            if number < 2:
                assert (await read(feed)).listed == 10 + number + 1
        assert (await read(feed)).listed == 2  # now that is the usual size
        for number in range(20):
            clock.advance(DAY)
            await observe(feed, ["a", f"new {number}"])
        assert not await feed.is_seen("b")

    async def test_replacement_across_a_collapse(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """The last good listing is what new keys are compared with."""
        old = [Entry(f"old {n}", link=f"/{n}", title="t") for n in range(10)]
        new = [Entry(f"new {n}", link=f"/{n}", title="t") for n in range(10)]
        await baseline(feed, old)
        clock.advance(60)
        await observe(feed, old[:1])
        seen = await observe(feed, new)
        assert not seen.new
        assert len(seen.replaced) == 10


class TestOtherVerbs:
    """Verbs on keys that were observed."""

    @pytest.mark.parametrize("verb", ["mark_seen", "check_and_mark", "confirm"])
    async def test_marks_do_not_expire(
        self, feed: AsyncSeenStore, clock: Clock, verb: str
    ) -> None:
        """A mark of a listed key lasts as its source says, not by the TTL."""
        await baseline(feed, "a")
        await observe(feed, "ab")
        if verb == "confirm":
            async with feed.claim("b"):
                pass
        else:
            await getattr(feed, verb)("b")
        clock.advance(100 * DAY)
        assert await feed.is_seen("b")
        assert not (await observe(feed, "ab")).new

    async def test_batches_do_not_expire_either(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """Nor does one of a batch, or what is refreshed."""
        await baseline(feed, "a")
        await observe(feed, "abcdefgh")
        assert all(await feed.check_and_mark_many(["b", "c"]))
        await feed.mark_many(["d", "e"])
        claims = await feed.claim_many(["f", "g", "h"])
        assert await feed.confirm_many(claims) == [True] * 3
        assert (await read(feed)).pending == 0
        assert await feed.refresh(list("abcdefgh")) == 8
        clock.advance(100 * DAY)
        assert await feed.filter_new([*"abcdefgh", "i"]) == ["i"]
        assert not (await observe(feed, "abcdefgh")).new

    async def test_removals_skip_them(self, feed: AsyncSeenStore, clock: Clock) -> None:
        """Neither a purge nor a cleanup removes a key that was observed."""
        await baseline(feed, "abc")
        await observe(feed, "bcd")
        await feed.mark_seen("plain")
        clock.advance(40 * DAY)
        await feed.purge_expired()
        assert await feed.cleanup_old_entries(10) == 0
        assert {one.key async for one in feed.records()} == set("abcd")
