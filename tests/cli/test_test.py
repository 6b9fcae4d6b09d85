"""``test``."""

from __future__ import annotations

import asyncio

from ..support.feeds import ROOT, Site, numbered, rss
from ..support.tool import Tool
from ..support.web import answer, web_server

FEEDS = ROOT / "examples/feeds"


def test_report(on_file: Tool) -> None:
    """It shows keys and recipes, says what is unusual, and stores nothing."""
    done = on_file.run("test", str(FEEDS / "weather-notes.xml"))
    assert [(row["recipe"], row["title"]) for row in done.rows] == [
        ("link", "Frost in the valleys tonight"),
        ("digest", "River level: 2.4 m"),
    ]
    assert set(done.rows[0]) == {"published", "title", "link", "recipe", "key"}
    for said in (
        "title: Weather Notes",
        "keys: 1 by its link, 1 by a digest of its text",
        "watch marks its 2 entries as the baseline",
        "1 have neither id nor link",
        "no entry has a date",
    ):
        assert said in done.err
    assert "1 repeat the key" in on_file.run("test", str(FEEDS / "town-news.xml")).err
    with (FEEDS / "town-news.xml").open() as file:
        assert len(on_file.run("test", "-", given=file.read()).rows) == 3
    quiet = on_file.run("test", "-q", str(FEEDS / "town-news.xml"))
    assert (quiet.code, quiet.err) == (0, "")
    assert not list(on_file.folder.iterdir())


def test_no_feed(on_file: Tool, site: Site) -> None:
    """What cannot be read is one line with the reason, and exit code 4."""
    pages = {
        "a": ("<!doctype html><p>no", {}, "not a feed"),
        "b": ("", {"status": 404}, "HTTP 404 Not Found"),
        "c": ("", {}, "empty"),
        "d": ("<rss><channel><item>", {}, "malformed"),
        "e": ("", {"status": 410}, "HTTP 410 Gone"),
    }
    for name, (body, options, message) in pages.items():
        done = on_file.run("test", site.put(name, body, **options))
        assert (done.code, done.out) == (4, "")
        assert len(done.err.splitlines()) == 1
        assert message in done.err
    assert on_file.run("test", str(on_file.folder)).code == 4
    assert on_file.run("test", "missing.xml").code == 4
    assert on_file.run("test", "http://127.0.0.1:1/x").code == 4
    done = on_file.run("test", site.put("f", rss()))
    assert (done.code, done.out) == (0, "")
    assert "it lists no entries" in done.err


async def test_redirect_and_wish(on_file: Tool) -> None:
    """It says where a redirect led, and how often the source wants to be polled."""
    async with web_server() as web:
        target = web.put(
            "/new", answer(200, numbered(range(1)), Cache_Control="max-age=7200")
        )
        url = web.put("/old", answer(301, b"", Location=target))
        done = await asyncio.to_thread(on_file.run, "test", url)
    assert done.code == 0
    assert f"address: {target}, after redirects" in done.err
    assert "asks for about 2h between two polls" in done.err


def test_terminal(on_file: Tool) -> None:
    """A person sees a table."""
    screen = on_file.terminal("test", str(FEEDS / "town-news.xml"), size=(24, 140))
    screen.expect_exact("published")
    screen.expect_exact("recipe")
    screen.expect_exact("The bridge opens again on Monday")
    screen.wait()
    assert screen.exitstatus == 0
