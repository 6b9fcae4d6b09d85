"""The sources that ``watch`` is given, and lists of them."""

from __future__ import annotations

import pytest

from ..support.feeds import Site, numbered
from ..support.tool import Tool

ONCE = ("watch", "--once", "--first", "all")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a feed"),
        (["example.org/feed"], "did you mean https://example.org/feed?"),
        (["news.example.org"], "did you mean https://news.example.org?"),
        (["missing.xml"], "there is no file missing.xml"),
        (["."], ". is a folder"),
        ([""], "an address of the web or a path"),
        (["ftp://u:pw@h/x"], "'ftp://h/x' must be an address of http"),
        (["https://u:p/w@h/x"], "its host or port cannot be read"),
        (["-f", "missing"], "missing cannot be read: No such file"),
        (["-f", "/dev/null"], "names no source"),
        (["-f", "a.opml"], "is no OPML: mismatched tag"),
        (["-f", "feed.xml"], "is no OPML, but <rss>"),
        (["-f", "bytes"], "is no text in UTF-8"),
        (["-f", "urls"], "urls, line 2: a source: 'gopher://x' must be"),
        (["-n", "x", "feed.xml", "-f", "urls"], "--namespace goes with one"),
        (["-n", "", "feed.xml"], "need a name"),
        (["-n", "a\nb", "feed.xml", "feed.xml"], "--namespace"),
        (["-"], "standard input needs"),
        (["--every", "5m", "feed.xml"], "--every has no effect"),
        (["--first", "few", "feed.xml"], "neither a number nor all or none"),
        (
            ["http://a:1@localhost/x", "http://a:2@localhost/x"],
            "two different sources have the namespace http://localhost/x",
        ),
    ],
)
def test_refused(on_file: Tool, words: list[str], message: str) -> None:
    """A wrong source is one line, and nothing is polled."""
    (on_file.folder / "feed.xml").write_text(numbered(range(1)))
    (on_file.folder / "a.opml").write_text("<opml><body></opml>")
    (on_file.folder / "bytes").write_bytes(b"\xff\xfe")
    (on_file.folder / "urls").write_text("# feeds\ngopher://x\n")
    done = on_file.run(*ONCE, *words)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert message in done.err
    assert not (on_file.folder / "seen.db").exists()


def test_lists(on_file: Tool, site: Site) -> None:
    """A list has URLs with names, or is OPML; each source is polled once."""
    one, two = (site.put(n, numbered(range(1))) for n in ("one", "two"))
    (on_file.folder / "feed.xml").write_text(numbered(range(1)))
    text = f"\ufeff# feeds\r\n\r\n  {one}\tmy news \r\n{two}\r\nfeed.xml\r\n"
    (on_file.folder / "urls.txt").write_text(text, newline="")
    outline = f'<outline text="T"><outline xmlUrl="{two}"/></outline>'
    (on_file.folder / "a.opml").write_text(
        f'<?xml version="1.0"?><opml version="2.0"><body>{outline}</body></opml>'
    )
    path = str(on_file.folder / "feed.xml")
    done = on_file.run(*ONCE, "-f", "urls.txt", "-f", "a.opml", "./feed.xml", two)
    assert done.code == 0
    assert sorted(row["source"] for row in done.rows) == sorted(["my news", two, path])
    assert "3 polls, 0 failed, 3 entries" in done.err
    assert on_file.run(*ONCE, "-f", "-", given=f"{two}\n").err.startswith(
        "catalyst-seen: 1 poll, 0 failed, 0 entries"
    )


def test_missing_file_of_a_list(on_file: Tool, site: Site) -> None:
    """A file of a list that is not there is a failed feed; the others go on."""
    url = site.put("feed", numbered(range(1)))
    done = on_file.run(*ONCE, "-f", "-", given=f"/nowhere/x.xml\n{url}\n")
    assert (done.code, len(done.rows)) == (4, 1)
    assert "/nowhere/x.xml: No such file or directory" in done.err


def test_feed_on_standard_input(on_file: Tool) -> None:
    """A feed may come from another program; its name keeps what was seen."""
    words = (*ONCE, "-n", "mine", "--format", "{key}", "-")
    assert on_file.run(*words, given=numbered(range(2))).out == "id 0\nid 1\n"
    assert on_file.run(*words, given=numbered(range(3))).out == "id 2\n"
    done = on_file.run(*words, given=b"")
    assert (done.code, done.out) == (4, "")
    assert "mine: empty" in done.err
