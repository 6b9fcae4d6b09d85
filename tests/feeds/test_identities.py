"""Keys, spellings and aliases of the entries of documents."""

from __future__ import annotations

import hashlib

import feedparser
import pytest

from catalyst_seen.feeds import Entry, parse
from catalyst_seen.keys import Fields, Recipe

from ..support.feed_documents import atom, rss, rss_of

URL = "https://news.example/feed"


def entries_of(body: bytes, url: str = URL) -> tuple[Entry, ...]:
    """Return the entries of a document."""
    return parse(body, url).entries


def old_key(entry: feedparser.FeedParserDict) -> str:
    """Return the key that the first example poller stored."""
    for name in ("id", "link"):
        text = str(entry.get(name) or "").strip()
        if text:
            return text
    parts = [entry.get("title"), entry.get("summary")]
    parts += [content.get("value") for content in entry.get("content", [])]
    text = "\n".join(str(part or "") for part in parts)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


DOCUMENTS = {
    "rss": rss_of(range(5)),
    "rss without guid": rss_of(range(5), has_guid=False),
    "escaped once and twice": rss(
        "<link>http://www.e.example/a?c=1&amp;id=2&amp;amp;ref=rss</link>"
    ),
    "escaped ids": rss("<guid>a&lt;b&gt; &quot;c&quot; &#38; d</guid>"),
    "base": atom("<id>a/1</id>").replace(
        b"<feed", b"<feed xml:base='http://e.example/'"
    ),
    "digest": rss("<title>A</title><description>B</description>"),
    "digest of markup": rss(
        "<title>A</title><description>&lt;a href='x'>B&lt;/a></description>"
        "<content:encoded><![CDATA[<p>C</p>]]></content:encoded>"
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_old_keys_are_spellings(name: str) -> None:
    """What the first poller stored is known, also of a poll that was malformed."""
    body = DOCUMENTS[name]
    known = {key for e in entries_of(body) for key in (e.key, *e.spellings)}
    headers = {"content-type": "application/xml"}
    broken = body.replace(b"<title>News", b"<title>N&nosuch; & <x>", 1)
    for read in (body, broken) if "digest" not in name else (body,):
        parsed = feedparser.parse(read, response_headers=headers, sanitize_html=False)
        assert parsed.entries
        assert bool(parsed.bozo) is (read is broken)
        assert {old_key(entry) for entry in parsed.entries} <= known


def test_broken_entry_changes_no_other() -> None:
    """An entry that breaks the document leaves the ids of the others as they are."""
    items = [
        f"<guid isPermaLink='false'>https://e.example/?id={n}&amp;lang=en</guid>"
        for n in range(5)
    ]
    before = {entry.key for entry in entries_of(rss(*items))}
    after = {
        e.key for e in entries_of(rss("<guid>n</guid><title>&nbsp;</title>", *items))
    }
    assert after - before == {"n"}
    assert before < after


def test_recipes() -> None:
    """The recipe of the caller makes the keys, and the listing names it."""
    body = rss("<guid>https://e.example/a#1</guid><link>https://e.example/a</link>")

    def last(fields: Fields) -> str:
        return fields.guid[-1:]

    keys = {}
    recipes: list[Recipe] = ["guid", "link", "strip_fragment", last]
    for recipe in recipes:
        listing = parse(body, URL, recipe=recipe)
        keys[listing.recipe] = listing.entries[0].key
    assert keys == {
        "guid": "https://e.example/a#1",
        "link": "https://e.example/a",
        "strip_fragment": "https://e.example/a",
        "last": "1",
    }
    (changed,) = parse(body, URL, recipe=last, formerly=["guid"]).entries
    assert changed.spellings == ("https://e.example/a#1",)
    with pytest.raises(ValueError, match="recipe"):
        parse(body, URL, recipe="title")  # type: ignore[arg-type]


class TestAlias:
    """What may replace what."""

    def test_link_of_the_entry(self) -> None:
        """An entry is known by its link, and its title or its date."""
        one, two = entries_of(rss_of([1, 2]))
        assert one.alias
        assert two.alias
        assert one.alias[0] == "/a?n=1"
        assert len(one.alias) == 3
        assert not {*one.alias} & {*two.alias}

    @pytest.mark.parametrize("link", ["/", "https://news.example", "/feed", "feed"])
    def test_link_of_the_source(self, link: str) -> None:
        """A link to the source itself names no entry."""
        items = [f"<guid>{n}</guid><link>{link}</link><title>T</title>" for n in (1, 2)]
        body = rss(*items, channel="<link>http://www.news.example/</link>")
        assert {entry.alias for entry in entries_of(body)} == {None}

    def test_only_entry(self) -> None:
        """Of a listing of one entry, title and date together are the witness."""
        item = "<guid>1</guid><link>/1</link><title>Daily</title>"
        date = "<pubDate>2026-06-0{}T10:00:00Z</pubDate>"
        (undated,) = entries_of(rss(item))
        (first,) = entries_of(rss(item + date.format(1)))
        (second,) = entries_of(rss(item + date.format(2)))
        (again,) = entries_of(rss(item.replace("1</g", "2</g") + date.format(2)))
        assert undated.alias is None
        assert first.alias
        assert second.alias
        assert len(first.alias) == 2
        assert first.alias[0] == second.alias[0]
        assert first.alias[1] != second.alias[1]
        assert second.alias == again.alias
