"""Rows and the states of sources, moved from each backend to the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    FeedRules,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._types import OnAbandoned
from catalyst_seen.backends.listings import SourceState, Summary, Totals
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.operations import Confirm, Id, Listed, Renew, Row
from catalyst_seen.transfer import Transfer, as_target

from ..support.clock import DAY, NOON, Clock
from ..support.targets import SERVERS, Places, Target
from ..support.transfer import (
    assert_all_equal,
    assert_equal,
    move,
    rows_of,
    transfer,
)
from .listings.support import Entry, fail, handled, keys, observe, read

RING = ["file", *SERVERS, "reference", "memory"]
STEPS = list(zip(RING, [*RING[1:], RING[0]], strict=True))
"""From each backend to the next one, and from the last one to the first."""

ODD = [
    "", " a", "{a}", "}{", "}>source", "a<b", "%7B", "%", "a:b", "*[?]", "ä☃𝄞",
    "\U0010ffff", "n" * 2_048,
]  # fmt: skip
FEW = FeedRules(absent_for="2d", kept_keys=0, kept_listings=1)
MARK = Row(NOON, NOON, NOON + DAY)
FULL = Row(
    NOON - 9.25, NOON - 3.125, None, "token", 7, NOON + 0.0625, "hold", "n" * 65_536,
    Listed(5 * 65_536 + 3, 4, 1.5, NOON + 77.75, "alias word ☃", "2:digest"),
    "error ☃",
)  # fmt: skip
ROWS = {
    "mark": MARK,
    "forever": MARK._replace(expires_at=None),
    "again": MARK._replace(last_seen=NOON + 0.1),
    "token of a mark": MARK._replace(token="nonce7"),  # noqa: S106 - no secret
    "confirmed": Row(NOON - 1, NOON, NOON + DAY, "t" * 22, 65_535),
    "noted": MARK._replace(note="ä☃\n"),
    "noted token": MARK._replace(token="nonce", note="text"),  # noqa: S106
    "claimed": Row(NOON, NOON, NOON + DAY, "t", 1, NOON + 60, "retry", "text"),
    "dropping": Row(NOON, NOON, NOON + DAY, "t", 1, NOON + 60, "drop"),
    "held": Row(NOON, NOON, None, "t", 3, NOON - 60, "hold", "text", None, "no"),
    "released": Row(NOON, NOON, NOON + DAY, "t", 2, NOON + 9, None, None, None, "no"),
    "pending": Row(NOON, NOON, None, None, 0, NOON, None, "text", Listed(7, 1)),
    "listed": Row(NOON, NOON, None, None, 0, listed=Listed(None, 1, None, None, "a b")),
    "left": Row(NOON, NOON, None, listed=Listed(None, 9, 86_400.5, NOON + 5)),
    "full": FULL,
    "k" * 2_048: MARK._replace(note="of a long key"),
}
"""Rows of every shape."""
STATE = SourceState(
    7, 86_400.25, NOON - 9, NOON, 3, 50_000, (3, 0, 5), NOON - 8, "ä\n" * 4_000,
    '{"etag": "☃"}', "HTTP 503", "an id", Summary((1, 2), (3,), 4),
    Totals(7, 6, 5, 4, 3, 2), is_cleared=True,
)  # fmt: skip


class Pair(NamedTuple):
    """Two open stores, by one clock; the second one is empty."""

    source: AsyncSeenStore
    target: AsyncSeenStore


@pytest.fixture(params=STEPS, ids="-".join)
async def pair(
    request: pytest.FixtureRequest, places: Places, clock: Clock, tmp_path: Path
) -> AsyncIterator[Pair]:
    """A store on each backend, and one on the next backend."""
    assert clock() == NOON
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(places.target(name, tmp_path / name))
            for name in request.param
        )
        async with (
            AsyncSeenStore(first.config(purge_interval=None), ttl=DAY) as source,
            AsyncSeenStore(second.config(purge_interval=None), ttl=DAY) as target,
        ):
            yield Pair(source, target)


async def make_keys(store: AsyncSeenStore, clock: Clock) -> dict[str, Claim]:
    """Make a key of every kind by the verbs; return the claims by their keys."""
    await store.mark_seen("seen", note="text")
    await store.mark_seen("for ever", ttl=None)
    await store.mark_seen("expired", ttl=30)
    policies: list[tuple[str, int, OnAbandoned]] = [
        ("confirmed", 60, "retry"), ("live", 3_600, "retry"), ("over", 30, "retry"),
        ("held", 30, "hold"), ("dropped", 30, "drop"), ("given back", 60, "retry"),
        ("delayed", 60, "retry"), ("held by hand", 60, "retry"),
    ]  # fmt: skip
    claims = {
        key: await store.claim(key, lease=lease, on_abandoned=policy, note=key)
        for key, lease, policy in policies
    }
    await claims["confirmed"].confirm()
    await claims["given back"].release(error="no")
    await claims["delayed"].release(600, error="later")
    await claims["held by hand"].hold("gone")
    clock.advance(45)
    return claims


async def make_feed(store: AsyncSeenStore, clock: Clock) -> AsyncSeenStore:
    """Make a source with items of every kind; return its view."""
    feed = store.namespace("feed", max_attempts=2)
    await observe(feed, [*"ab", Entry("old", link="/1", title="t"), "gone"])
    clock.advance(60)
    listing = [*"ab", Entry("old", link="/1", title="t"), *"zyxw"]
    await observe(feed, listing, validators="v", state="s")
    with pytest.raises(OSError, match="later"):
        await fail(feed, OSError("later"))  # z, which has a delay now
    claim = await feed.claim("y")
    await claim.hold("never")
    await feed.claim("x", lease=3_600)
    await store.namespace("failing").failed("HTTP 503", state="{}")
    clock.advance(60)
    return feed


async def answers(store: AsyncSeenStore, names: list[str]) -> list[object]:
    """Return what a store says of keys, and then does with them."""
    known = [await store.get(name) for name in names]
    seen = [await store.is_seen(name) for name in names]
    sightings = [await store.check_and_mark(name) for name in names]
    return [
        (
            one and (one.state, one.attempt, one.until, one.note, one.error),
            (was_seen, sighting.verdict, sighting.attempt, sighting.retry_after),
        )
        for one, was_seen, sighting in zip(known, seen, sightings, strict=True)
    ]


class TestKeys:
    """Keys in every state of the state table."""

    async def test_rows_are_equal(self, pair: Pair, clock: Clock) -> None:
        """Every row is the same, and one that has expired is not there."""
        await make_keys(pair.source, clock)
        await make_feed(pair.source, clock)
        before = await rows_of(pair.source)
        await move(pair.source, pair.target)
        assert ("", "expired") not in before
        assert len(before) == 18
        assert_all_equal(await rows_of(pair.target), before)

    async def test_answers_are_equal(self, pair: Pair, clock: Clock) -> None:
        """Both stores say and do the same with each key, at once and after a TTL."""
        names = [*await make_keys(pair.source, clock), "seen", "for ever", "expired"]
        await move(pair.source, pair.target)
        assert await answers(pair.target, names) == await answers(pair.source, names)
        clock.advance(DAY)
        assert await answers(pair.target, names) == await answers(pair.source, names)

    async def test_purge_finds_what_has_expired(self, pair: Pair, clock: Clock) -> None:
        """A row expires on the new backend as if it had been made there."""
        await make_keys(pair.source, clock)
        await move(pair.source, pair.target)
        clock.advance(2 * DAY)
        await pair.target.purge_expired()
        kept = {id_ for id_, _ in (await rows_of(pair.target)).items()}
        assert kept == {("", "for ever"), ("", "held"), ("", "held by hand")}

    async def test_owners_keep_their_claims(self, pair: Pair, clock: Clock) -> None:
        """Tokens come over: an owner confirms on the new backend, and nobody else."""
        await make_keys(pair.source, clock)
        await move(pair.source, pair.target)
        target = pair.target._lifecycle.backend
        tokens = {
            key: row.token or ""
            for (_, key), row in (await rows_of(pair.source)).items()
        }
        mine = [
            Renew("", "live", tokens["live"], 60, None, "retry"),
            Confirm("", "live", tokens["live"], None),
            Confirm("", "live", tokens["live"], None),
            Confirm("", "confirmed", tokens["confirmed"], None),
            Confirm("", "held", tokens["held"], None),
        ]
        others = [
            Confirm("", "over", tokens["live"], None),
            Confirm("", "delayed", tokens["delayed"], None),
        ]
        result = await target.apply([*mine, *others], sample_version=False)
        assert list(map(bool, result.results)) == [True] * 5 + [False] * 2
        assert await pair.target.check_and_mark("over")


class TestSources:
    """What a source lists, and what of it waits to be handled."""

    async def test_source_is_equal(self, pair: Pair, clock: Clock) -> None:
        """Both stores know the same of each source; pending and held are counted."""
        feed = await make_feed(pair.source, clock)
        await move(pair.source, pair.target)
        sources = await pair.target.sources()
        assert sources == await pair.source.sources()
        assert [one.namespace for one in sources] == ["failing", "feed"]
        assert sources[1] == await feed.source()
        assert (sources[1].pending, sources[1].held) == (3, 1)
        states = await transfer(pair.target).read_source_states()
        assert states == await transfer(pair.source).read_source_states()

    async def test_poll_of_the_same_listing(self, pair: Pair, clock: Clock) -> None:
        """The next poll repeats nothing, and what it has new waits behind the rest."""
        await make_feed(pair.source, clock)
        await move(pair.source, pair.target)
        feed = pair.target.namespace("feed")
        assert await feed.observed_unchanged("v")
        listing = [*"ab", Entry("old", link="/1", title="t"), *"zyxw"]
        seen = await observe(feed, listing, validators="v")
        assert keys(seen.new) == ["z", "w"]
        assert (seen.baseline, seen.pending) == (0, 3)
        await observe(feed, ["new", *listing])
        clock.advance(DAY)
        assert await handled(feed) == ["z", "x", "w", "new"]
        assert (await read(feed)).held == 1

    async def test_replacements_are_found(self, pair: Pair, clock: Clock) -> None:
        """An old item under another key is recognised by its alias."""
        await make_feed(pair.source, clock)
        await move(pair.source, pair.target)
        feed = pair.target.namespace("feed")
        listing = [*"ab", Entry("other id", link="/1", title="t"), *"zyxw"]
        assert keys((await observe(feed, listing)).replaced) == ["other id"]

    async def test_absent_keys_age(self, pair: Pair, clock: Clock) -> None:
        """What left the listing before comes back known, or ends, on both alike."""
        await make_feed(pair.source, clock)
        await move(pair.source, pair.target)
        for store in pair:
            feed = store.namespace("feed", feeds=FEW)
            back = await observe(feed, [*"abzyxw", "gone"])
            assert keys(back.new) == ["z", "w"]
        for _ in range(9):
            clock.advance(DAY)
            for store in pair:
                await observe(store.namespace("feed", feeds=FEW), "abzyxwv")
        clock.advance(1)
        assert_all_equal(await rows_of(pair.target), await rows_of(pair.source))
        assert ("feed", "old") not in await rows_of(pair.target)

    async def test_cleared_namespace(self, pair: Pair) -> None:
        """After a clear, the next listing is a baseline on the new backend as well."""
        feed = pair.source.namespace("feed")
        await observe(feed, "abc")
        await feed.clear()
        await move(pair.source, pair.target)
        assert await pair.target.sources() == []
        assert (await observe(pair.target.namespace("feed"), "abcd")).baseline == 4


class TestUnfinished:
    """The target of a move that has not ended."""

    async def test_only_the_move_opens_it(self, shared: Target, path: Path) -> None:
        """Nothing else can use it before the move is complete; then everything can."""
        source = AsyncSeenStore(path.with_name("source.db"), purge_interval=None)
        config = shared.config(purge_interval=None)
        early = AsyncSeenStore(config)
        async with source:
            await source.mark_seen("a")
            async with as_target(AsyncSeenStore(config)) as target:
                transfer = Transfer(source, target)
                async with transfer.under_way():
                    await transfer.copy()
            for _ in range(2):
                with pytest.raises(StoreUnavailableError) as caught:
                    await early.open()
            assert f"a move from {source.location} to it has not" in str(caught.value)
            assert "`catalyst-seen move FROM TO`" in caught.value.advice
            async with as_target(AsyncSeenStore(config)) as target:
                transfer = Transfer(source, target)
                async with transfer.under_way() as is_continued:
                    assert is_continued
                    assert not (await transfer.complete()).changed
            async with early:
                assert await early.is_seen("a")

    async def test_own_backend(self) -> None:
        """The promise holds for a backend in memory as well."""
        backend = MemoryBackend()
        async with AsyncSeenStore(MemoryBackend()) as source:
            await source.mark_seen("a")
            async with (
                AsyncSeenStore(backend) as target,
                Transfer(source, target).under_way(),
            ):
                pass
            with pytest.raises(StoreUnavailableError, match="has not ended"):
                await AsyncSeenStore(backend).open()


class TestWriting:
    """Rows and states as they are written, on each backend."""

    @pytest.fixture
    def store(self, pair: Pair) -> AsyncSeenStore:
        """The store at the end of the step: the ring has every backend once."""
        return pair.target

    async def test_every_field_comes_back(self, store: AsyncSeenStore) -> None:
        """A row is read as it was written, whatever was there, however often."""
        rows: dict[Id, Row] = {("feed", key): row for key, row in ROWS.items()}
        for shift in range(3):
            names = list(rows)
            moved = names[shift * 5 :] + names[: shift * 5]
            rows = dict(zip(names, (rows[name] for name in moved), strict=True))
            for _ in range(2):
                await transfer(store).write_rows(list(rows.items()))
                assert_all_equal(await rows_of(store), rows)
        found = await transfer(store).read_rows_of([*rows, ("feed", "-"), *rows])
        for row, expected in zip(
            found, [*rows.values(), None, *rows.values()], strict=True
        ):
            assert_equal(row, expected)

    async def test_odd_namespaces(self, store: AsyncSeenStore) -> None:
        """Any namespace is that of rows, and any but the default one of a source."""
        rows: dict[Id, Row] = {
            (name, key): MARK._replace(note=name or "default")
            for name in ODD
            for key in ("k", "}>source", "}<k", " ", "a:b")
        }
        await transfer(store).write_rows(list(rows.items()))
        assert_all_equal(await rows_of(store, limit=7), rows)
        assert await store.namespaces() == sorted(ODD)
        states = dict.fromkeys(ODD[1:], STATE)
        await transfer(store).write_source_states(states)
        assert await transfer(store).read_source_states() == states
        assert [one.namespace for one in await store.sources()] == sorted(ODD[1:])

    async def test_last_of_equal_keys_is_written(self, store: AsyncSeenStore) -> None:
        """Of a key that occurs twice in a call, the last row counts."""
        a, b = ("feed", "a"), ("feed", "b")
        await transfer(store).write_rows([(a, None), (b, FULL), (a, MARK), (b, None)])
        assert await transfer(store).read_rows_of([a, b, a]) == [MARK, None, MARK]

    async def test_removed_rows_leave_nothing(self, store: AsyncSeenStore) -> None:
        """A row that is removed, or replaced by a mark, takes all that it had along."""
        first = [((name, key), FULL) for name in ("feed", "n") for key in "abc"]
        await transfer(store).write_rows(first)
        state = STATE._replace(is_cleared=False)
        await transfer(store).write_source_states({"feed": state, "n": state})
        gone = {("feed", "a"): None, ("feed", "b"): MARK, ("x", "y"): None}
        await transfer(store).write_rows([*gone.items()])
        assert set(await rows_of(store)) == {
            ("feed", "b"), ("feed", "c"), *(("n", key) for key in "abc"),
        }  # fmt: skip
        assert await transfer(store).read_rows_of([("feed", "b")]) == [MARK]
        source, other = await store.sources()
        assert (source.pending + source.held, other.pending + other.held) == (1, 3)
        await store.claim("b", namespace="feed")
        await store.forget("b", namespace="feed")
        claim = await store.claim("b", namespace="feed")
        assert (claim.verdict, claim.note) == (Verdict.NEW, None)

    async def test_removed_states_leave_nothing(self, store: AsyncSeenStore) -> None:
        """A namespace whose state is removed has no source, and its name is free."""
        await transfer(store).write_source_states({"a": STATE, "b": STATE})
        await transfer(store).write_source_states({"a": None, "b": None, "c": None})
        assert await transfer(store).read_source_states() == {}
        assert await store.sources() == []
        await store.mark_seen("k", namespace="old")
        await store.rename("a", namespace="old")
        assert (await observe(store.namespace("b"), "ab")).baseline == 2

    async def test_pages_beside_other_calls(self, store: AsyncSeenStore) -> None:
        """What is there from the first page to the last one is read."""
        rows: dict[Id, Row] = {
            (f"n{number % 7}", f"k{number}"): MARK for number in range(2_500)
        }
        await transfer(store).write_rows(list(rows.items()))
        found: dict[Id, Row] = {}
        cursor = None
        for number in range(10_000):
            page = await transfer(store).read_rows(limit=100, cursor=cursor)
            found |= {(one.namespace, one.key): one.row for one in page.rows}
            cursor = page.cursor
            if cursor is None:
                break
            await store.mark_seen(f"new {number}", namespace=f"n{number % 9}")
            await store.forget(f"new {number - 3}", namespace=f"n{(number - 3) % 9}")
        assert {id_: found.get(id_) for id_ in rows} == rows

    async def test_long_notes(self, store: AsyncSeenStore) -> None:
        """Rows with long notes are read whole, however many fit into a page."""
        rows: dict[Id, Row] = {
            ("n", f"k{number}"): MARK._replace(note=f"{number}" + "n" * 65_000)
            for number in range(200)
        }
        await transfer(store).write_rows(list(rows.items()))
        assert_all_equal(await rows_of(store, limit=1_000), rows)
        found = await transfer(store).read_rows_of(list(rows))
        assert found == list(rows.values())

    async def test_nothing_to_write(self, store: AsyncSeenStore) -> None:
        """Nothing is written where there is nothing to write."""
        await transfer(store).write_rows([])
        await transfer(store).write_source_states({})
        assert await transfer(store).read_rows_of([]) == []
        assert await rows_of(store) == {}
        assert await transfer(store).read_source_states() == {}
