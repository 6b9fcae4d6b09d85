"""What is known of a source, and polls without a listing."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, Source
from catalyst_seen.backends.base import SupportsListings
from catalyst_seen.backends.listings import Item, Observe, Retention

from ...support.clock import DAY, NOON, Clock
from .support import Entry, baseline, handled, keys, observe, read


class TestSource:
    """The record of a source."""

    async def test_never_observed(self, feed: AsyncSeenStore) -> None:
        """There is none before the first poll, whatever is marked."""
        await feed.mark_seen("k")
        assert await feed.source() is None

    async def test_polls_are_counted(self, feed: AsyncSeenStore, clock: Clock) -> None:
        """It knows the polls, the listing, and what became of the items."""
        await observe(feed, "abc", validators="v1", state="s1")
        clock.advance(60)
        await observe(feed, "bcd", validators="v2")
        await (await feed.claim("d")).hold()
        await observe(feed, "bcdef", validators="v3")
        source = await read(feed)
        assert source == Source(
            namespace="feed",
            polls=3,
            first_poll=NOON,
            last_poll=NOON + 60,
            listed=5,
            pending=2,
            held=1,
            baseline_at=NOON,
            validators="v3",
            state="s1",
            error=None,
            new=3,
            duplicates=5,
            changed=0,
            replaced=0,
            failed=0,
            oldest_pending=NOON + 60,
        )
        await handled(feed)
        source = await read(feed)
        assert (source.pending, source.oldest_pending) == (0, None)

    async def test_a_failed_attempt_makes_nothing_younger(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """The oldest pending key counts from its observation, claimed or released."""
        await observe(feed, "a")
        clock.advance(60)
        await observe(feed, "ab")
        clock.advance(60)
        claim = await feed.claim("b", lease=30)
        assert (await read(feed)).oldest_pending == NOON + 60
        await claim.release()
        assert (await read(feed)).oldest_pending == NOON + 60
        assert [one.oldest_pending for one in await feed.sources()] == [NOON + 60]

    async def test_validators_belong_to_the_listing(self, feed: AsyncSeenStore) -> None:
        """A listing without validators has none, while the state is kept."""
        await observe(feed, "a", validators="v", state="s")
        await observe(feed, "ab", state="t")
        source = await read(feed)
        assert (source.validators, source.state) == (None, "t")

    async def test_long_texts(self, feed: AsyncSeenStore) -> None:
        """Validators and state may have 16 KiB, and any characters."""
        text = '{"ä": "☃\n"}' + "x" * 16_000
        await observe(feed, "a", validators=text, state=text)
        source = await read(feed)
        assert source.validators == source.state == text


class TestSources:
    """The sources of all namespaces."""

    async def test_sorted_and_as_each_one_says(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Each source is there as ``source`` returns it, sorted by namespace."""
        names = ["ä☃", "feed", "{b}>source", "a", "n" * 2_048]
        for name in names:
            feed = store.namespace(name, max_attempts=1)
            await observe(feed, "a", validators=name)
            clock.advance(60)
            await observe(feed, "abc")
        await (await store.claim("b", namespace="a")).hold("no")
        await store.namespace("failing").failed("HTTP 503")
        await store.mark_seen("k", namespace="no source")
        await store.mark_seen("k")
        found = await store.sources()
        assert [one.namespace for one in found] == sorted([*names, "failing"])
        assert found == [await store.source(namespace=one.namespace) for one in found]
        assert [(one.pending, one.held) for one in found[:2]] == [(1, 1), (0, 0)]
        assert await store.namespace("a").sources() == found

    async def test_rename_and_clear(self, store: AsyncSeenStore) -> None:
        """A source has the name of its namespace, and ends with that."""
        assert await store.sources() == []
        for name in ("a", "b", "c"):
            await observe(store.namespace(name), "ab")
        await store.rename("z", namespace="a")
        assert [one.namespace for one in await store.sources()] == ["b", "c", "z"]
        await store.clear(namespace="b")
        assert [one.namespace for one in await store.sources()] == ["c", "z"]
        await store.clear(namespace=None)
        assert await store.sources() == []

    async def test_more_than_a_round_trip_has(self, store: AsyncSeenStore) -> None:
        """All of many sources are there, and all that waits in one of them."""
        for number in range(120):
            await store.namespace(f"f{number:03}").failed("HTTP 503")
        many = store.namespace("many", first="all")
        await observe(many, map(str, range(1_500)))
        found = await store.sources()
        assert len(found) == 121
        assert (found[-1].namespace, found[-1].pending) == ("many", 1_500)


