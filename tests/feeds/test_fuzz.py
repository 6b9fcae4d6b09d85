"""Documents that are broken at any place: no invented key, no repeat, no miss."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from catalyst_seen.feeds import FeedError, Listing, parse

from ..support.feed_documents import (
    atom_of,
    json_feed_of,
    outside_identities,
    rdf_of,
    rss_of,
    with_faults,
)

Document = Callable[[Sequence[int]], bytes]

FORMATS: dict[str, Document] = {
    "rss": rss_of,
    "rss without guid": lambda numbers: rss_of(numbers, has_guid=False),
    "rdf": rdf_of,
    "atom": atom_of,
    "json": json_feed_of,
}
URL = "https://news.example/feed"
pytestmark = pytest.mark.slow


def listing_of(body: bytes) -> Listing | None:
    """Parse a document; ``None`` if it is no poll."""
    try:
        return parse(body, URL)
    except FeedError:
        return None


def keys_of(body: bytes) -> list[str] | None:
    """Return the keys of a document."""
    listing = listing_of(body)
    return None if listing is None else [entry.key for entry in listing.entries]


@pytest.fixture(params=FORMATS)
def document(request: pytest.FixtureRequest) -> Document:
    """A format, each in turn."""
    return FORMATS[request.param]


def test_cut_at_every_50th_byte(document: Document) -> None:
    """A document that is cut off is no poll."""
    body = document(range(20))
    assert len(keys_of(body) or ()) == 20
    for end in range(0, len(body) - 1, 50):
        assert keys_of(body[:end]) is None, end


def test_fault_at_any_place(document: Document) -> None:
    """A fault outside the identities gives no key that the document has not."""
    body = document(range(20))
    keys = keys_of(body)
    assert keys is not None
    read = 0
    for broken in with_faults(body, seed=len(body)):
        found = keys_of(broken)
        read += found is not None
        assert set(found or ()) <= set(keys), broken
    assert read > 30


def test_every_tenth_poll_is_broken(document: Document) -> None:
    """A feed that moves on while every tenth poll is broken shows each item once."""
    chance = random.Random(7)
    shown: list[str] = []
    expected: set[str] = set()
    for poll in range(60):
        body = document(range(poll, poll + 15))
        expected |= {*(keys_of(body) or ())}
        if poll % 10 == 5:
            at = chance.choice(outside_identities(body))
            body = body[:at] + chance.choice((b"<", b"&", b"\0")) + body[at:]
        if listing := listing_of(body):
            for entry in listing.entries:
                if not {entry.key, *entry.spellings} & {*shown}:
                    shown.append(entry.key)
    assert len(shown) == len(set(shown))
    assert set(shown) == expected
