"""What servers are asked, and who learns which secret."""

from __future__ import annotations

import logging

import pytest

import catalyst_seen
from catalyst_seen import ConfigurationError
from catalyst_seen.feeds import Feed, Poller

from ..support.clock import DAY
from ..support.feeds import rss
from ..support.web import Web, answer
from .conftest import MakePoller, Store, Time

ONE = rss("<guid>1</guid><title>One</title>").encode()
BROKEN = ONE[:-9]


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

    async def test_header_of_ones_own(self, web: Web, poller: Poller) -> None:
        """A header of that name, in any case, comes before user and password."""
        web.put("/f", answer(200, ONE))
        url = web.url("/f", sign_in="ann:s3cret")
        await poller.poll(Feed(url, headers={"authorization": "Bearer x"}))
        assert web.asked[0].headers["authorization"] == "Bearer x"

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
