"""What one poll asks, and what it keeps with the source."""

from __future__ import annotations

import asyncio
import gzip
from hashlib import sha256
from typing import NoReturn

import aiohttp
import pytest

from catalyst_seen import StoreUnavailableError, _listing_items
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.feeds import Entry, Feed, Poller
from catalyst_seen.keys import Fields

from ..support.clock import DAY
from ..support.feeds import rss
from ..support.web import Asked, Respond, Web, answer
from .conftest import MakePoller, Store, Time

ONE = rss("<guid>1</guid><title>One</title>").encode()
TWO = rss(
    "<guid>2</guid><pubDate>Tue, 02 Jan 2096 00:00:00 GMT</pubDate>",
    "<guid>1</guid><pubDate>Mon, 01 Jan 2096 00:00:00 GMT</pubDate>",
).encode()
BROKEN = ONE[:-9]


async def full(*_: object) -> NoReturn:
    """Fail as a database without space does."""
    raise StoreUnavailableError("memory", "it is full", "Free some space.")


def by_etag(body: bytes, etag: str) -> Respond:
    """Answer 304 to who has that version."""

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        is_same = asked.headers.get("if-none-match") == etag
        given = answer(304, ETag=etag) if is_same else answer(200, body, ETag=etag)
        writer.write(given)

    return respond


class TestConditions:
    """Validators live with the source, and are written only with its listing."""

    async def test_not_modified(self, web: Web, poller: Poller, feeds: Store) -> None:
        """The next poll sends both validators; "not modified" is a poll."""
        date = "Mon, 01 Jan 2096 00:00:00 GMT"
        first = answer(200, ONE, ETag='"a"', Last_Modified=date)
        url = web.put("/f", first, answer(304))
        assert (await poller.poll(url)).outcome == "listing"
        poll = await poller.poll(url)
        assert (poll.outcome, poll.error, poll.listing) == ("not modified", None, None)
        asked = web.asked[1].headers
        assert (asked["if-none-match"], asked["if-modified-since"]) == ('"a"', date)
        source = await feeds.source(url)
        assert (source.polls, source.failed, source.error) == (2, 0, None)

    async def test_across_restarts(self, web: Web, make_poller: MakePoller) -> None:
        """Another poller sends the validators of the first one."""
        url = web.put("/f", by_etag(ONE, '"a"'))
        for outcome in ("listing", "not modified"):
            async with make_poller() as poller:
                assert (await poller.poll(url)).outcome == outcome

    async def test_broken_document_leaves_them(
        self, web: Web, poller: Poller, feeds: Store
    ) -> None:
        """The validators of a broken document are not stored: the next one is read."""
        url = web.put("/f", answer(200, BROKEN, ETag='"bad"'), by_etag(ONE, '"bad"'))
        assert (await poller.poll(url)).outcome == "failed"
        assert (await feeds.source(url)).validators is None
        assert (await poller.poll(url)).outcome == "listing"

    async def test_full_read_once_a_day(
        self, web: Web, poller: Poller, time: Time
    ) -> None:
        """Once a day, a server that always says "not modified" gets no conditions."""
        url = web.put("/f", answer(200, ONE, ETag='"a"'), by_etag(TWO, '"a"'))
        await poller.poll(url)
        time.advance(DAY - 1)
        assert (await poller.poll(url)).outcome == "not modified"
        time.advance(2)
        poll = await poller.poll(url)
        assert poll.listing is not None
        assert [entry.key for entry in poll.listing.entries] == ["1", "2"]
        assert (await poller.poll(url)).outcome == "not modified"

    async def test_clock_set_back(self, web: Web, poller: Poller, time: Time) -> None:
        """A clock that was set back a year does not stop the full reads for a year."""
        url = web.put("/f", by_etag(ONE, '"a"'))
        await poller.poll(url)
        time.advance(-365 * DAY)
        assert (await poller.poll(url)).outcome == "unchanged"
        assert "if-none-match" not in web.asked[1].headers

    async def test_other_listing_in_the_store(
        self, web: Web, poller: Poller, feeds: Store
    ) -> None:
        """If another process has observed meanwhile, the source is read in full."""
        first = answer(200, ONE, ETag='"a"')

        async def another(_: Asked, writer: asyncio.StreamWriter) -> None:
            await feeds.store.namespace(url).observe(["2"], validators="other")
            writer.write(answer(304))

        url = web.put("/f", first, another, first)
        await poller.poll(url)
        assert (await poller.poll(url)).outcome == "listing"
        asked = ["if-none-match" in asked.headers for asked in web.asked]
        assert asked == [False, True, False]
        assert (await feeds.source(url)).polls == 3

    async def test_not_modified_without_a_condition(
        self, web: Web, poller: Poller
    ) -> None:
        """A request without conditions that gets "not modified" is a failure."""
        poll = await poller.poll(web.put("/f", answer(304)))
        assert (poll.outcome, poll.error) == (
            "failed",
            "HTTP 304 to a request without conditions",
        )

    async def test_same_bytes(self, web: Web, poller: Poller, feeds: Store) -> None:
        """The same bytes are not parsed again, and are a poll."""
        url = web.put("/f", answer(200, ONE))
        await poller.poll(url)
        poll = await poller.poll(url)
        assert (poll.outcome, poll.listing) == ("unchanged", None)
        assert (await feeds.source(url)).polls == 2

    async def test_other_recipe(self, web: Web, poller: Poller) -> None:
        """Another recipe for the keys needs the listing itself."""

        def title(fields: Fields) -> str:
            return fields.title

        url = web.put("/f", by_etag(ONE, '"a"'))
        await poller.poll(Feed(url))
        poll = await poller.poll(Feed(url, recipe=title))
        assert poll.listing is not None
        assert [entry.key for entry in poll.listing.entries] == ["One"]

    async def test_other_address(self, web: Web, poller: Poller) -> None:
        """A source that is given another address starts without validators."""
        first, other = web.put("/f", by_etag(ONE, '"a"')), web.put("/g", answer(304))
        await poller.poll(Feed(first, name="n"))
        assert (await poller.poll(Feed(other, name="n"))).outcome == "failed"
        assert "if-none-match" not in web.asked[1].headers

    async def test_forced(self, web: Web, poller: Poller) -> None:
        """A forced poll reads and parses, whatever was remembered."""
        url = web.put("/f", by_etag(ONE, '"a"'))
        await poller.poll(url)
        assert (await poller.poll(url, force=True)).outcome == "listing"

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"format":0}', '{"format":1,"x":1}']
    )
    async def test_unknown_texts(
        self, web: Web, poller: Poller, feeds: Store, text: str
    ) -> None:
        """Texts of another release in the store only cause a full read."""
        url = web.put("/f", answer(200, ONE, ETag='"a"'))
        await poller.poll(url)
        view = feeds.store.namespace(url)
        await view.observe(["1"], validators=text, state=text)
        assert (await poller.poll(url)).outcome == "listing"
        assert "if-none-match" not in web.asked[1].headers

    async def test_strange_validators(self, web: Web, poller: Poller) -> None:
        """A validator that cannot be sent back, or is huge, is not kept."""
        url = web.put("/f", answer(200, ONE, ETag='"ä"', Last_Modified="x" * 9_000))
        await poller.poll(url)
        assert (await poller.poll(url)).outcome == "unchanged"
        assert not {"if-none-match", "if-modified-since"} & set(web.asked[1].headers)


