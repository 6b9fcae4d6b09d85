"""Many sources, each on its own schedule."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest

from catalyst_seen import AsyncSeenStore, ConfigurationError, StoreUnavailableError
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.feeds import Feed, Poll, Poller
from catalyst_seen.feeds._tuning import FeedTuning
from catalyst_seen.keys import Fields

from ..support.feeds import rss
from ..support.waiting import until
from ..support.web import Asked, Web, answer
from .conftest import MakePoller, Time

ONE = rss("<guid>1</guid>").encode()
OK = answer(200, ONE)


@pytest.fixture(autouse=True)
def _is_waited_for(time: Time) -> None:
    """Pauses end when a test moves the clock."""
    time.is_waited_for = True


class Watched:
    """The polls of a watch, collected in the background."""

    def __init__(
        self, poller: Poller, *sources: Feed | str, every: float = 900
    ) -> None:
        self.polls: list[Poll] = []
        self._watch = poller.watch(sources, every=every)
        self.task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for poll in self._watch:
            self.polls.append(poll)

    async def reach(self, count: int) -> list[Poll]:
        """Wait until there are so many, and return them."""
        await until(lambda: len(self.polls) >= count or self.task.done())
        if self.task.done():
            self.task.result()
        return self.polls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class TestSchedule:
    """Each source has a schedule of its own."""

    async def test_own_intervals(self, web: Web, poller: Poller, time: Time) -> None:
        """A source is polled at once, and then by its own interval, else the common."""
        web.put("/a", OK)
        web.put("/b", OK)
        sources = web.url("/a"), Feed(web.url("/b"), every="4h")
        async with Watched(poller, *sources, every=3_600) as watched:
            await watched.reach(2)
            await until(lambda: time.waiting == 2)
            for hour in range(1, 5):
                time.advance(3_600 * 1.05 + 1)  # the jitter of the tests is 5 %
                await watched.reach(2 + hour)
                await until(lambda: time.waiting == 2)
            await watched.reach(7)
        assert Counter(web.paths()) == {"/a": 5, "/b": 2}

    async def test_wish_of_the_server(
        self, web: Web, poller: Poller, time: Time
    ) -> None:
        """``max-age`` and the ``ttl`` of a listing lengthen the interval."""
        web.put("/a", answer(200, ONE, Cache_Control="max-age=7200"))
        ttl = ONE.replace(b"<item>", b"<ttl>180</ttl><item>")
        web.put("/b", answer(200, ttl))
        async with Watched(poller, web.url("/a"), web.url("/b")) as watched:
            first, second = sorted(
                await watched.reach(2), key=lambda poll: poll.feed.url
            )
        assert first.next_at == time() + 7_200 * 1.05
        assert second.next_at == time() + 10_800 * 1.05

    async def test_backoff(self, web: Web, poller: Poller) -> None:
        """A source that fails is polled more rarely, and never given up."""
        url = web.put("/a", answer(500))
        waits = []
        for _ in range(9):
            poll = await poller.poll(url)
            assert poll.next_at is not None
            waits.append(poll.next_at - poll.at)
        assert waits[0] == pytest.approx(900 * 0.95)
        assert all(b == pytest.approx(2 * a) for a, b in pairwise(waits[:6]))
        assert waits[7:] == [pytest.approx(86_400 * 0.95)] * 2

    async def test_gone(self, web: Web, poller: Poller) -> None:
        """A source that is gone is no longer polled; without any, the watch ends."""
        web.put("/a", answer(410))
        web.put("/b", answer(410))
        async with Watched(poller, web.url("/a"), web.url("/b")) as watched:
            await asyncio.wait_for(watched.task, 60)
        assert [poll.outcome for poll in watched.polls] == ["gone", "gone"]

    async def test_nothing(self, poller: Poller) -> None:
        """Nothing to poll is an end, too."""
        assert [poll async for poll in poller.watch([])] == []


class TestManySources:
    """No source delays another."""

    async def test_slow_source(self, web: Web, poller: Poller, time: Time) -> None:
        """While a server does not answer, the others of its host are polled."""
        hanging = asyncio.Event()

        async def hang(_: Asked, writer: asyncio.StreamWriter) -> None:
            await hanging.wait()
            writer.write(OK)

        web.put("/slow", hang)
        urls = [web.put(f"/{n}", OK) for n in range(20)]
        async with Watched(poller, web.url("/slow"), *urls) as watched:
            await watched.reach(20)
            for _ in range(3):
                await until(lambda: time.waiting == 20)
                time.advance(1_000)
                await watched.reach(len(watched.polls) + 20)
            assert "/slow" not in [poll.feed.url for poll in watched.polls]
            assert web.paths().count("/slow") == 1
            hanging.set()
            await watched.reach(81)

    async def test_requests_at_once(self, web: Web, make_poller: MakePoller) -> None:
        """A host gets at most four requests at once, all hosts as many as was said."""
        release = asyncio.Event()

        async def hang(_: Asked, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(OK)

        urls = [web.put(f"/{n}", hang) for n in range(12)]
        others = [web.url(f"/{n}", host="localhost") for n in range(12)]
        async with (
            make_poller(concurrency=6) as poller,
            Watched(poller, *urls) as one,
        ):
            await until(lambda: web.at_once == 4)
            async with Watched(poller, *others) as two:
                await until(lambda: web.at_once == 6)
                release.set()
                await one.reach(12)
                await two.reach(12)
        assert web.most_at_once == 6

    async def test_rate_of_a_host(self, web: Web, make_poller: MakePoller) -> None:
        """After the first ten, requests to one host wait; those to others do not."""
        urls = [web.put(f"/{n}", OK) for n in range(30)]
        other = web.url("/0", host="localhost")
        async with make_poller(per_host=0.001) as poller:
            assert (await poller.poll(urls[0])).outcome == "listing"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(poller.poll(urls[1]), 0.05)
            assert (await poller.poll(other)).outcome == "listing"
        async with (
            make_poller(per_host=10) as poller,
            Watched(poller, *urls) as watched,
        ):
            await watched.reach(10)
            assert len(web.asked) in range(12, 14)

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    async def test_thousands(self, web: Web, path: Path, time: Time) -> None:
        """Five thousand sources are polled in one process, into one file."""
        web.put("/f", OK)
        urls = [web.url(f"/f?{n}") for n in range(5_000)]
        tuning = FeedTuning(now=time, pause=time.pause)
        async with (
            AsyncSeenStore(path) as store,
            Poller(store, per_host=1e6, tuning=tuning) as poller,
            Watched(poller, *urls) as watched,
        ):
            while len(watched.polls) < 5_000:
                await asyncio.sleep(0.1)
            namespaces = await store.namespaces()
        assert {poll.outcome for poll in watched.polls} == {"listing"}
        assert namespaces == sorted(urls)


class TestTrouble:
    """Errors that are no outcome of a source."""

    async def test_store_that_fails(
        self, web: Web, poller: Poller, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the store fails, the watch goes on, and says so once."""
        url = web.put("/f", OK)
        real = MemoryBackend.source
        failures = iter([True, True])

        async def full_at_first(backend: MemoryBackend, name: str) -> object:
            if next(failures, False):
                raise StoreUnavailableError("memory", "it is full", "Free some space.")
            return await real(backend, name)

        monkeypatch.setattr(MemoryBackend, "source", full_at_first)
        async with Watched(poller, url) as watched:
            for count in (1, 2, 3):
                await watched.reach(count)
                await until(lambda: time.waiting == 1)
                time.advance(4_000)
        outcomes = [(poll.outcome, poll.notice is None) for poll in watched.polls]
        assert outcomes == [("failed", False), ("failed", True), ("listing", True)]

    async def test_recipe_that_fails(self, web: Web, poller: Poller) -> None:
        """An error in one's own recipe fails its source, and no other."""

        def recipe(_: Fields) -> str:
            raise KeyError("mine")

        failing = Feed(web.put("/a", OK), recipe=recipe)
        sources = [failing, Feed(web.put("/b", OK))]
        polls = [poll async for poll in poller.watch(sources, once=True)]
        assert sorted(poll.outcome for poll in polls) == ["failed", "listing"]
        (error,) = (poll.error for poll in polls if poll.error)
        assert "KeyError: 'mine'" in error

    async def test_one_namespace_for_two(self, poller: Poller) -> None:
        """Two sources with one namespace would end each other's items."""
        urls = ["https://h.example/?key=1", "https://h.example/?key=2"]
        with pytest.raises(ConfigurationError, match="name=") as caught:
            await anext(poller.watch(urls))
        assert "key=1" not in str(caught.value)

    async def test_twice(self, web: Web, poller: Poller) -> None:
        """A source that is given twice is polled once."""
        url = web.put("/f", answer(410))
        assert len([poll async for poll in poller.watch([url, url, Feed(url)])]) == 1

    async def test_one_text(self, poller: Poller) -> None:
        """A text in place of a list of texts is refused."""
        with pytest.raises(TypeError, match=r"\[source\]"):
            await anext(poller.watch("https://h.example/"))

    async def test_not_open(self, make_poller: MakePoller) -> None:
        """A poller that is not open says so."""
        with pytest.raises(RuntimeError, match="async with"):
            await anext(make_poller().watch(["f"]))


