"""What an observed listing changes."""

from __future__ import annotations

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    InvalidKeyError,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends.base import SupportsNamespaces

from ...support.clock import DAY, Clock
from ...support.targets import Target
from .support import Entry, baseline, handled, keys, observe


class TestBaseline:
    """A first listing."""

    async def test_first_listing_is_marked(self, feed: AsyncSeenStore) -> None:
        """Nothing of a first listing is handled, and all of it is seen."""
        seen = await observe(feed, "abc")
        assert (seen.new, seen.baseline, seen.pending) == ([], 3, 0)
        assert not seen
        assert await feed.filter_new(["a", "b", "c", "d"]) == ["d"]
        assert await handled(feed) == []

    @pytest.mark.parametrize(
        ("first", "expected"), [("all", "abc"), (2, "bc"), (9, "abc"), (0, "")]
    )
    async def test_first_may_be_handled(
        self, store: AsyncSeenStore, first: str | int, expected: str
    ) -> None:
        """All of a first listing, or the last items of it, if the rules say so."""
        feed = store.namespace("feed", first=first)  # type: ignore[arg-type]
        seen = await observe(feed, "abc")
        assert keys(seen.new) == list(expected)
        assert seen.baseline == 3 - len(expected)
        assert await handled(feed) == list(expected)

    async def test_empty_listing_is_no_baseline(self, feed: AsyncSeenStore) -> None:
        """After an empty listing, the first one with items is the baseline."""
        seen = await observe(feed, "")
        assert seen.baseline == 0
        assert (await observe(feed, "ab")).baseline == 2
        assert keys((await observe(feed, "abc")).new) == ["c"]

    async def test_failure_is_no_baseline(self, feed: AsyncSeenStore) -> None:
        """Neither does a failed poll stand in its way."""
        await feed.failed("no route to host")
        assert (await observe(feed, "ab")).baseline == 2

    async def test_marks_of_another_program_are_known(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """Where keys are seen already, what is unknown is pending, and they stay."""
        await feed.mark_many(["a", "b"])
        seen = await observe(feed, "abc")
        assert (keys(seen.new), seen.baseline) == (["c"], 0)
        clock.advance(10 * DAY)  # their TTL was a day
        assert keys((await observe(feed, "abc")).new) == ["c"]

    async def test_expired_marks_are_none(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """Marks that have expired neither count as keys nor prevent a baseline."""
        await feed.mark_many(["a", "b"])
        clock.advance(2 * DAY)
        assert (await observe(feed, "abc")).baseline == 3

    async def test_nothing_is_left_of_an_expired_mark(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A key whose mark has expired begins anew, without its old note."""
        await baseline(feed, "a")
        await feed.mark_seen("b", ttl=60, note="old")
        clock.advance(60)
        await observe(feed, ["a", Entry("b")])
        record = await feed.get("b")
        assert record is not None
        assert (record.note, record.first_seen) == (None, clock.now)

    async def test_clear_begins_anew(self, feed: AsyncSeenStore) -> None:
        """After a clear the next listing is a baseline again."""
        await baseline(feed, "ab")
        assert await feed.clear() == 2
        assert await feed.source() is None
        assert (await observe(feed, "abc")).baseline == 3

    @pytest.mark.parametrize("is_observed", [False, True])
    async def test_clear_that_was_not_completed(
        self, store: AsyncSeenStore, target: Target, *, is_observed: bool
    ) -> None:
        """After a part of a clear the next listing is a baseline, or it is refused."""
        feed = store.namespace("feed")
        listing = [f"key {number:02}" for number in range(40)]
        await (observe(feed, listing) if is_observed else feed.mark_many(listing))
        backend = feed._lifecycle.backend
        assert isinstance(backend, SupportsNamespaces)
        await backend.clear(namespace="feed", limit=10, cursor=None)
        if target.expires_by_itself and is_observed:  # a server that forgets nothing
            with pytest.raises(StoreUnavailableError, match="cleared"):
                await observe(feed, listing)
            await feed.clear()
        if target.expires_by_itself and not is_observed:
            return
        seen = await observe(feed, listing)
        assert not seen.new
        await feed.clear()
        assert await feed.source() is None
        assert not (await observe(feed, listing)).new

    async def test_keys_that_a_clear_left_are_absent(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """What a part of a clear left is listed no more, unless it is listed again."""
        feed = store.namespace("feed")
        await observe(feed, [f"key {number:02}" for number in range(40)])
        backend = feed._lifecycle.backend
        assert isinstance(backend, SupportsNamespaces)
        await backend.clear(namespace="feed", limit=10, cursor=None)
        if target.expires_by_itself:  # it refuses listings until that is completed
            await feed.clear()
        await observe(feed, ["other"], validators="v")
        assert await feed.observed_unchanged("v")
        source = await feed.source()
        assert source is not None
        assert source.listed == 1

    async def test_listing_during_a_clear(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """Nor is what is observed while a clear runs handled, or what comes after."""
        feed = store.namespace("feed")
        listing = [f"key {number:02}" for number in range(40)]
        await observe(feed, listing)
        backend = feed._lifecycle.backend
        assert isinstance(backend, SupportsNamespaces)
        if target.expires_by_itself:
            return  # it is refused; see above
        page = await backend.clear(namespace="feed", limit=10, cursor=None)
        assert not (await observe(feed, listing)).new
        while page.cursor is not None:
            page = await backend.clear(namespace="feed", limit=10, cursor=page.cursor)
        assert not (await observe(feed, listing)).new

    async def test_namespaces_are_apart(self, store: AsyncSeenStore) -> None:
        """Each namespace has a source of its own."""
        one, other = store.namespace("one"), store.namespace("other")
        await baseline(one, "ab")
        assert (await observe(other, "abc")).baseline == 3
        assert keys((await observe(one, "abc")).new) == ["c"]


class TestNewItems:
    """Items that no listing had before."""

    async def test_new_item_is_pending_with_its_note(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """It is pending with its note, unseen, and can be claimed."""
        await baseline(feed, "a")
        clock.advance(60)
        seen = await observe(feed, ["a", Entry("b", "what it says")])
        assert keys(seen.new) == ["b"]
        assert seen.pending == 1
        record = await feed.get("b")
        assert record is not None
        assert (record.state, record.note, record.attempt) == (
            "pending",
            "what it says",
            0,
        )
        assert record.first_seen == record.last_seen == clock.now
        assert record.expires_at is None
        assert not await feed.is_seen("b")
        assert [one.key async for one in feed.records(state="pending")] == ["b"]
        assert [one.key async for one in feed.records(state="released")] == []
        assert {one.key async for one in feed.records()} == {"a", "b"}
        assert await feed.count() == 1

    async def test_new_stays_new_until_it_is_handled(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """Each listing says that it can be claimed, until it is handled."""
        await baseline(feed, "a")
        for _ in range(3):
            clock.advance(DAY)
            assert keys((await observe(feed, "abc")).new) == ["b", "c"]
        await feed.check_and_mark("b")
        assert keys((await observe(feed, "abc")).new) == ["c"]
        async with feed.claim("c") as claim:
            assert claim.note == "c"
            assert not (await observe(feed, "abc")).new
        assert not (await observe(feed, "abc")).new

    async def test_pending_outlives_its_listing(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A listing that has moved on loses nothing, however long that takes."""
        await baseline(feed, "a")
        await observe(feed, "abcdef")
        for number in range(100):
            clock.advance(DAY)
            await observe(feed, [f"later {number}", f"later {number + 1}"])
        await feed.purge_expired()
        await feed.cleanup_old_entries(1)
        assert (await handled(feed))[:5] == list("bcdef")

    @pytest.mark.parametrize(
        ("verb", "verdict"),
        [("check_and_mark", Verdict.NEW), ("claim", Verdict.NEW)],
    )
    async def test_verbs_on_a_pending_key(
        self, feed: AsyncSeenStore, verb: str, verdict: Verdict
    ) -> None:
        """The verbs on keys find it new, once."""
        await baseline(feed, "a")
        await observe(feed, "ab")
        first = await getattr(feed, verb)("b")
        assert first.verdict is verdict
        assert not await getattr(feed, verb)("b")

    async def test_repeat_in_one_listing(self, feed: AsyncSeenStore) -> None:
        """Of two items with one key, the first one counts."""
        await baseline(feed, "a")
        seen = await observe(feed, [Entry("b", "first"), Entry("b", "second")])
        assert [entry.note for entry in seen.new] == ["first"]
        assert await handled(feed) == ["first"]

    async def test_items_may_be_their_keys(self, feed: AsyncSeenStore) -> None:
        """Without a function for the key, an item is its key."""
        await feed.observe(["a"])
        assert (await feed.observe(["a", "b"])).new == ["b"]

    async def test_many_items(self, feed: AsyncSeenStore) -> None:
        """A listing of thousands is a baseline, and then a poll, like any other."""
        listing = [f"item {number}" for number in range(3_000)]
        await baseline(feed, listing[:2_000])
        seen = await observe(feed, listing)
        assert keys(seen.new) == listing[2_000:]
        assert await handled(feed) == listing[2_000:]


class TestEdits:
    """Items whose digest changes."""

    async def test_pending_item_gets_the_new_note(self, feed: AsyncSeenStore) -> None:
        """What waits is handled in its latest form, and as often as a new item."""
        await baseline(feed, "a")
        await observe(feed, ["a", Entry("b", "old", text="1")])
        claim = await feed.claim("b")
        await claim.release()
        seen = await observe(feed, ["a", Entry("b", "new", text="2")])
        assert keys(seen.new) == ["b"]
        assert not seen.changed
        record = await feed.get("b")
        assert record is not None
        assert (record.state, record.attempt, record.note) == ("pending", 0, "new")
        assert await handled(feed) == ["new"]

    async def test_handled_item_stays_handled(self, feed: AsyncSeenStore) -> None:
        """By default an edit of what was handled changes nothing."""
        await baseline(feed, [Entry("a", text="1")])
        seen = await observe(feed, [Entry("a", text="2")])
        assert (seen.new, seen.changed) == ([], [])
        assert await feed.is_seen("a")

    async def test_handled_item_is_pending_again(self, store: AsyncSeenStore) -> None:
        """With the rule ``changes`` it comes back, so often and no oftener."""
        feed = store.namespace("feed", changes=2)
        await baseline(feed, [Entry("a", text="0")])
        came = []
        for number in range(5):
            edited = [Entry("a", f"text {number}", text=str(number))]
            for _ in range(2):
                seen = await observe(feed, edited)
                assert keys(seen.changed) == keys(seen.new)
                came += await handled(feed)
        assert came == ["text 1", "text 2"]

    async def test_edit_of_a_claimed_item(self, store: AsyncSeenStore) -> None:
        """It is pending again after the confirm, at the next poll."""
        feed = store.namespace("feed", changes=1)
        await baseline(feed, "a")
        await observe(feed, [Entry("b", "old", text="1")])
        async with feed.claim("b") as claim:
            seen = await observe(feed, [Entry("b", "new", text="2")])
            assert (seen.new, seen.changed) == ([], [])
            assert claim.note == "old"
        seen = await observe(feed, [Entry("b", "new", text="2")])
        assert keys(seen.changed) == ["b"]
        assert await handled(feed) == ["new"]

    async def test_edit_of_a_held_item(self, feed: AsyncSeenStore) -> None:
        """It gets the new note, and stays held."""
        await baseline(feed, "a")
        await observe(feed, [Entry("b", "old", text="1")])
        assert await (await feed.claim("b")).hold("refused")
        seen = await observe(feed, [Entry("b", "new", text="2")])
        assert not seen.new
        (record,) = await feed.held()
        assert (record.key, record.note, record.error) == ("b", "new", "refused")

    async def test_edit_without_a_note(self, feed: AsyncSeenStore) -> None:
        """It keeps the note that is there."""
        await baseline(feed, "a")
        await observe(feed, [Entry("b", "note", text="1")])
        await observe(feed, [Entry("b", None, text="2")])
        assert await handled(feed) == ["note"]

    async def test_first_digest_is_no_edit(self, store: AsyncSeenStore) -> None:
        """A poller that begins to give digests repeats nothing."""
        feed = store.namespace("feed", changes=1)
        await baseline(feed, "ab")
        seen = await observe(feed, [Entry("a", text="1"), Entry("b", text="1")])
        assert not seen.changed
        seen = await observe(feed, [Entry("a", text="2"), Entry("b", text="1")])
        assert keys(seen.changed) == ["a"]


class TestReplacement:
    """Items that come again under another key."""

    async def test_same_link_and_title(self, feed: AsyncSeenStore) -> None:
        """New keys of a whole listing are marked, and reported."""
        old = [Entry(f"old {n}", link=f"/{n}", title=f"t{n}") for n in range(5)]
        new = [Entry(f"new {n}", link=f"/{n}", title=f"t{n}") for n in range(5)]
        await baseline(feed, old)
        seen = await observe(feed, [*new, Entry("genuine", "genuine", "/9", "t9")])
        assert keys(seen.new) == ["genuine"]
        assert keys(seen.replaced) == keys(new)
        assert await handled(feed) == ["genuine"]
        assert not (await observe(feed, new)).new
        assert await feed.is_seen("new 1")

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param(
                [Entry("a", "a", "/1", "old title")],
                [Entry("b", "b", "/1", "new title")],
                id="another title",
            ),
            pytest.param(
                [Entry("a", "a", "/1", "t")],
                [Entry("a", "a", "/1", "t"), Entry("b", "b", "/1", "t")],
                id="the old one is still listed",
            ),
            pytest.param(
                [Entry("a", "a", "/1", "t")],
                [Entry("b", "b", "/1", "t"), Entry("c", "c", "/1", "t")],
                id="twice in this listing",
            ),
            pytest.param(
                [Entry("a", "a", "/1", "t"), Entry("x", "x", "/1", "t")],
                [Entry("b", "b", "/1", "t")],
                id="twice in the last listing",
            ),
            pytest.param(
                [Entry("a", "a", "/1", "t")],
                [Entry("b", "b", "/2", "t")],
                id="another link",
            ),
            pytest.param([Entry("a", "a")], [Entry("b", "b")], id="no link"),
        ],
    )
    async def test_genuine_items_are_handled(
        self, feed: AsyncSeenStore, before: list[Entry], after: list[Entry]
    ) -> None:
        """Entries that share a link are not the same item."""
        known = {entry.key for entry in before}
        await baseline(feed, before)
        seen = await observe(feed, after)
        assert not seen.replaced
        assert keys(seen.new) == [key for key in keys(after) if key not in known]

    async def test_gone_before_the_last_listing(self, feed: AsyncSeenStore) -> None:
        """An item that left earlier is not replaced."""
        await baseline(feed, [Entry("a", link="/1", title="t"), "x", "y"])
        await observe(feed, ["x", "y"])
        seen = await observe(feed, [Entry("b", link="/1", title="t"), "x", "y"])
        assert keys(seen.new) == ["b"]

    async def test_alias_outlives_handling(self, feed: AsyncSeenStore) -> None:
        """An item without a note that was handled is recognised as well."""
        await baseline(feed, "x")
        await observe(feed, ["x", Entry("a", None, "/1", "t")])
        assert await handled(feed) == [None]
        await feed.mark_seen("a", note="text")
        await feed.mark_seen("a", note="")
        seen = await observe(feed, ["x", Entry("b", None, "/1", "t")])
        assert keys(seen.replaced) == ["b"]

    async def test_alias_may_be_one_text(self, feed: AsyncSeenStore) -> None:
        """An alias without further texts decides alone."""
        await feed.observe(["a"], key=str, aliases=lambda _: "/1")
        seen = await feed.observe(["b"], key=str, aliases=lambda _: "/1")
        assert (seen.new, seen.replaced) == ([], ["b"])

    async def test_pending_item_is_handled_once(self, feed: AsyncSeenStore) -> None:
        """One that was not handled yet stays pending under its old key alone."""
        await baseline(feed, "x")
        await observe(feed, ["x", Entry("a", "a", "/1", "t")])
        seen = await observe(feed, ["x", Entry("b", "b", "/1", "t")])
        assert keys(seen.replaced) == ["b"]
        assert await handled(feed) == ["a"]


class TestSpellings:
    """Other forms of a key."""

    async def test_known_by_another_form(
        self, feed: AsyncSeenStore, clock: Clock
    ) -> None:
        """A key that is stored in another form is known, and gets the new form."""
        await feed.mark_seen("http://e.com/1")
        seen = await observe(feed, [Entry("e.com/1", spellings=("http://e.com/1",))])
        assert not seen.new
        assert await feed.get("http://e.com/1") is None
        record = await feed.get("e.com/1")
        assert record is not None
        assert (record.state, record.first_seen) == ("seen", clock.now)
        assert not (await observe(feed, [Entry("e.com/1")])).new

    async def test_note_and_state_move_along(self, feed: AsyncSeenStore) -> None:
        """A pending key stays pending, with its note, under the new form."""
        await baseline(feed, "x")
        await observe(feed, ["x", Entry("old", "note")])
        await observe(feed, ["x", Entry("new", spellings=("old",))])
        assert [(one.key, one.note) async for one in feed.records(state="pending")] == [
            ("new", "note")
        ]
        assert await handled(feed) == ["note"]

    async def test_ambiguous_form_is_ignored(self, feed: AsyncSeenStore) -> None:
        """A form that two items of the listing share says nothing."""
        await feed.mark_seen("e.com")
        one, two = (Entry(f"e.com/{n}", spellings=("e.com",)) for n in (1, 2))
        assert keys((await observe(feed, [one, two])).new) == ["e.com/1", "e.com/2"]
        assert await feed.is_seen("e.com")

    async def test_own_key_counts_first(self, feed: AsyncSeenStore) -> None:
        """The key of an item is never taken for a form of another one's."""
        await feed.mark_many(["a", "b"])
        seen = await observe(feed, ["a", Entry("b", spellings=("a",))])
        assert not seen.new
        assert await feed.count() == 2
        seen = await observe(feed, ["a", Entry("c", spellings=("a",))])
        assert keys(seen.new) == ["c"]

    async def test_leased_row_keeps_its_key(self, feed: AsyncSeenStore) -> None:
        """A claim in flight is confirmed under its key, which changes later."""
        claim = await feed.claim("old")
        listing = [Entry("new", spellings=("old",))]
        assert not (await observe(feed, listing)).new
        await claim.confirm()
        assert not (await observe(feed, listing)).new
        assert await feed.is_seen("new")
        assert await feed.get("old") is None


class TestForget:
    """Keys that are ended by hand."""

    async def test_forgotten_key_is_new_again(self, feed: AsyncSeenStore) -> None:
        """A listed key that was forgotten is pending at the next poll."""
        await baseline(feed, "abc")
        assert await feed.forget("b")
        assert keys((await observe(feed, "abc")).new) == ["b"]
        assert await handled(feed) == ["b"]

    async def test_many_forgotten_keys(self, feed: AsyncSeenStore) -> None:
        """So are many."""
        await baseline(feed, "abc")
        assert await feed.forget_many(["a", "c"]) == 2
        assert keys((await observe(feed, "abc")).new) == ["a", "c"]

    async def test_pending_key_can_be_forgotten(self, feed: AsyncSeenStore) -> None:
        """A pending key that has left its listing ends with a forget."""
        await baseline(feed, "a")
        await observe(feed, "ab")
        await observe(feed, "a")
        assert await feed.forget("b")
        assert await handled(feed) == []
        assert await feed.get("b") is None

    async def test_mark_ends_what_is_pending(self, feed: AsyncSeenStore) -> None:
        """So does a mark, which stays as long as that of any item."""
        await baseline(feed, "a")
        await observe(feed, "ab")
        await feed.mark_seen("b")
        assert await handled(feed) == []
        record = await feed.get("b")
        assert record is not None
        assert record.expires_at is None

    async def test_rename_takes_the_source_along(self, store: AsyncSeenStore) -> None:
        """A namespace keeps its source, and what is pending, under a new name."""
        await baseline(store.namespace("old"), "a")
        await observe(store.namespace("old"), "ab")
        await store.rename("new", namespace="old")
        new = store.namespace("new")
        seen = await observe(new, "abc")
        assert (keys(seen.new), seen.baseline) == (["b", "c"], 0)
        assert await handled(new) == ["b", "c"]
        assert await store.namespace("old").source() is None
        with pytest.raises(ValueError, match="has keys already"):
            await store.rename("new", namespace="other")


class TestBadInput:
    """What is refused, with nothing changed."""

    async def test_default_namespace(self, store: AsyncSeenStore) -> None:
        """A source needs a namespace of its own."""
        for call in (
            lambda: store.observe(["a"]),
            lambda: store.observed_unchanged("x"),
            lambda: store.failed("x"),
            store.source,
        ):
            with pytest.raises(InvalidKeyError, match=r"namespace\(name\)"):
                await call()
        with pytest.raises(InvalidKeyError, match=r"namespace\(name\)"):
            store.pending()

    async def test_dropping_store(self, target: Target) -> None:
        """A store that drops what crashes cannot observe."""
        config = target.config(on_abandoned="drop", purge_interval=None)
        async with AsyncSeenStore(config) as store:
            with pytest.raises(ConfigurationError, match="would lose"):
                await store.namespace("feed").observe(["a"])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"key": lambda _: ""}, r"key of items\[0\]"),
            ({"key": lambda _: 5}, r"key of items\[0\] must be a str"),
            ({"key": str, "note": lambda _: "a\0"}, r"note of items\[0\]"),
            ({"key": str, "spellings": lambda _: ["\0"]}, r"spelling of items\[0\]"),
            ({"key": str, "spellings": str}, r"spellings of items\[0\]"),
            ({"key": str, "digest": lambda _: 5}, r"digest of items\[0\] must be a"),
            ({"key": str, "validators": "x" * 16_385}, "validators"),
            ({"key": str, "state": "\0"}, "state"),
        ],
    )
    async def test_bad_item(
        self, feed: AsyncSeenStore, arguments: dict[str, object], message: str
    ) -> None:
        """The error names the item and the argument."""
        with pytest.raises((TypeError, ValueError), match=message):
            await feed.observe(["a"], **arguments)  # type: ignore[call-overload]
        assert await feed.source() is None

    async def test_too_much(self, feed: AsyncSeenStore) -> None:
        """A listing that is too large is refused, with its size."""
        with pytest.raises(ValueError, match="at most 50,000, not 50,001"):
            await feed.observe([str(number) for number in range(50_001)])
        note = "x" * 65_536
        with pytest.raises(ValueError, match="33,554,432 bytes"):
            await feed.observe(map(str, range(513)), key=str, note=lambda _: note)
        assert await feed.source() is None

    async def test_closed_store(self, target: Target) -> None:
        """A view of a closed store raises, as every verb does."""
        config = target.config(purge_interval=None)
        async with AsyncSeenStore(config) as store:
            feed = store.namespace("feed")
        for call in (feed.observe(["a"]), feed.source(), feed.failed("x")):
            with pytest.raises(StoreClosedError):
                await call
        with pytest.raises(StoreClosedError):
            await anext(feed.pending())
