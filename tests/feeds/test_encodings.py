"""Bodies in every encoding, and bytes that are not of it."""

from __future__ import annotations

import codecs

import pytest

from catalyst_seen.feeds import FeedError, parse

from ..support.feed_documents import json_feed_of, rss, rss_of

URL = "https://news.example/feed"
TEXT = (
    "<?xml version='1.0'{}?><rss version='2.0'><channel><title>Новости</title><item>"
    "<guid>тема 1</guid><title>Привет</title></item></channel></rss>"
)
WINDOWS = " encoding='windows-1251'"


def read(body: bytes, content_type: str = "") -> tuple[str, str]:
    """Return key and title of the entry."""
    (entry,) = parse(body, URL, content_type).entries
    return entry.key, entry.title


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (TEXT.format("").encode(), ""),
        (TEXT.format("").encode(), "text/xml"),
        (TEXT.format(WINDOWS).encode("windows-1251"), ""),
        (b"\n" + TEXT.format(WINDOWS).encode("windows-1251"), "application/rss+xml"),
        (TEXT.format("").encode("windows-1251"), "text/xml;charset=WINDOWS-1251"),
        (TEXT.format("").encode("windows-1251"), 'text/xml; charset="windows-1251"'),
        (TEXT.format(WINDOWS).encode("koi8-r"), "text/xml; charset=koi8-r"),
        (TEXT.format(" encoding='utf-8'").encode(), "text/xml; charset=iso-8859-1"),
        (TEXT.format(" encoding='nosuch'").encode(), "text/xml; charset=none"),
        (TEXT.format(" encoding='base64'").encode(), "text/xml; charset=hex"),
        (TEXT.format(" encoding='utf-16'").encode(), "text/xml; charset=utf-16"),
        (TEXT.format("").encode() + b" ", "text/xml; charset=utf-16"),
        (codecs.BOM_UTF8 + TEXT.format("").encode(), "text/xml; charset=koi8-r"),
        (TEXT.format("").encode("utf-16"), ""),
        (TEXT.format(" encoding='utf-8'").encode("utf-16-le"), ""),
        (codecs.BOM_UTF16_BE + TEXT.format("").encode("utf-16-be"), "text/xml"),
        (TEXT.format("").encode("utf-16-be"), ""),
        (TEXT.format("").encode("utf-32"), ""),
        (TEXT.format("").encode("utf-32-be"), ""),
        (TEXT.format(" encoding='utf-8'").encode("koi8-r"), "a/b; charset=koi8-r"),
    ],
    ids=range(20),
)
def test_encodings(body: bytes, content_type: str) -> None:
    """Key and title are the same in every encoding."""
    assert read(body, content_type) == ("тема 1", "Привет")


def test_stray_bytes_beside_the_identity() -> None:
    """Bytes of another encoding are shown as what they most likely are."""
    body = rss_of(range(3)).replace(b"</title>", b" \x93R\xe9sum\xe9\x94</title>", 2)
    first, *_ = parse(body, URL).entries
    assert [entry.key for entry in parse(body, URL).entries] == [
        entry.key for entry in parse(rss_of(range(3)), URL).entries
    ]
    last = parse(body, URL).entries[-1]
    assert first.title == "Café 0: R&D <for> you"
    assert last.title == "Café 2: R&D <for> you “Résumé”"


def test_encoding_that_is_not_named() -> None:
    """Without a name, other bytes than UTF-8 are Windows', beside the identity."""
    body = rss("<guid>1</guid><title>caf_</title>").replace(b"_", b"\xe9")
    assert read(body) == ("1", "café")


@pytest.mark.parametrize(
    "body",
    [
        TEXT.format("").encode("windows-1251"),
        TEXT.format(" encoding='windows-125'").encode("windows-1251"),
        rss("<guid>caf_</guid>").replace(b"_", b"\xe9"),
        rss("<link>https://e.example/caf_</link>").replace(b"_", b"\xe9"),
        rss("<title>caf_</title>").replace(b"_", b"\xe9"),
        TEXT.format("").encode().replace("м".encode(), b"\xd0"),
        TEXT.format(" encoding='utf-8'").encode().replace("м".encode(), b"\xd0"),
        TEXT.format("").encode("utf-16").replace("м".encode("utf-16-le"), b"\0\xd8"),
        "<rss><channel><item><guid>語</guid></item></channel></rss>".encode(
            "shift-jis"
        ),
        json_feed_of([1]).replace(b"item?id", b"\xe9"),
    ],
    ids=range(10),
)
def test_identity_of_unsure_bytes(body: bytes) -> None:
    """An identity with bytes that are not of the encoding is no key."""
    with pytest.raises(FeedError, match="bytes of another encoding"):
        parse(body, URL)


def test_one_broken_byte_changes_no_encoding() -> None:
    """A charset of the server is no way out for a document with one broken byte."""
    body = TEXT.format(" encoding='utf-8'").encode()
    broken = body.replace("При".encode(), b"\xd0")
    assert read(broken, "text/xml; charset=iso-8859-1")[0] == "тема 1"
    japanese = "<?xml version='1.0' encoding='shift-jis'?><rss><channel><item>{}</item>"
    text = japanese.format("<guid>語</guid><title>語+</title>") + "</channel></rss>"
    broken = text.encode("shift-jis").replace(b"+", b"\x81")
    assert read(broken) == ("語", "語\ufffd")


def test_json_with_a_mark() -> None:
    """A JSON Feed may begin with a mark, and hold a NUL."""
    body = codecs.BOM_UTF8 + b"\n\0" + json_feed_of([1])
    assert read(body) == read(json_feed_of([1]))
