"""What one poll asks, what it keeps with the source, and what it reports."""

from __future__ import annotations

import asyncio
import gzip
import logging
from email.utils import formatdate
from pathlib import Path
from typing import NoReturn

import pytest

import catalyst_seen
from catalyst_seen import ConfigurationError, StoreUnavailableError
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.feeds import Entry, Feed, Poll, Poller
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

    async def test_store_that_fails(
        self, web: Web, poller: Poller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An error of the store is an error, and not one of the source."""
        url = web.put("/f", answer(200, ONE))
        monkeypatch.setattr(MemoryBackend, "observe", full)
        with pytest.raises(StoreUnavailableError):
            await poller.poll(url)


class TestHeaders:
    """What servers learn about the client."""

    async def test_name(self, web: Web, poller: Poller) -> None:
        """A poller gives its name, its version and an address, and asks for feeds."""
        await poller.poll(web.put("/f", answer(200, ONE)))
        asked = web.asked[0].headers
        assert asked["user-agent"] == (
            f"catalyst-seen/{catalyst_seen.__version__}"
            " (+https://github.com/catalyst-seen/catalyst-seen)"
        )
        assert asked["accept"].startswith("application/atom+xml")

    async def test_own_headers(self, web: Web, make_poller: MakePoller) -> None:
        """Headers of a source come before those of the poller, in any case."""
        url = web.put("/f", answer(200, ONE))
        options = {"user_agent": "bot/1", "headers": {"X-All": "1", "X-One": "1"}}
        async with make_poller(**options) as poller:
            await poller.poll(Feed(url, headers={"x-one": "2", "Cookie": "a=b"}))
            await poller.poll(Feed(url, name="n", headers={"user-agent": "mine"}))
        first, second = (asked.headers for asked in web.asked)
        assert (first["user-agent"], first["x-all"]) == ("bot/1", "1")
        assert (first["x-one"], first["cookie"]) == ("2", "a=b")
        assert second["user-agent"] == "mine"

    @pytest.mark.parametrize("value", ["a\nb", "a\r\nX-Evil: 1", "a\0"])
    def test_forged_header(self, value: str) -> None:
        """A header with a line break is refused, and its value is not shown."""
        with pytest.raises(ConfigurationError) as caught:
            Feed("https://h.example/", headers={"X": value})
        assert value not in str(caught.value)


class TestSignIn:
    """Who gets user, password and headers of a source."""

    USER = "Basic YW5uOnMzY3JldDpr"  # ann:s3cret:k

    async def test_of_the_address(self, web: Web, poller: Poller) -> None:
        """User and password of the address are sent to its server, decoded."""
        web.put("/f", answer(200, ONE))
        await poller.poll(web.url("/f", sign_in="ann:s3cret%3Ak"))
        assert web.asked[0].headers["authorization"] == self.USER

    async def test_given_apart(self, web: Web, poller: Poller) -> None:
        """User and password may be given apart, and come first."""
        web.put("/f", answer(200, ONE))
        url = web.url("/f", sign_in="other:x")
        await poller.poll(Feed(url, auth=("ann", "s3cret:k")))
        assert web.asked[0].headers["authorization"] == self.USER

    async def test_redirect_on_the_same_server(self, web: Web, poller: Poller) -> None:
        """They are sent along a redirect on the same server, as cookies are."""
        web.put("/g", answer(200, ONE))
        moved = answer(302, b"", "Set-Cookie: id=1; Path=/", Location="/g")
        url = web.put("/f", moved)
        poll = await poller.poll(Feed(url, auth=("ann", "s3cret:k")))
        assert poll.outcome == "listing"
        assert web.asked[1].headers["authorization"] == self.USER
        assert web.asked[1].headers["cookie"] == "id=1"

    async def test_redirect_to_another_host(self, web: Web, poller: Poller) -> None:
        """Another host gets neither them, nor headers of the source, nor cookies."""
        web.put("/g", answer(200, ONE))
        there = web.url("/g", host="localhost")
        moved = answer(302, b"", "Set-Cookie: id=1; Path=/", Location=there)
        url = web.put("/f", moved)
        headers = {"X-Api-Key": "s3cret", "Cookie": "s3cret=1", "User-Agent": "mine"}
        feed = Feed(url, auth=("ann", "s3cret:k"), headers=headers)
        assert (await poller.poll(feed)).outcome == "listing"
        asked = web.asked[1].headers
        assert asked["host"].startswith("localhost")
        assert not {"authorization", "x-api-key", "cookie"} & set(asked)
        assert asked["user-agent"].startswith("catalyst-seen/")

    async def test_sign_in_of_a_redirect(self, web: Web, poller: Poller) -> None:
        """User and password that a redirect names are not used, and not shown."""
        web.put("/g", answer(403))
        there = web.url("/g", sign_in="eve:s3cret")
        poll = await poller.poll(web.put("/f", answer(302, Location=there)))
        assert poll.error == "HTTP 403 Forbidden"
        assert "authorization" not in web.asked[1].headers


class TestFailures:
    """What is said about a source that cannot be read, and how often."""

    async def test_reported_once(
        self, web: Web, make_poller: MakePoller, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A failure is said once, also across restarts, and once more when well."""
        caplog.set_level(logging.INFO, "catalyst_seen")
        bad, good = answer(500), answer(200, ONE)
        url = web.put("/f", good, bad, bad, answer(404), good, good, bad, bad)
        polls: list[Poll] = []
        for _ in range(8):
            async with make_poller() as poller:
                polls.append(await poller.poll(url))
        assert [poll.notice for poll in polls] == [
            None,
            "HTTP 500 Internal Server Error",
            None,
            None,
            "it can be read again, after 3 failed polls",
            None,
            "HTTP 500 Internal Server Error",
            None,
        ]
        assert [poll.failures for poll in polls] == [0, 1, 2, 3, 0, 0, 1, 2]
        assert [poll.error for poll in polls][3] == "HTTP 404 Not Found"
        events = [record.message.split()[0] for record in caplog.records]
        assert events == ["feed_failed", "feed_recovered", "feed_failed"]

    async def test_seen_stays_seen(
        self, web: Web, poller: Poller, feeds: Store
    ) -> None:
        """A failure is told to the store as one, and changes no item."""
        url = web.put("/f", answer(200, ONE), answer(500))
        await poller.poll(url)
        await poller.poll(url)
        source = await feeds.source(url)
        assert (await feeds.keys(url), source.polls, source.failed) == (["1"], 1, 1)
        assert source.error == "HTTP 500 Internal Server Error"

    @pytest.mark.parametrize(
        "body", [b"", b" \n", b"<html><p>Hello</p></html>", BROKEN]
    )
    async def test_no_feed(self, web: Web, poller: Poller, body: bytes) -> None:
        """A success without a feed is a failure."""
        assert (await poller.poll(web.put("/f", answer(200, body)))).outcome == "failed"

    async def test_status_without_words(self, web: Web, poller: Poller) -> None:
        """A status that nobody knows is a number, without the words of the server."""
        url = web.put("/f", b"HTTP/1.1 599 s3cret\r\nContent-Length: 0\r\n\r\n")
        assert (await poller.poll(url)).error == "HTTP 599"


class TestGone:
    """410 stops a source."""

    async def test_stops(self, web: Web, make_poller: MakePoller) -> None:
        """A source that is gone is not asked again, by any later poller."""
        url = web.put("/f", answer(200, ONE), answer(410))
        for outcome in ("listing", "gone", "gone"):
            async with make_poller() as poller:
                poll = await poller.poll(url)
            assert poll.outcome == outcome
        assert poll.next_at is None
        assert "410 Gone" in str(poll.notice)
        assert len(web.asked) == 2

    async def test_forced(self, web: Web, poller: Poller) -> None:
        """A forced poll asks again, and a source that is there again is polled."""
        url = web.put("/f", answer(410), answer(200, ONE))
        await poller.poll(url)
        assert (await poller.poll(url, force=True)).outcome == "listing"
        assert (await poller.poll(url)).outcome == "unchanged"

    async def test_other_address(self, web: Web, poller: Poller) -> None:
        """A source with another address is polled again under its old name."""
        gone, there = web.put("/f", answer(410)), web.put("/g", answer(200, ONE))
        await poller.poll(Feed(gone, name="n"))
        assert (await poller.poll(Feed(there, name="n"))).outcome == "listing"


class TestRetryAfter:
    """A server that asks for a pause gets it, from all sources of its host."""

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("form", ["seconds", "date", "skewed date"])
    async def test_whole_host(
        self, web: Web, poller: Poller, time: Time, status: int, form: str
    ) -> None:
        """No request is made to the host before the pause is over."""
        skew = -3_600 if form == "skewed date" else 0
        wish = (
            "120" if form == "seconds" else formatdate(time() + skew + 120, usegmt=True)
        )
        headers = {"Retry_After": wish}
        if skew:
            headers["Date"] = formatdate(time() + skew, usegmt=True)
        busy = web.put("/f", answer(status, **headers), answer(200, ONE))
        other = web.put("/g", answer(200, ONE))
        poll = await poller.poll(busy)
        assert poll.outcome == "failed"
        assert "a pause of 120 seconds" in str(poll.error)
        assert poll.next_at is not None
        assert poll.next_at >= time() + 120
        time.advance(119)
        for url in (busy, other):
            poll = await poller.poll(url)
            assert (poll.outcome, poll.notice) == ("held", None)
            assert poll.next_at is not None
            assert poll.next_at >= time() + 1
        assert web.paths() == ["/f"]
        time.advance(2)
        assert (await poller.poll(other)).outcome == "listing"
        assert (await poller.poll(busy)).outcome == "listing"

    async def test_other_hosts_go_on(self, web: Web, poller: Poller) -> None:
        """A pause of one host is none of the others."""
        await poller.poll(web.put("/f", answer(429, Retry_After="120")))
        web.put("/g", answer(200, ONE))
        poll = await poller.poll(web.url("/g", host="localhost"))
        assert poll.outcome == "listing"

    async def test_after_a_redirect(self, web: Web, poller: Poller) -> None:
        """The host that asked for the pause gets it, and not the one that led there."""
        busy = web.put("/busy", answer(429, Retry_After="120"))
        there = busy.replace("127.0.0.1", "localhost")
        first = web.put("/f", answer(302, Location=there))
        for _ in range(2):
            await poller.poll(first)
        assert web.paths() == ["/f", "/busy", "/f"]
        web.put("/g", answer(200, ONE))
        assert (await poller.poll(web.url("/g"))).outcome == "listing"

    async def test_across_restarts(
        self, web: Web, make_poller: MakePoller, time: Time
    ) -> None:
        """A restart does not end the pause."""
        url = web.put("/f", answer(429, Retry_After="120"), answer(200, ONE))
        for outcome in ("failed", "held"):
            async with make_poller() as poller:
                assert (await poller.poll(url)).outcome == outcome
        time.advance(121)
        async with make_poller() as poller:
            assert (await poller.poll(url)).outcome == "listing"

    async def test_a_day_at_most(self, web: Web, poller: Poller, time: Time) -> None:
        """A pause of a year is taken for a mistake, and is a day."""
        url = web.put("/f", answer(503, Retry_After="31536000"), answer(200, ONE))
        await poller.poll(url)
        time.advance(DAY + 1)
        assert (await poller.poll(url)).outcome == "listing"

    @pytest.mark.parametrize("wish", ["", "soon", "-5", "0", "1e9999", "Mon, 99 Foo"])
    async def test_no_wish(self, web: Web, poller: Poller, wish: str) -> None:
        """A text that is no time, and a time that is over, hold nothing."""
        url = web.put("/f", answer(429, Retry_After=wish), answer(200, ONE))
        await poller.poll(url)
        assert (await poller.poll(url)).outcome == "listing"

    async def test_forced(self, web: Web, poller: Poller) -> None:
        """A forced poll does not wait."""
        url = web.put("/f", answer(429, Retry_After="120"), answer(200, ONE))
        await poller.poll(url)
        assert (await poller.poll(url, force=True)).outcome == "listing"


class TestRedirects:
    """Where a source is read, and where it is read the next time."""

    @pytest.mark.parametrize("status", [301, 308])
    async def test_permanent(
        self, web: Web, poller: Poller, feeds: Store, time: Time, status: int
    ) -> None:
        """A permanent redirect is adopted after seven days; the namespace stays."""
        web.put("/g", answer(200, ONE))
        url = web.put("/f", answer(status, Location="/g"))
        for _ in range(8):
            assert (await poller.poll(url)).outcome in {"listing", "unchanged"}
            time.advance(DAY)
        assert web.paths() == ["/f", "/g"] * 8
        await poller.poll(url)
        assert web.paths()[16:] == ["/g"]
        assert await feeds.store.namespaces() == [url]

    @pytest.mark.parametrize("status", [302, 303, 307])
    async def test_temporary(
        self, web: Web, poller: Poller, time: Time, status: int
    ) -> None:
        """A temporary redirect is followed at each poll, and never adopted."""
        web.put("/g", answer(200, ONE))
        url = web.put("/f", answer(status, Location="/g"))
        for _ in range(10):
            await poller.poll(url)
            time.advance(DAY)
        assert web.paths() == ["/f", "/g"] * 10

    async def test_change_of_mind(self, web: Web, poller: Poller, time: Time) -> None:
        """The seven days begin anew if the server gives another answer in between."""
        web.put("/g", answer(200, ONE))
        moved = answer(301, Location="/g")
        url = web.put("/f", *[moved] * 6, answer(200, ONE), *[moved] * 6)
        for _ in range(13):
            await poller.poll(url)
            time.advance(DAY)
        assert web.paths().count("/f") == 13

    async def test_error_at_the_new_place(
        self, web: Web, poller: Poller, time: Time
    ) -> None:
        """A redirect to a page that is no feed is not adopted."""
        web.put("/login", answer(200, b"<html></html>"))
        url = web.put("/f", answer(301, Location="/login"))
        for _ in range(10):
            await poller.poll(url)
            time.advance(DAY)
        assert web.paths().count("/f") == 10

    async def test_adopted_by_mistake(
        self, web: Web, poller: Poller, time: Time
    ) -> None:
        """An adopted address that fails again and again is given up."""
        web.put("/g", *[answer(200, ONE)] * 9, answer(410))
        url = web.put("/f", *[answer(301, Location="/g")] * 8, answer(200, ONE))
        for _ in range(12):
            poll = await poller.poll(url)
            time.advance(DAY)
        assert web.paths()[16:] == ["/g", "/g", "/g", "/g"]
        assert poll.outcome == "failed"
        assert (await poller.poll(url)).outcome == "unchanged"
        assert web.paths()[20:] == ["/f"]

    async def test_address_with_a_secret(
        self, web: Web, poller: Poller, feeds: Store, time: Time
    ) -> None:
        """An address with a secret is followed, but neither stored nor adopted."""
        web.put("/g", answer(200, ONE))
        url = web.put("/f", answer(301, Location="/g?token=s3cret"))
        for _ in range(10):
            await poller.poll(url)
            assert "s3cret" not in str(await feeds.source(url))
            time.advance(DAY)
        assert web.paths() == ["/f", "/g?token=s3cret"] * 10

    async def test_circle(self, web: Web, poller: Poller) -> None:
        """A circle of redirects ends."""
        poll = await poller.poll(web.put("/f", answer(301, Location="/f")))
        assert poll.error == "more than 10 redirects"

    @pytest.mark.parametrize(
        "location", ["file:///etc/passwd", "ftp://h/", "javascript:1", "//["]
    )
    async def test_nowhere(self, web: Web, poller: Poller, location: str) -> None:
        """A redirect to no address of the web is not followed."""
        poll = await poller.poll(web.put("/f", answer(302, Location=location)))
        assert poll.error == "HTTP 302: the redirect leads to no address of the web"

    async def test_without_a_location(self, web: Web, poller: Poller) -> None:
        """A redirect without a target is a failure."""
        poll = await poller.poll(web.put("/f", answer(301)))
        assert poll.error == "HTTP 301 Moved Permanently"


class TestSecrets:
    """Secrets of addresses are nowhere but in the requests."""

    @pytest.mark.parametrize(
        "given",
        [
            answer(403),
            answer(200, ONE),
            answer(200, rss("<link>p</link><title>x</title>")),
            answer(200, BROKEN),
            answer(410),
            answer(429, Retry_After="60"),
            answer(302, Location="/other?access_token=s3cret"),
            answer(301, Location="/nothing?sig=s3cret"),
            answer(302, Location="http://["),
            b"",
            b"s3cret\r\n\r\n",
        ],
    )
    async def test_nowhere(
        self,
        web: Web,
        poller: Poller,
        feeds: Store,
        caplog: pytest.LogCaptureFixture,
        given: bytes,
    ) -> None:
        """Neither results, nor the store, nor the log have them."""
        caplog.set_level(logging.DEBUG)
        web.put("/f", given)
        web.put("/other", answer(200, ONE))
        url = web.url("/f?a=1&token=s3cret&api_key=s3cret", sign_in="ann:s3cret")
        feed = Feed(url, headers={"X-Key": "s3cret"})
        polls = [await poller.poll(feed), await poller.poll(feed)]
        store = feeds.store
        records = [record async for record in store.records(namespace=None)]
        kept = [await feeds.source(feed.namespace), records]
        for place in (polls, kept, feed, caplog.text):
            assert "s3cret" not in repr(place)
            assert "ann" not in repr(place)
        assert "token=s3cret&api_key=s3cret" in web.asked[0].path

    async def test_no_connection(self, poller: Poller, unused_tcp_port: int) -> None:
        """The error of a connection has the host only."""
        url = f"http://ann:s3cret@127.0.0.1:{unused_tcp_port}/f?key=s3cret"
        assert "s3cret" not in repr(await poller.poll(url))

    @pytest.mark.parametrize(
        "url",
        ["http://ann:s3cret@", "http://ann:s3cret@h:port/", "ftp://ann:s3cret@h/",
         "http://[::1/?key=s3cret"],
    )  # fmt: skip
    def test_refused_address(self, url: str) -> None:
        """An address that is refused is shown without its secrets."""
        with pytest.raises(ConfigurationError) as caught:
            Feed(url)
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "namespace"),
        [
            ("https://h.example/f?b=2&a=1#x", "https://h.example/f?b=2&a=1#x"),
            ("https://u:p@h.example/f", "https://h.example/f"),
            ("https://u:p@x@h.example/f", "https://h.example/f"),
            ("https://h.example/f@b?q=@", "https://h.example/f@b?q=@"),
            ("https://h/f?key=1&a=2", "https://h/f?key=***&a=2"),
            (
                "https://h/f?a=2&X-Amz-Signature=1",
                "https://h/f?a=2&X-Amz-Signature=***",
            ),
            ("https://h/f?accessToken=1", "https://h/f?accessToken=***"),
            ("https://h/f?monkey=1&keyword=2", "https://h/f?monkey=1&keyword=2"),
            ("https://h/f?key=&a=1", "https://h/f?key=&a=1"),
        ],
    )
    def test_namespace(self, url: str, namespace: str) -> None:
        """The namespace is the address as given, without what opens a door."""
        assert Feed(url).namespace == namespace


