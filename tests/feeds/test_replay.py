"""Sources in real time, from the document to the handled item, with restarts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen._tuning import Tuning

from ..support.clock import DAY, Clock
from ..support.feed_documents import rss, rss_of
from ..support.feeds import REAL_FEEDS
from ..support.replay import URL, Replay, replay_at

HOUR = 3_600.0
FOLDER = REAL_FEEDS
real = pytest.mark.skipif(
    not REAL_FEEDS.is_dir(), reason=f"the real feeds are not in {REAL_FEEDS}"
)


pytestmark = pytest.mark.slow


@pytest.fixture
def replay(path: Path) -> Replay:
    """A replay that begins at noon."""
    return replay_at(path)


def item(
    number: int, *, guid: str = "", link: str = "", title: str = "", date: str = ""
) -> str:
    """Return an item of RSS; the title is its number unless it is given."""
    parts = {"guid": guid, "link": link, "pubDate": date}
    inside = "".join(f"<{tag}>{text}</{tag}>" for tag, text in parts.items() if text)
    return f"{inside}<title>{title or f'Title {number}'}</title>"


class TestPauses:
    """Sources that nobody polls for long."""

    @pytest.mark.parametrize("days", [21, 90, 400])
    async def test_pause(self, replay: Replay, days: float) -> None:
        """After a pause of weeks or months only what is new comes."""
        await replay.poll(rss_of(range(40)))
        await replay.poll_for(DAY, HOUR, lambda _: rss_of(range(41)))
        replay.clock.advance(days * DAY)
        assert await replay.poll(rss_of(range(1, 42))) == 1
        assert (replay.baseline, replay.repeats, replay.misses) == (40, 0, 0)

    async def test_first_poll_of_many(self, replay: Replay) -> None:
        """A first poll of 1,404 items handles none of them."""
        assert await replay.poll(rss_of(range(1_404))) == 0
        assert replay.baseline == 1_404
        assert await replay.poll(rss_of(range(1_405))) == 1


class TestBrokenSources:
    """Sources that answer with something else for a while."""

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(rss(), id="empty listing"),
            pytest.param(b"", id="empty answer"),
            pytest.param(rss_of([39]), id="one item"),
            pytest.param(b"<!doctype html><p>503</p>", id="error page"),
            pytest.param(rss_of(range(40))[:2_000], id="cut off"),
        ],
    )
    @pytest.mark.parametrize("hours", [1, 24, 7 * 24])
    async def test_for_a_while(self, replay: Replay, broken: bytes, hours: int) -> None:
        """Whatever it answers for a day or a week, nothing comes again."""
        for _ in range(3):
            await replay.poll(rss_of(range(40)))
        assert await replay.poll_for(hours * HOUR, HOUR, lambda _: broken) == 0
        assert await replay.poll(rss_of(range(2, 42))) == 2
        assert (replay.repeats, replay.misses) == (0, 0)

    async def test_every_tenth_poll(self, replay: Replay) -> None:
        """Documents that are broken now and then change nothing but the time."""

        def body(number: int) -> bytes:
            whole = rss_of(range(number // 3, number // 3 + 20))
            if number % 10:
                return whole
            at = (number * 997) % len(whole)
            fault = (b"<", b"&", b"\0", b"</item>")[number // 10 % 4]
            return whole[:at] + fault + whole[at:]

        await replay.poll(rss_of(range(20)))
        await replay.poll_for(120 * HOUR, HOUR, body)
        await replay.poll(rss_of(range(39, 59)))
        assert (replay.repeats, replay.misses) == (0, 0)
        assert len(replay.came) == 39

    async def test_half_absent_for_weeks(self, replay: Replay) -> None:
        """Half of a listing that is absent for 37 days is known when it returns."""
        await replay.poll(rss_of(range(40)))
        half = rss_of(range(20, 40))
        await replay.poll_for(37 * DAY, 6 * HOUR, lambda _: half)
        assert await replay.poll(rss_of(range(40))) == 0


def rewritten(form: str) -> Callable[[int], list[str]]:
    """Return items whose ids have a form."""
    return lambda count: [
        item(n, guid=form.format(n), link=f"https://e.com/{n}") for n in range(count)
    ]


class TestNewIds:
    """Items that come again under other ids."""

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param("id-{}", "urn:new:{}", id="all ids rewritten"),
            pytest.param("https://e.com/{}#0", "https://e.com/{}#1", id="#0 to #1"),
            pytest.param("http://e.com/?p={}", "https://e.com/?p={}", id="http"),
        ],
    )
    async def test_links_kept(self, replay: Replay, before: str, after: str) -> None:
        """They are reported as replaced, and not handled; what is new is."""
        await replay.poll(rss(*rewritten(before)(30)))
        replay.clock.advance(HOUR)
        assert await replay.poll(rss(*rewritten(after)(31))) == 1
        assert replay.titles == ["Title 30"]
        assert len(replay.replaced) == 30
        replay.clock.advance(HOUR)
        assert await replay.poll(rss(*rewritten(after)(31))) == 0

    async def test_some_of_them(self, replay: Replay) -> None:
        """So are some of a listing."""
        old, new = (rewritten(f"https://e.com/{{}}#{n}")(40) for n in (0, 1))
        await replay.poll(rss(*old))
        assert await replay.poll(rss(*new[:10], *old[10:])) == 0
        assert len(replay.replaced) == 10

    @pytest.mark.parametrize("guid", ["", "https://{}/?p={}"])
    async def test_another_domain(self, replay: Replay, guid: str) -> None:
        """A site that moves to another domain, with ids and links, repeats nothing."""

        def body(host: str, count: int) -> bytes:
            items = (
                item(n, guid=guid.format(host, n), link=f"https://www.{host}/{n}?a=b")
                for n in range(count)
            )
            return rss(*items, channel=f"<link>https://{host}/blog/</link>")

        await replay.poll(body("old.example", 30))
        assert await replay.poll(body("new.example", 31)) == 1
        assert replay.titles == ["Title 30"]
        assert len(replay.replaced) == 30
        assert await replay.poll(body("new.example", 31)) == 0

    async def test_another_domain_than_that_of_the_feed(self, replay: Replay) -> None:
        """Where neither the feed nor its page are there, most links tell the site."""

        def body(host: str, count: int) -> bytes:
            away = item(99, guid="ad", link="https://ads.example/1")
            items = (item(n, link=f"https://{host}/{n}") for n in range(count))
            return rss(*items, away)

        await replay.poll(body("old.example", 5))
        assert await replay.poll(body("new.example", 6)) == 1
        assert len(replay.replaced) == 5

    async def test_another_domain_without_titles(self, replay: Replay) -> None:
        """Nor do entries with nothing but a link and a text."""

        def body(host: str, count: int) -> bytes:
            items = (
                f"<link>https://{host}/{n}</link><description>text {n}</description>"
                for n in range(count)
            )
            return rss(*items, channel=f"<link>https://{host}/</link>")

        await replay.poll(body("old.example", 5))
        assert await replay.poll(body("new.example", 6)) == 1
        assert len(replay.replaced) == 5

    async def test_other_sites(self, replay: Replay) -> None:
        """Links to other sites are different, though their paths are equal."""
        for name in ("one", "two"):
            links = [f"https://{name}{n}.example/a{n}" for n in range(3)]
            await replay.poll(rss(*(item(0, guid=link, link=link) for link in links)))
        assert len(replay.titles) == 3

    async def test_links_become_https(self, replay: Replay) -> None:
        """Without ids, a link is the same by either scheme."""
        bodies = [
            rss(*(item(n, link=f"{scheme}://www.e.com/{n}") for n in range(20)))
            for scheme in ("http", "https")
        ]
        await replay.poll(bodies[0])
        assert await replay.poll(bodies[1]) == 0


class TestSharedLinks:
    """Sources whose entries are told apart by their ids alone, or hardly."""

    @pytest.mark.parametrize("link", ["https://e.com/", "https://e.com/show"])
    @pytest.mark.parametrize("window", [1, 2, 10])
    @pytest.mark.parametrize("step", [1, 3, 10])
    async def test_all_links_are_the_same(
        self, replay: Replay, link: str, window: int, step: int
    ) -> None:
        """Every genuine item of a rolling window comes, once."""

        def body(first: int) -> bytes:
            numbers = range(first, first + window)
            return rss(*(item(n, guid=f"g{n}", link=link) for n in numbers))

        await replay.poll(body(0))
        expected = set()
        for first in range(step, 60, step):
            replay.clock.advance(HOUR)
            await replay.poll(body(first))
            expected |= {*range(first, first + window)} - {*range(window)}
        assert sorted(replay.titles) == sorted(f"Title {n}" for n in expected)
        assert replay.replaced == []

    @pytest.mark.parametrize("link", ["https://e.com/log", URL])
    async def test_nothing_but_titles_differ(self, replay: Replay, link: str) -> None:
        """So does every item without an id, by its title."""
        for first in range(20):
            numbers = range(first, first + 5)
            await replay.poll(rss(*(item(n, link=link) for n in numbers)))
        assert replay.titles == [f"Title {n}" for n in range(5, 24)]

    async def test_one_item_with_the_same_title(self, replay: Replay) -> None:
        """A source that shows one item each day, by its date alone, misses none."""

        def body(day: int) -> bytes:
            date = f"{day:02} Jun 2026 10:00:00 GMT"
            return rss(item(0, guid=f"d{day}", link="https://e.com/w", date=date))

        await replay.poll(body(1))
        for day in range(2, 12):
            replay.clock.advance(DAY)
            assert await replay.poll(body(day)) == 1

    async def test_links_differ_in_the_query(self, replay: Replay) -> None:
        """Links that differ in nothing but the query are different items."""

        def body(first: int) -> bytes:
            numbers = range(first, first + 10)
            links = {n: f"https://e.com/show?id={n}" for n in numbers}
            return rss(*(item(n, link=links[n], title="Episode") for n in numbers))

        await replay.poll(body(0))
        for first in range(1, 30):
            replay.clock.advance(HOUR)
            assert await replay.poll(body(first)) == 1


async def test_unchanged_poll_writes_one_row(path: Path) -> None:
    """A poll of the same listing writes the row of its source, and no other."""
    changes: list[str] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            before = self.total_changes
            cursor = super().execute(sql, parameters)
            changes.extend([sql] * (self.total_changes - before))
            return cursor

    config = SeenStoreConfig(path, tuning=Tuning(sqlite_factory=Watched))
    async with AsyncSeenStore(config) as store:
        feed = store.namespace("feed")
        listing = [str(number) for number in range(50)]
        await feed.observe(listing)
        assert len(changes) > 50
        for _ in range(3):
            changes.clear()
            await feed.observe(listing)
            assert len(changes) == 1
            assert changes[0].startswith("UPDATE namespace")
        changes.clear()
        await feed.observe([*listing[1:], "new"])
        assert len(changes) == 3


def snapshots(source: str) -> Iterator[tuple[float, bytes]]:
    """Yield the snapshots of a real source, each with the time of its poll."""
    folder = FOLDER / source
    for entry in json.loads((folder / "manifest.json").read_text()):
        at = datetime.fromisoformat(entry["fetched"]).timestamp()
        yield at, (folder / entry["file"]).read_bytes()


@real
@pytest.mark.parametrize(
    ("source", "distinct"),
    [
        ("bbc-home", 3_859),
        ("nzherald-noguid", 1_668),
        ("youtube-atom-1news", 265),
        ("mistral-collapse", 54),
    ],
)
async def test_real_source_in_real_time(
    replay: Replay, source: str, distinct: int
) -> None:
    """Every item of a real source comes once, with its real times and restarts."""
    for at, body in snapshots(source):
        await replay.poll(body, at=at)
    assert (replay.repeats, replay.misses, replay.replaced) == (0, 0, [])
    assert len(replay.known) == distinct
    print(f"{source}: {replay.baseline} + {len(replay.came)} of {distinct}")


@real
async def test_real_list_in_real_time(path: Path) -> None:
    """A list of 1,404 items with gaps of 70 to 140 days repeats nothing."""
    clock, came = Clock(), []
    for clock.now, body in snapshots("cisa-kev-json"):
        items = json.loads(body)["vulnerabilities"]
        async with AsyncSeenStore(SeenStoreConfig(path, clock=clock)) as store:
            feed = store.namespace("kev")
            await feed.observe(items, key=lambda one: one["cveID"])
            async for claim in feed.pending():
                async with claim:
                    came.append(claim.key)
    assert len(came) == len(set(came)) == 1_404 - 1_252
