"""Sources that cannot be read: what is said, and when they are asked again."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from email.utils import formatdate

import pytest

from catalyst_seen.feeds import Feed, Poll, Poller

from ..support.clock import DAY
from ..support.feeds import rss
from ..support.waiting import until
from ..support.web import Asked, Web, answer
from .conftest import MakePoller, Store, Time

ONE = rss("<guid>1</guid><title>One</title>").encode()
BROKEN = ONE[:-9]


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
        for url in (other, busy):
            poll = await poller.poll(url)
            assert (poll.outcome, poll.notice) == ("held", None)
            assert poll.next_at is not None
            assert poll.next_at >= time() + 1
        assert web.paths() == ["/f"]
        time.advance(2)
        assert (await poller.poll(other)).outcome == "listing"
        assert (await poller.poll(busy)).outcome == "listing"

    async def test_requests_that_wait(self, web: Web, poller: Poller) -> None:
        """Requests that wait for their turn are not made either, and wait no more."""
        respond = asyncio.Event()

        async def slow(_: Asked, writer: asyncio.StreamWriter) -> None:
            await respond.wait()
            writer.write(answer(429, Retry_After="120"))

        urls = [web.put(f"/{n}", slow) for n in range(8)]
        polls = [asyncio.create_task(poller.poll(url)) for url in urls]
        await until(lambda: web.at_once == 4)
        poller._hosts.hold("127.0.0.1", 5e9)
        assert (await poller.poll(web.put("/late", slow))).outcome == "held"
        respond.set()
        errors = [str((await poll).error) for poll in polls]
        words = Counter(" ".join(error.split()[:2]) for error in errors)
        assert words == {"HTTP 429": 4, "the server": 4}
        assert len(web.asked) == 4

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
        other = web.put("/g", answer(200, ONE))
        await poller.poll(url)
        assert (await poller.poll(other, force=True)).outcome == "listing"
        assert (await poller.poll(url)).outcome == "held"
        assert (await poller.poll(url, force=True)).outcome == "listing"