class TestFiles:
    """Files are sources too."""

    @pytest.mark.parametrize("form", ["path", "uri", "tilde", "gzip"])
    async def test_read(
        self,
        poller: Poller,
        feeds: Store,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        form: str,
    ) -> None:
        """A path, with or without a tilde, and an address of file are read."""
        monkeypatch.setenv("HOME", str(tmp_path))
        file = tmp_path / "a feed.xml"
        file.write_bytes(gzip.compress(ONE) if form == "gzip" else ONE)
        source = {"uri": file.as_uri(), "tilde": "~/a feed.xml"}.get(form, str(file))
        assert (await poller.poll(source)).outcome == "listing"
        assert (await poller.poll(source)).outcome == "unchanged"
        assert await feeds.store.namespaces() == [str(file)]

    async def test_relative(
        self,
        poller: Poller,
        feeds: Store,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The namespace of a relative path is the absolute one."""
        monkeypatch.chdir(tmp_path)
        Path("f.xml").write_bytes(ONE)
        await poller.poll("f.xml")
        assert await feeds.store.namespaces() == [str(tmp_path / "f.xml")]

    async def test_missing(self, poller: Poller, tmp_path: Path) -> None:
        """A file that cannot be read is a failure, and comes when it is there."""
        file = tmp_path / "f.xml"
        poll = await poller.poll(str(file))
        assert (poll.outcome, poll.error) == ("failed", "No such file or directory")
        assert (await poller.poll(str(tmp_path))).error == "Is a directory"
        file.write_bytes(ONE)
        assert (await poller.poll(str(file))).outcome == "listing"

    async def test_too_large(self, make_poller: MakePoller, tmp_path: Path) -> None:
        """The limit is for files as well."""
        (tmp_path / "f").write_bytes(b" " * 2_000)
        async with make_poller(max_bytes=1_000) as poller:
            poll = await poller.poll(str(tmp_path / "f"))
        assert poll.error == "the file has more than 1,000 bytes"

    @pytest.mark.parametrize("source", ["", " ", "a\0b"])
    def test_nothing(self, source: str) -> None:
        """A text that names nothing is refused."""
        with pytest.raises(ConfigurationError):
            Feed(source)


class TestPoller:
    """The object itself."""

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