class TestListing:
    """What reaches the store."""

    async def test_entries(self, web: Web, poller: Poller) -> None:
        """Items are observed oldest first, with their entries as notes."""
        url = web.put("/f", answer(200, TWO))
        poll = await poller.poll(Feed(url, first="all"))
        assert poll.seen is not None
        assert [entry.key for entry in poll.seen.new] == ["1", "2"]
        keys = []
        async for claim in poll.store.pending():
            async with claim:
                keys.append(Entry.from_json(claim.note or "").key)
        assert keys == ["1", "2"]

    async def test_first(self, web: Web, poller: Poller) -> None:
        """What of a first listing is handled is up to the store, or to the source."""
        url = web.put("/f", answer(200, TWO))
        expected = {
            Feed(url): 2,
            Feed(url, name="one", first=1): 1,
            Feed(url, name="all", first="all"): 0,
        }
        for source, baseline in expected.items():
            poll = await poller.poll(source)
            assert poll.seen is not None
            assert (poll.seen.baseline, len(poll.seen.new)) == (baseline, 2 - baseline)

    async def test_listing_that_cannot_be_stored(
        self, web: Web, poller: Poller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A listing over the limits of the store is a failure of that source only."""
        monkeypatch.setattr(_listing_items, "MAX_ITEMS", 1)
        poll = await poller.poll(web.put("/f", answer(200, TWO)))
        assert poll.outcome == "failed"
        assert "at most 1, not 2" in str(poll.error)

    @pytest.mark.parametrize("kind", ["sign-in", "token", "long"])
    async def test_namespace_of_the_old_example(
        self, web: Web, poller: Poller, feeds: Store, kind: str
    ) -> None:
        """What the old example marked, under an address with secrets, stays seen."""
        web.put("/f", answer(200, TWO))
        url = {
            "sign-in": web.url("/f", sign_in="ann:s3cret"),
            "token": web.url("/f?token=s3cret"),
            "long": web.url(f"/f?{'x' * 300}"),
        }[kind]
        old = f"sha256:{sha256(url.encode()).hexdigest()}" if kind == "long" else url
        await feeds.store.mark_seen("1", namespace=old)
        poll = await poller.poll(url)
        assert poll.seen is not None
        assert [entry.key for entry in poll.seen.new] == ["2"]
        assert await feeds.store.namespaces() == [Feed(url).namespace]

    async def test_store_that_fails(
        self, web: Web, poller: Poller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An error of the store is an error, and not one of the source."""
        url = web.put("/f", answer(200, ONE))
        monkeypatch.setattr(MemoryBackend, "observe", full)
        with pytest.raises(StoreUnavailableError):
            await poller.poll(url)


class TestPoller:
    """The object itself."""

    async def test_own_session(self, web: Web, make_poller: MakePoller) -> None:
        """A session of one's own is used, with any settings, and stays open."""
        packed = answer(200, gzip.compress(ONE), Content_Encoding="gzip")
        url = web.put("/f", packed)
        options = {"headers": {"X-Own": "1"}, "raise_for_status": True}
        async with aiohttp.ClientSession(**options) as session:  # type: ignore[arg-type]
            async with make_poller(session=session) as poller:
                assert (await poller.poll(url)).outcome == "listing"
                assert (await poller.poll(web.url("/none"))).error == (
                    "HTTP 404 Not Found"
                )
            assert not session.closed
        assert web.asked[0].headers["x-own"] == "1"

    async def test_not_open(self, make_poller: MakePoller) -> None:
        """A poller that is not open says so."""
        poller = make_poller()
        with pytest.raises(RuntimeError, match="async with"):
            await poller.poll("https://h.example/")

    @pytest.mark.parametrize(
        "options",
        [{"max_bytes": 0}, {"per_host": 0}, {"concurrency": 0}, {"every": 0},
         {"timeout": -1}, {"per_host": float("nan")}],
    )  # fmt: skip
    def test_numbers(self, make_poller: MakePoller, options: dict[str, float]) -> None:
        """A number out of range is refused."""
        with pytest.raises(ValueError, match=next(iter(options))):
            make_poller(**options)
