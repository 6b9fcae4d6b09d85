"""Texts that are shown: plain, on one line, and whole."""

from __future__ import annotations

import pytest

from catalyst_seen.feeds import parse

from ..support.feed_documents import atom, json_feed_of, rss

URL = "https://news.example/feed"
XHTML = "xmlns='http://www.w3.org/1999/xhtml'"


def title_of(body: bytes) -> str:
    """Return the title of the entry."""
    (entry,) = parse(body, URL).entries
    return entry.title


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cروم",  # ZWNJ: another word without it
        "क्\u200dष",  # ZWJ
        "👩\u200d🚒 ❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f",  # emoji of several parts
        "Donau\u00addampf",  # a soft hyphen
        "\u0600\u06f1",  # a sign around Arabic digits
        "a\u200eb",
    ],
    ids=ascii,
)
def test_joiners_stay(text: str) -> None:
    """What belongs to a word stays, in each format, and in titles of sources."""
    assert title_of(rss(f"<guid>1</guid><title>{text}</title>")) == text
    assert title_of(atom(f"<id>1</id><title type='html'>{text}</title>")) == text
    named = rss("<guid>1</guid>").replace(b"News", text.encode())
    assert parse(named, URL).title == text
    item = json_feed_of([1]).replace("Café".encode(), text.encode())
    assert title_of(item).startswith(text)


def test_what_drives_a_terminal_goes() -> None:
    """Control characters, line breaks and overrides of the direction are left out."""
    text = "a\u008131m b\n\t c\u202e d\u2066 &#127; &#141; e\u2028f"
    body = rss(f"<guid>1</guid><title>{text}</title>")
    assert title_of(body) == "a31m b c d e f"
    item = json_feed_of([1]).replace("Café".encode(), b"a\\u001b[2J\\u0000\\ud800\\n")
    assert title_of(item).startswith("a[2J 1")


def test_links_are_on_one_line() -> None:
    """A link cannot forge a line either."""
    body = rss("<guid>1</guid><link>https://e.example/a\u0081\n b</link>")
    (entry,) = parse(body, URL).entries
    assert entry.link == "https://e.example/a b"


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("<title type='html'>&lt;b&gt;Hi&lt;/b&gt; R&amp;amp;D</title>", "Hi R&D"),
        (
            f"<title type='xhtml'><div {XHTML}><em>New</em> thing</div></title>",
            "New thing",
        ),
        ("<title>1 &lt; 2 &amp; 3 &lt;b&gt;</title>", "1 < 2 & 3 <b>"),
        ("<title type='text'>&lt;b&gt;bold&lt;/b&gt;</title>", "<b>bold</b>"),
        ("<title type='html'>a&lt;br&gt;b&lt;i&gt;c&lt;/i&gt;d</title>", "a bcd"),
        ("<title type='html'>&lt;script>x()&lt;/script>A</title>", "A"),
        ("<title type='html'>&lt;style>x{}&lt;/style>A</title>", "A"),
        ("<title type='html'>a &lt;!-- x --&gt;b</title>", "a b"),
    ],
)
def test_markup_of_atom(title: str, text: str) -> None:
    """Titles with markup are shown as texts, plain ones as they are."""
    assert title_of(atom(f"<id>1</id>{title}")) == text


def test_markup_of_rss() -> None:
    """In RSS, what looks like HTML is HTML."""
    body = rss("<guid>1</guid><title>&lt;b&gt;Hi&lt;/b&gt; R&amp;amp;D</title>")
    assert title_of(body) == "Hi R&D"
    assert title_of(rss("<guid>1</guid><title>1 &lt; 2 &amp; 3</title>")) == "1 < 2 & 3"


def test_long_texts() -> None:
    """A title has at most 1,000 characters, a summary at most 10,000."""
    text = "word " * 10_000
    (entry,) = parse(
        rss(f"<guid>1</guid><title>{text}</title><description>{text}</description>"),
        URL,
    ).entries
    assert (len(entry.title), len(entry.summary)) == (999, 9_999)


def test_long_markup() -> None:
    """Of markup that is longer than 20,000 characters, the beginning is read."""
    markup = "A" + "&lt;b x=''>" * 3_000 + "Z"
    assert title_of(atom(f"<id>1</id><title type='html'>{markup}</title>")) == "A"