class TestEnd:
    """A watch that is left leaves nothing behind."""

    @pytest.mark.parametrize("how", ["break", "aclosing", "poller"])
    async def test_tasks(self, web: Web, make_poller: MakePoller, how: str) -> None:
        """Its tasks end with the loop, at the latest with the poller."""
        urls = [web.put(f"/{n}", OK) for n in range(50)]
        before = asyncio.all_tasks()
        async with make_poller() as poller:
            watch = poller.watch(urls)
            if how == "break":
                async for _ in watch:
                    break
                del watch
            elif how == "aclosing":
                async with aclosing(watch):
                    await anext(watch)
            else:
                await anext(watch)
            if how != "poller":
                await until(lambda: not self.of_watches(before))
        await until(lambda: not self.of_watches(before))

    @staticmethod
    def of_watches(before: set[asyncio.Task[object]]) -> set[str]:
        """Return the names of the tasks of watches that are still there."""
        tasks = asyncio.all_tasks() - before
        return {repr(task.get_coro()) for task in tasks if "_follow" in repr(task)}

    async def test_slow_consumer(self, web: Web, poller: Poller, time: Time) -> None:
        """Polls wait for a consumer that takes its time, and are not heaped up."""
        urls = [web.put(f"/{n}", OK) for n in range(40)]
        async with aclosing(poller.watch(urls)) as watch:
            await anext(watch)
            await until(lambda: len(web.asked) == 40 and time.waiting >= 17)
            time.advance(1_000)  # one poll was read, and 16 wait in the queue
            await until(lambda: len(web.asked) >= 57)
            for _ in range(50):
                await asyncio.sleep(0.01)
            assert (len(web.asked), time.waiting) == (57, 0)
            for _ in range(39):
                await anext(watch)
