"""Documents that are repaired, and documents that are no poll."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from catalyst_seen import SeenError
from catalyst_seen.feeds import FeedError, parse

from ..support.feed_documents import atom, rss, rss_of

URL = "https://news.example/feed"
GUID = "<guid isPermaLink='false'>a?b=1&amp;c=2</guid>"


def keys_of(body: bytes) -> list[str]:
    """Return the keys of a document."""
    return [entry.key for entry in parse(body, URL).entries]


def title_of(title: str) -> str:
    """Return what a title of a document is read as."""
    (entry,) = parse(rss(f"{GUID}<title>{title}</title>"), URL).entries
    assert entry.key == "a?b=1&c=2"
    return entry.title


REPAIRS: dict[str, Callable[[bytes], bytes]] = {
    "blank line before the declaration": lambda body: b"\n \n" + body,
    "byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "mark and blanks": lambda body: b"\xef\xbb\xbf \n" + body,
    "warning before the declaration": lambda body: b"<br />\nWarning: x\n" + body,
    "comment before the root": lambda body: body.replace(
        b"<rss", b"<!-- <rss> --><rss"
    ),
    "style sheet": lambda body: body.replace(b"<rss", b"<?xml-stylesheet x?><rss"),
    "document type": lambda body: body.replace(
        b"<rss", b"<!DOCTYPE rss SYSTEM 'x'><rss"
    ),
    "entities of HTML": lambda body: body.replace(
        b"<rss", b"<!DOCTYPE rss [<!ENTITY nbsp '&#160;'>]><rss"
    ),
    "NUL": lambda body: body.replace(b"Caf", b"C\0af"),
    "control characters": lambda body: body.replace(b"Caf", b"C\x0ba\x1bf"),
    "entity that XML has not": lambda body: body.replace(b"R&amp;D", b"R&nbsp;&euro;D"),
    "entity that nobody has": lambda body: body.replace(b"R&amp;D", b"R&nosuch;D"),
    "bare ampersand": lambda body: body.replace(b"R&amp;D", b"R&D & E"),
    "character that XML has not": lambda body: body.replace(
        b"R&amp;D", b"&#0;&#xDC00;"
    ),
    "number of no character": lambda body: body.replace(b"R&amp;D", b"&#9999999;&#x;"),
    "prefix without namespace": lambda body: body.replace(
        b"</title>", b"</title><dc2:x y:z='1'/>", 1
    ),
    "known prefix without namespace": lambda body: body.replace(
        b"xmlns:dc='http://purl.org/dc/elements/1.1/'", b""
    ).replace(b"<item>", b"<item><dc:creator>A</dc:creator>", 1),
    "junk after the end": lambda body: body + b"<br/>\n<b>Warning</b>: x & y\n" * 300,
    "text after the end": lambda body: body + b"\n!done\0",
    "second document after the end": lambda body: body + body,
}


@pytest.mark.parametrize("fault", REPAIRS)
def test_repaired(fault: str) -> None:
    """A fault that cannot touch an identity changes no key."""
    body = rss_of(range(5))
    broken = REPAIRS[fault](body)
    assert broken != body
    assert keys_of(broken) == keys_of(body)


@pytest.mark.parametrize("fault", REPAIRS)
def test_broken_before_it_is_repaired(fault: str) -> None:
    """A repair does not depend on what else is broken in the document."""
    body = rss_of(range(5)).replace(b"</title>", b" &there4; &</title>", 1)
    assert keys_of(REPAIRS[fault](body)) == keys_of(rss_of(range(5)))


def test_texts_of_repairs() -> None:
    """What is repaired is shown as it was meant."""
    assert title_of("Win&nbsp;now, caf&eacute;") == "Win now, café"
    assert title_of("R&D & E &amp; F") == "R&D & E & F"
    assert title_of("A&B; &nosuch;") == "A&B; &nosuch;"
    assert title_of("&lt;&AMP;&LT;") == "<&<"
    assert title_of("<![CDATA[R&D &nosuch;]]>") == "R&D &nosuch;"


def test_entity_in_an_id() -> None:
    """An id is the same, with an entity and with its character."""
    assert keys_of(rss("<guid>caf&eacute;</guid>")) == ["café"]
    assert keys_of(rss("<guid>a&b</guid>")) == keys_of(rss("<guid>a&amp;b</guid>"))
    assert keys_of(rss("<guid><![CDATA[a&b]]></guid>")) == ["a&b"]
    assert keys_of(rss("<guid>a<!-- x -->b</guid>")) == ["ab"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"\xef\xbb\xbf\n", "empty"),
        (b"\0\0", "empty"),
        (b"<html><body>Forbidden</body></html>", "not a feed"),
        (b"<!DOCTYPE html><html><svg><feed x=''/></svg></html>", "not a feed"),
        (b"<?xml version='1.0'?><urlset/>", "not a feed"),
        (b"\x1f\x8b\x08\0binary", "not a feed"),
        (b"Forbidden", "not a feed"),
        (b"[1, 2]", "not a feed"),
        (b'{"error": "quota"}', "not a feed"),
        (b'{"version": 1, "items": []}', "not a feed"),
        (b'{"version": "https://jsonfeed.org/version/1"}', "not a feed"),
        (b'{"version": ', "malformed"),
        (b'{"a":' * 100_000, "malformed"),
        (rss_of(range(3))[:900], "malformed"),
        (rss_of(range(3))[:-1], "malformed"),
        (rss_of(range(3)).replace(b"</item>", b"", 1), "malformed"),
        (rss("<guid>1</guid><title>a < b</title>"), "malformed"),
        (rss("<a>" * 300 + "</a>" * 300), "malformed"),
        (rss("<a>" * 300_000), "malformed"),
    ],
    ids=range(21),
)
def test_no_poll(body: bytes, kind: str) -> None:
    """An answer that is no usable feed is an error of its kind."""
    with pytest.raises(FeedError) as raised:
        parse(body, URL)
    assert raised.value.kind == kind
    assert str(raised.value).startswith(f"{kind}: ")


def test_no_entity_is_expanded() -> None:
    """A bomb of entities is refused where one is used, and nothing is expanded."""
    levels = "".join(f"<!ENTITY l{n + 1} '{f'&l{n};' * 10}'>" for n in range(9))
    bomb = f"<!DOCTYPE rss [<!ENTITY l0 'ha'>{levels}]>"
    for reference in ("&l9;", "&l0;"):
        body = rss(f"<guid>1</guid><title>{reference}</title>", start=bomb)
        with pytest.raises(FeedError, match="entities of its own"):
            parse(body, URL)
    assert keys_of(rss("<guid>1</guid>", start=bomb)) == ["1"]
    file = "<!DOCTYPE rss [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>"
    with pytest.raises(FeedError, match="entities of its own"):
        parse(rss("<guid>&f;</guid>", start=file), URL)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document over the limits is refused."""
    monkeypatch.setattr("catalyst_seen.feeds._parse.MAX_ENTRIES", 2)
    assert len(keys_of(rss_of(range(2)))) == 2
    with pytest.raises(FeedError, match="too large: the document has over 2 entries"):
        parse(rss_of(range(3)), URL)
    monkeypatch.setattr("catalyst_seen.feeds._parse.MAX_BYTES", 100)
    with pytest.raises(FeedError, match="too large: the document has over 100 bytes"):
        parse(rss_of(range(2)), URL)


