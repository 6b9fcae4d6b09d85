"""What is read of each format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from catalyst_seen.feeds import Enclosure, Entry, parse

from ..support.feed_documents import (
    FIRST,
    Made,
    atom,
    atom_of,
    json_feed_of,
    rdf_of,
    rss,
    rss_of,
)  # fmt: skip

URL = "https://news.example/blog/feed.xml?token=secret"
TWICE = "<sy:updateFrequency>2</sy:updateFrequency>"


def only(body: bytes, content_type: str = "") -> Entry:
    """Return the entry of a document that has one."""
    (entry,) = parse(body, URL, content_type).entries
    return entry


@pytest.mark.parametrize("document", [rss_of, rdf_of, atom_of, json_feed_of])
def test_every_format(document: Callable[[Sequence[int]], bytes]) -> None:
    """Each format gives the same keys and texts, oldest first."""
    listing = parse(document(range(5)), URL)
    made = [*map(Made, range(5))]
    assert listing.title == "News"
    assert listing.recipe == "guid"
    assert [e.key for e in listing.entries] == [m.guid for m in made]
    assert [e.published for e in listing.entries] == [m.published for m in made]
    assert [e.title for e in listing.entries] == [m.title for m in made]
    assert all(e.link.startswith("https://news.example/a?n=") for e in listing.entries)
    assert {e.recipe for e in listing.entries} == {"guid"}
    assert {e.feed for e in listing.entries} == {"News"}
    assert all(e.alias and len(e.alias) == 3 for e in listing.entries)


@pytest.mark.parametrize(
    "start",
    [
        '<rss version="0.91">',
        '<!DOCTYPE rss PUBLIC "-//N//DTD RSS 0.91//EN" "x.dtd"><rss version="0.91">',
        '<rss version="0.92">',
        '<rss version="2.0" xmlns="http://backend.userland.com/rss2">',
        "<RSS>",
    ],
)
def test_old_versions(start: str) -> None:
    """Older versions of RSS are read, with their document types."""
    end = "</RSS>" if "RSS>" in start else "</rss>"
    item = "<item><title>T</title><link>https://e.example/1</link></item>"
    body = f"{start}<channel><title>News</title>{item}</channel>{end}".encode()
    assert only(body).key == "https://e.example/1"
    assert only(body).title == "T"


def test_rss_090() -> None:
    """RSS 0.90 has its items beside the channel, in a namespace of its own."""
    body = b"""<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'
        xmlns='http://my.netscape.com/rdf/simple/0.9/'><channel><title>News</title>
        </channel><item><title>T</title><link>https://e.example/1</link></item>
        </rdf:RDF>"""
    assert only(body).key == "https://e.example/1"


def test_empty_listing() -> None:
    """A feed without entries is a listing, and no error."""
    for body in (rss(), atom(), json_feed_of([])):
        assert parse(body, URL).entries == ()


class TestWithoutGuidAndLink:
    """Entries that only their other parts tell apart."""

    @pytest.mark.parametrize(
        "part",
        [
            "<enclosure url='https://e.example/{n}.mp3' length='1' type='audio/mpeg'/>",
            "<media:content url='https://e.example/{n}.mp4'/>",
            "<media:group><media:content url='https://e.example/{n}'/></media:group>",
            "<media:thumbnail url='https://e.example/{n}.png'/>",
            "<pubDate>Mon, 0{n} Jun 2026 10:00:00 GMT</pubDate>",
            "<description>Text {n}</description>",
            "<content:encoded>Text {n}</content:encoded>",
            "<author>a{n}@e.example</author>",
            "<dc:creator>Author {n}</dc:creator>",
            "<image><url>https://e.example/{n}.png</url></image>",
        ],
    )
    def test_rss(self, part: str) -> None:
        """Three items with one title and another part each are three."""
        items = [f"<title>Morning</title>{part.format(n=n)}" for n in (1, 2, 3)]
        entries = parse(rss(*items), URL).entries
        assert len({entry.key for entry in entries}) == 3
        assert {entry.recipe for entry in entries} == {"digest"}
        again = parse(rss(*items[::-1]), URL).entries
        assert {entry.key for entry in again} == {entry.key for entry in entries}

    def test_atom_and_json(self) -> None:
        """Links to files are no pages."""
        atom_body = atom(
            *(f"<link rel='enclosure' href='https://e.example/{n}'/>" for n in (1, 2))
        )
        json_body = (
            b'{"version": "https://jsonfeed.org/version/1", "items": ['
            b'{"attachments": [{"url": "https://e.example/1"}]},'
            b'{"attachments": [{"url": "https://e.example/2"}]}]}'
        )
        for body in (atom_body, json_body):
            entries = parse(body, URL).entries
            assert len({entry.key for entry in entries}) == 2
            assert [e.enclosures[0].url for e in entries] == [
                "https://e.example/1",
                "https://e.example/2",
            ]

    def test_item_of_nothing(self) -> None:
        """An item that says nothing is none."""
        assert parse(rss("", "<category>x</category>"), URL).entries == ()


class TestLinks:
    """Links are absolute where they are shown, and as published where they name."""

    @pytest.mark.parametrize(
        ("body", "link"),
        [
            (rss("<link>/news/1.html</link>"), "https://news.example/news/1.html"),
            (rss("<guid>1</guid><link>2</link>"), "https://news.example/blog/2"),
            (rss("<link>1.html</link>"), "https://news.example/blog/1.html"),
            (rss("<link>//cdn.example/1</link>"), "https://cdn.example/1"),
            (rss("<guid>/news/1.html</guid>"), "https://news.example/news/1.html"),
            (rss("<guid>https://e.example/1</guid>"), "https://e.example/1"),
            (rss("<guid>1</guid>"), ""),
            (rss("<guid isPermaLink='false'>https://e.example/1</guid>"), ""),
            (atom("<id>tag:e.example:1</id>"), ""),
            (atom("<link href='news/1'/>"), "https://news.example/blog/news/1"),
            (
                atom("<link href='1'/>").replace(
                    b"<feed", b"<feed xml:base='https://e.example/a/'"
                ),
                "https://e.example/a/1",
            ),
            (
                atom("<link href='1'/>").replace(
                    b"<entry>", b"<entry xml:base='/other/'>"
                ),
                "https://news.example/other/1",
            ),
        ],
    )
    def test_resolved(self, body: bytes, link: str) -> None:
        """The base is that of the document, else the address of the answer."""
        assert only(body).link == link

    def test_key_is_not_resolved(self) -> None:
        """The key is the same wherever the document is read from."""
        body = rss("<link>/news/1.html</link>")
        moved = parse(body, "http://mirror.example/feed").entries[0]
        assert only(body).key == moved.key == "/news/1.html"
        body = atom("<id>1</id><link href='1'/>")
        based = body.replace(b"<feed", b"<feed xml:base='https://e.example/'")
        assert only(body).key == only(based).key == "1"

    def test_json(self) -> None:
        """Links of a JSON Feed as well."""
        body = json_feed_of([1]).replace(b"https://news.example/a", b"/a")
        assert only(body).link == "https://news.example/a?n=1&amp;ref=rss"

    def test_source(self) -> None:
        """The link of the source is absolute."""
        assert parse(rss(channel="<link>/</link>"), URL).link == "https://news.example/"


def test_source_without_title() -> None:
    """A source without a title is named by its host; its address may hold a secret."""
    listing = parse(rss("<guid>1</guid>").replace(b"News", b" "), URL)
    assert listing.title == listing.entries[0].feed == "news.example"
    assert listing.url == URL


def test_other_parts() -> None:
    """Authors, files and summary are there, as plain texts."""
    entry = only(
        rss(
            "<guid>1</guid><dc:creator>Ann &amp; Bob</dc:creator>"
            "<description>&lt;p&gt;One&lt;/p&gt;&lt;p&gt;two&lt;/p&gt;</description>"
            "<enclosure url='/1.mp3' length='12' type='audio/mpeg'/>"
            "<media:content url='https://e.example/1.mp4' fileSize='x'/>"
        )
    )
    assert entry.summary == "One two"
    assert entry.authors == ("Ann & Bob",)
    assert entry.enclosures == (
        Enclosure(url="https://news.example/1.mp3", type="audio/mpeg", length=12),
        Enclosure(url="https://e.example/1.mp4"),
    )


def test_content_without_summary() -> None:
    """The content is the summary where there is no other."""
    entry = only(
        atom("<id>1</id><content type='html'>&lt;b&gt;All&lt;/b&gt;</content>")
    )
    assert entry.summary == "All"


@pytest.mark.parametrize(
    ("channel", "ttl"),
    [
        ("<ttl>60</ttl>", 3_600.0),
        ("<ttl> 1 </ttl>", 60.0),
        ("<ttl>0</ttl>", None),
        ("<ttl>soon</ttl>", None),
        (f"<ttl>{'9' * 5_000}</ttl>", None),
        ("", None),
        ("<sy:updatePeriod>daily</sy:updatePeriod>", 86_400.0),
        (f"<sy:updatePeriod>hourly</sy:updatePeriod>{TWICE}", 1_800.0),
        ("<sy:updatePeriod>often</sy:updatePeriod>", None),
    ],
)
def test_ttl(channel: str, ttl: float | None) -> None:
    """How long a publisher wants to be left alone, in seconds."""
    body = rss(channel=channel).replace(
        b"<rss", b"<rss xmlns:sy='http://purl.org/rss/1.0/modules/syndication/'"
    )
    assert parse(body, URL).ttl == ttl


class TestDates:
    """Dates have a time zone, or are none."""

    @pytest.mark.parametrize(
        "date",
        [
            "Mon, 01 Jun 2026 10:00:00 GMT",
            "Mon, 01 Jun 2026 12:00:00 +0200",
            "2026-06-01T10:00:00Z",
        ],
    )
    def test_read(self, date: str) -> None:
        """A date of either standard."""
        assert only(rss(f"<guid>1</guid><pubDate>{date}</pubDate>")).published == FIRST

    def test_updated(self) -> None:
        """The date of an update where there is no other."""
        entry = only(atom("<id>1</id><updated>2026-06-01T10:00:00Z</updated>"))
        assert entry.published == FIRST

    @pytest.mark.parametrize(
        "date", ["yesterday", "", "0000-00-00", "Fri, 01 Jan 10000 10:00:00 GMT"]
    )
    def test_unreadable(self, date: str) -> None:
        """Another text is no date, and no error."""
        assert only(rss(f"<guid>1</guid><pubDate>{date}</pubDate>")).published is None

    def test_json(self) -> None:
        """A date of a JSON Feed; without a zone it is UTC."""
        body = json_feed_of([0])
        assert only(body).published == FIRST
        zoned = body.replace(b"+00:00", b"+02:00")
        assert only(zoned).published == FIRST - timedelta(hours=2)
        naive = only(body.replace(b"+00:00", b"")).published
        assert naive == datetime(2026, 6, 1, 10, tzinfo=UTC)
        assert only(body.replace(b"2026-06", b"June")).published is None


def test_ids_of_json_are_texts() -> None:
    """A publisher that writes ids as numbers is read; other things are no texts."""
    body = (
        b'{"version": "https://jsonfeed.org/version/1", "items": ['
        b'{"id": 7, "title": null, "authors": "Ann", "tags": [1]}, "x", null]}'
    )
    entry = only(body)
    assert (entry.key, entry.title, entry.authors) == ("7", "", ())


def test_authors_of_json() -> None:
    """Authors of either version."""
    old = only(json_feed_of([1]).replace(b'"id"', b'"author": {"name": "Ann"}, "id"'))
    new = only(json_feed_of([1]).replace(b'"id"', b'"authors": [{"name": "Bo"}], "id"'))
    assert (old.authors, new.authors) == (("Ann",), ("Bo",))