class TestFailed:
    """Polls that fail."""

    async def test_error_is_kept_until_the_next_poll(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """The error is one line without the secrets of URLs; a poll ends it."""
        await baseline(feed, "a")
        clock.advance(60)
        await feed.failed(
            OSError("no route to\nhttp://u:p@h/?token=1 today"), state="s"
        )
        source = await read(feed)
        assert source.error == "OSError: no route to http://… today"
        assert (source.failed, source.polls, source.state) == (1, 1, "s")
        assert source.last_poll == NOON
        await feed.failed("x" * 1_000)
        assert (await read(feed)).error == "x" * 500
        await observe(feed, "a")
        source = await read(feed)
        assert (source.error, source.failed, source.state) == (None, 2, "s")

    async def test_failures_age_nothing(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A year of failures repeats nothing."""
        await baseline(feed, "abc")
        for _ in range(365):
            clock.advance(DAY)
            await feed.failed("HTTP 503")
        assert not (await observe(feed, "abc")).new

    async def test_bad_error(self, feed: AsyncSeenStore) -> None:
        """An error is a text or an exception."""
        with pytest.raises(TypeError, match="error must be"):
            await feed.failed(503)  # type: ignore[arg-type]


class TestUnchanged:
    """Polls at which the source says that nothing has changed."""

    async def test_counts_as_a_poll(self, feed: AsyncSeenStore, clock: Clock) -> None:
        """It is a poll of the same listing, by the validators of that."""
        await observe(feed, "abc", validators="v")
        clock.advance(60)
        assert await feed.observed_unchanged("v", state="s")
        source = await read(feed)
        assert (source.polls, source.listed, source.last_poll) == (2, 3, NOON + 60)
        assert (source.validators, source.state) == ("v", "s")
        assert keys((await observe(feed, "abcd", validators="w")).new) == ["d"]

    @pytest.mark.parametrize("stored", [{}, {"validators": "w"}])
    async def test_other_validators(
        self, feed: AsyncSeenStore, stored: dict[str, str]
    ) -> None:
        """With other validators it says so, and records nothing."""
        assert not await feed.observed_unchanged("v")
        assert await feed.source() is None
        await observe(feed, "a", **stored)
        assert not await feed.observed_unchanged("v")
        assert (await read(feed)).polls == 1

    async def test_after_a_failure(self, feed: AsyncSeenStore) -> None:
        """A failed poll before it changes nothing of that."""
        await observe(feed, "a", validators="v")
        await feed.failed("HTTP 500")
        assert await feed.observed_unchanged("v")
        assert (await read(feed)).error is None

    @pytest.mark.parametrize("how", ["forget", "forget_many", "clear"])
    async def test_forgotten_key_needs_a_listing(
        self, feed: AsyncSeenStore, how: str
    ) -> None:
        """A key that was ended by hand comes again although the source is the same."""
        await observe(feed, "abc", validators="v")
        arguments: dict[str, list[object]]
        arguments = {"forget": ["b"], "forget_many": [["a", "b"]], "clear": []}
        await getattr(feed, how)(*arguments[how])
        assert not await feed.observed_unchanged("v")
        seen = await observe(feed, "abc", validators="v")
        assert seen.new or seen.baseline
        assert await feed.observed_unchanged("v")

    async def test_mark_of_a_forgotten_key(self, feed: AsyncSeenStore) -> None:
        """Neither does a mark in its place stand for the listed key."""
        await observe(feed, "abc", validators="v")
        await feed.forget("b")
        await feed.mark_seen("b")
        assert not await feed.observed_unchanged("v")
        assert not (await observe(feed, "abc", validators="v")).new

    async def test_empty_listing(self, feed: AsyncSeenStore) -> None:
        """A source that lists nothing may be unchanged as well."""
        await observe(feed, "", validators="v")
        assert await feed.observed_unchanged("v")
        assert (await observe(feed, "a", validators="w")).baseline == 1

    async def test_pending_stays(self, feed: AsyncSeenStore) -> None:
        """What is pending stays pending."""
        await observe(feed, "a", validators="v")
        await observe(feed, "ab", validators="w")
        assert await feed.observed_unchanged("w")
        assert await handled(feed) == ["b"]


async def test_repeated_request(feed: AsyncSeenStore) -> None:
    """A request that is sent again, because its answer was lost, changes nothing."""
    await baseline(feed, [Entry("a", link="/1"), "b"])
    items = [Item("b"), Item("new"), Item("c", alias="x")]
    request = Observe("feed", "an id", items, Retention(), validators="v")
    backend = feed._lifecycle.backend
    assert isinstance(backend, SupportsListings)
    first = await backend.observe(request)
    assert first is not None
    before = await read(feed)
    again = await backend.observe(request)
    assert again is not None
    assert (again.summary, again.claimable) == (first.summary, first.claimable)
    assert again.claimable == (1, 2)
    assert await read(feed) == before
    assert before.polls == 2