def test_parser_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of feedparser on one document is a fault of that document."""
    fail = Mock(side_effect=AssertionError("secret"))
    monkeypatch.setattr("feedparser.parse", fail)
    with pytest.raises(FeedError, match="feedparser fails: AssertionError; poll again"):
        parse(rss("<guid>1</guid>"), URL)


def test_error() -> None:
    """The error is in the tree, and passes a process pool."""
    error = FeedError("malformed", "problem")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert isinstance(error, SeenError)
    assert (copy.kind, copy.problem) == ("malformed", "problem")
    assert str(copy) == str(error)
    assert "problem" in str(error)


def test_elements_that_only_look_like_entries() -> None:
    """Items of other vocabularies are no entries, and shift none."""
    body = rss(
        "<x:item xmlns:x='urn:x'><guid>no</guid></x:item><guid>1</guid>"
        "<title>A</title>",
        "<guid>2</guid><title>B</title>",
        channel="<section><item><guid>no</guid></item></section>",
    )
    entries = parse(body, URL).entries
    assert [(entry.key, entry.title) for entry in entries] == [("1", "A"), ("2", "B")]


def test_atom_inside_rss() -> None:
    """The id and the links of Atom are read in RSS, after its own."""
    link = "<atom:link rel='self' href='https://e.example/self'/>"
    body = rss(f"{link}<atom:id>1</atom:id><link>https://e.example/1</link>")
    assert keys_of(body) == ["1"]
    assert keys_of(body.replace(b"<atom:id>1</atom:id>", b"")) == [
        "https://e.example/1"
    ]
    both = atom("<id>1</id><id>2</id><link rel='self' href='a'/><link href='b'/>")
    assert keys_of(both) == ["1"]
