"""Parsing beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest

from catalyst_seen.feeds import FeedError, Listing, Parser, parse

from ..support.feed_documents import rss_of
from ..support.scripts import Run

URL = "https://news.example/feed"


@dataclass
class Slow:
    """A parser that waits until it is let go, and counts who is inside."""

    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    inside: int = 0
    most: int = 0
    threads: list[threading.Thread] = field(default_factory=list)

    def __call__(self, body: bytes, *args: Any, **options: Any) -> Listing:
        """Parse a document, when it may."""
        self.threads.append(threading.current_thread())
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.started.set()
        self.go_on.wait()
        self.inside -= 1
        return parse(body, *args, **options)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Parse slowly; at the end every thread is over."""
    made = Slow()
    monkeypatch.setattr("catalyst_seen.feeds._parser.parse", made)
    yield made
    made.go_on.set()
    for thread in made.threads:
        thread.join()


async def test_listing_and_error() -> None:
    """A listing, and an error, are those of parse()."""
    parser = Parser()
    body = rss_of(range(3))
    assert await parser.parse(body, URL, recipe="link") == parse(
        body, URL, recipe="link"
    )
    with pytest.raises(FeedError, match="not a feed"):
        await parser.parse(b"x", URL)
    with pytest.raises(ValueError, match="recipe"):
        await parser.parse(body, URL, recipe="title")  # type: ignore[arg-type]
    assert await parser.parse(body, URL) == parse(body, URL)


async def test_one_at_a_time(slow: Slow) -> None:
    """However many wait, one parses, in a daemon thread beside the loop."""
    parser = Parser()
    tasks = [asyncio.create_task(parser.parse(rss_of([n]), URL)) for n in range(5)]
    await asyncio.to_thread(slow.started.wait)
    slow.go_on.set()
    listings = await asyncio.gather(*tasks)
    assert [listing.entries[0].title[5:6] for listing in listings] == [*"01234"]
    assert slow.most == 1
    assert len(slow.threads) == 5
    assert all(thread.daemon for thread in slow.threads)


async def test_cancelled_parse(slow: Slow) -> None:
    """A cancelled parse ends at once for its caller; the next waits for its thread."""
    parser = Parser()
    first = asyncio.create_task(parser.parse(rss_of([1]), URL))
    await asyncio.to_thread(slow.started.wait)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(parser.parse(rss_of([2]), URL))
    waiting = asyncio.create_task(parser.parse(rss_of([3]), URL))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(slow.threads) == 1
    waiting.cancel()
    slow.go_on.set()
    assert len((await second).entries) == 1
    assert slow.most == 1
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_parse_without_end(slow: Slow) -> None:
    """A document whose parsing does not end is given up, and the next one is read."""
    parser = Parser(timeout=0.01)
    with pytest.raises(FeedError, match=r"too large: parsing takes over 0\.01 seconds"):
        await parser.parse(rss_of([1]), URL)
    abandoned = asyncio.create_task(parser.parse(rss_of([2]), URL))
    while len(slow.threads) < 2:
        await asyncio.sleep(0)
    abandoned.cancel()
    parser._timeout = 60.0
    next_one = asyncio.create_task(parser.parse(rss_of([3]), URL))
    while len(slow.threads) < 3:
        await asyncio.sleep(0.001)
    slow.go_on.set()
    assert len((await next_one).entries) == 1


async def test_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, the caller is told, and the turn is over."""
    parser = Parser()
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", Mock(side_effect=RuntimeError("full")))
        with pytest.raises(RuntimeError, match="full"):
            await parser.parse(rss_of([1]), URL)
    assert len((await parser.parse(rss_of([1]), URL)).entries) == 1


def test_program_does_not_wait(run_script: Run) -> None:
    """A program that is told to end does so, though a parser never ends."""
    script = """
        import asyncio, os, signal, threading
        from catalyst_seen.feeds import Parser, _parser

        started = threading.Event()
        def forever(*args, **options):
            started.set()
            while True:
                pass

        async def main():
            task = asyncio.current_task()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            parse = asyncio.create_task(Parser().parse(b"", ""))
            await asyncio.to_thread(started.wait)
            os.kill(os.getpid(), signal.SIGTERM)
            await parse

        _parser.parse = forever
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            print("ended")
    """
    done = run_script(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_loop_that_is_gone(slow: Slow) -> None:
    """A parse that outlives its loop ends quietly."""

    async def start() -> None:
        task = asyncio.create_task(Parser().parse(rss_of([1]), URL))
        await asyncio.to_thread(slow.started.wait)
        task.cancel()

    asyncio.run(start())
    slow.go_on.set()
    for thread in slow.threads:
        thread.join()
    assert slow.inside == 0
