"""What no source, no file and no clock may do to the others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest

from catalyst_seen import AsyncSeenStore
from catalyst_seen.feeds import Feed, FeedError, Poller, parse, post
from catalyst_seen.feeds._addresses import shown
from catalyst_seen.feeds._text import text_of

from ..support.clock import DAY
from ..support.feeds import rss
from ..support.web import Asked, Web, answer
from .conftest import MakePoller, Store, Time

URL = "https://news.example/feed"
ONE = rss("<guid>1</guid><title>One</title>").encode()


@pytest.mark.parametrize(
    "text", ["I &lt;![3 you", "a &lt;![&lt; b", "x &lt;![-- y", "&lt;![CDATA["]
)
def test_odd_declarations(text: str) -> None:
    """A text that looks like a declaration is shown as far as possible."""
    (entry,) = parse(rss(f"<guid>1</guid><title>{text}</title>").encode(), URL).entries
    assert entry.key == "1"
    assert entry.title


def test_odd_declaration_is_a_comment() -> None:
    """What follows a declaration of no known kind is read as usual."""
    assert text_of("a <![3 b> c <b>d</b>") == "a c d"


@pytest.mark.parametrize("attachments", ["1", "true", '"a"', "{}", "null"])
def test_odd_attachments(attachments: str) -> None:
    """Attachments of a JSON Feed that are no list are none."""
    body = (
        '{"version": "https://jsonfeed.org/version/1.1", "title": "t", "items":'
        f' [{{"id": "1", "attachments": {attachments}}}]}}'
    )
    (entry,) = parse(body.encode(), URL).entries
    assert entry.enclosures == ()


def test_many_unbound_prefixes() -> None:
    """A document with more unknown prefixes than any real one is refused."""
    parts = "".join(f"<a{n}:x>1</a{n}:x>" for n in range(5_000))
    with pytest.raises(FeedError):
        parse(rss(f"<guid>1</guid>{parts}").encode(), URL)


@pytest.mark.parametrize(
    "name",
    [
        "key", "passkey", "sid", "sessionid", "secretkey", "user_credentials", "hash",
        "auth_code", "access%5Ftoken", "%74oken", "token[]", "AccessKeyId", "pw",
    ],
)  # fmt: skip
def test_secrets_are_hidden(name: str) -> None:
    """The value of a parameter that opens a door is not shown, in any spelling."""
    assert "s3cret" not in shown(f"{URL}?page=1&{name}=s3cret&x=2")
    assert shown(f"{URL};jsessionid=s3cret") == f"{URL};jsessionid=***"
    assert shown(f"{URL}?page=2&keyword=a&category=b").endswith("keyword=a&category=b")


async def test_pipe_as_a_file(poller: Poller, tmp_path: Path) -> None:
    """A file that may never end is not read."""
    os.mkfifo(tmp_path / "pipe")
    poll = await poller.poll(str(tmp_path / "pipe"))
    assert poll.error == "it is no file that ends"


async def test_watch_after_the_poller(web: Web, make_poller: MakePoller) -> None:
    """A watch whose poller is closed ends."""
    async with make_poller() as poller:
        watch = poller.watch([web.put("/f", answer(200, ONE))])
        await anext(watch)
    async with asyncio.timeout(20):
        assert [poll async for poll in watch] == []


async def test_clock_set_back(web: Web, poller: Poller, time: Time) -> None:
    """A clock that is set back by a year delays no poll by more than was planned."""
    time.is_waited_for = True
    watch = poller.watch([web.put("/f", answer(200, ONE))], every=60)
    await anext(watch)
    following = asyncio.ensure_future(anext(watch))
    while not time.waiting:
        await asyncio.sleep(0)
    time.now -= 365 * DAY
    time.advance(100)
    async with asyncio.timeout(20):
        await following
    await watch.aclose()


async def test_pause_of_a_clock_that_was_ahead(
    web: Web, make_poller: MakePoller, time: Time
) -> None:
    """A pause that was asked for under a wrong clock is none under the right one."""
    url = web.put("/f", answer(429, b"", Retry_After="60"), answer(200, ONE))
    async with make_poller() as poller:
        await poller.poll(url)
    time.now -= 365 * DAY
    async with make_poller() as poller:
        assert (await poller.poll(url)).outcome == "listing"


async def test_two_addresses_that_are_shown_alike(
    web: Web, poller: Poller, feeds: Store
) -> None:
    """The second one fails, and says so; nothing of the first is taken for it."""
    one = web.put("/f", answer(200, ONE, ETag='"v"')) + "?key=one"
    other = web.url("/f?key=two")
    assert (await poller.poll(one)).outcome == "listing"
    poll = await poller.poll(other)
    assert poll.outcome == "failed"
    assert "name=" in (poll.error or "")
    assert (await poller.poll(Feed(other, name="two"))).outcome == "listing"
    assert (await poller.poll(one)).outcome == "not modified" or len(web.asked) == 3
    assert (await poller.poll(other, force=True)).outcome == "listing"
    assert (await feeds.source(Feed(one).namespace)).polls > 1


async def test_ttl_is_remembered(web: Web, poller: Poller, time: Time) -> None:
    """The time that a listing asks for counts while the listing is the same."""
    body = ONE.replace(b"<item>", b"<ttl>720</ttl><item>")
    url = web.put("/f", answer(200, body))
    for outcome in ("listing", "unchanged", "unchanged"):
        poll = await poller.poll(url)
        assert poll.outcome == outcome
        assert poll.next_at is not None
        assert poll.next_at - time.now > 700 * 60


async def test_cancelled_post_is_no_attempt(web: Web, feeds: Store) -> None:
    """A delivery that is cancelled counts nothing."""
    arrived = asyncio.Event()

    async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    url = web.put("/hook", hang)
    feed: AsyncSeenStore = feeds.store.namespace("n", first="all", max_attempts=1)
    await feed.observe(["k"], key=str, note=lambda _: "{}")

    async def deliver() -> None:
        async with aiohttp.ClientSession() as session:
            async for claim in feed.pending():
                await post(session, url, claim)

    task = asyncio.create_task(deliver())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = await feed.get("k")
    assert record is not None
    assert (record.state, record.attempt) == ("pending", 0)
