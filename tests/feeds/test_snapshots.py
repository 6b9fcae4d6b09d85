"""Real feeds, where their snapshots are beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalyst_seen.feeds import FeedError, Listing, parse

from ..support.feed_documents import with_faults
from ..support.feeds import REAL_FEEDS, ids_of

FOLDER = REAL_FEEDS
SOURCES = sorted(path.parent for path in FOLDER.glob("*/000.xml"))
URL = "https://news.example/feed"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not REAL_FEEDS.is_dir(), reason=f"the real feeds are not in {REAL_FEEDS}"
    ),
]


def listing_of(body: bytes) -> Listing | None:
    """Parse a document; ``None`` if it is no poll."""
    try:
        return parse(body, URL)
    except FeedError:
        return None


def keys_of(body: bytes) -> set[str] | None:
    """Return the keys of a document."""
    listing = listing_of(body)
    return None if listing is None else {entry.key for entry in listing.entries}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_entry_once(source: Path) -> None:
    """Another parser finds as many items, and as many polls to be none."""
    shown: set[str] = set()
    expected: set[str] = set()
    for snapshot in sorted(source.glob("*.xml")):
        body = snapshot.read_bytes()
        keys, ids = keys_of(body), ids_of(body)
        assert (keys is None) is (ids is None), snapshot
        if b"<rss" in body[:500]:
            expected |= {*(ids or ())}
            shown |= keys or set()
    assert len(shown) == len(expected)
    print(f"{source.name}: {len(shown)} keys")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_cut_at_every_50th_byte(source: Path) -> None:
    """A feed that is cut off is no poll."""
    body = (source / "000.xml").read_bytes().rstrip()
    assert keys_of(body)
    for end in range(0, len(body) - 1, 50):
        assert keys_of(body[:end]) is None, end


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_fault_at_any_place(source: Path) -> None:
    """A fault outside the identities gives no key that the feed has not."""
    body = (source / "000.xml").read_bytes()
    keys = keys_of(body)
    assert keys
    for broken in with_faults(body, seed=1):
        assert (keys_of(broken) or set()) <= keys


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_tenth_poll_is_broken(source: Path) -> None:
    """If every tenth poll is broken, no item is shown twice, or never."""
    shown: list[str] = []
    known: set[str] = set()
    expected: set[str] = set()
    polls = sorted(source.glob("*.xml"))
    for number, snapshot in enumerate(polls):
        body = snapshot.read_bytes()
        good = keys_of(body) or set()
        if number % 10 == 5:
            body = next(with_faults(body, seed=number, number=1))
        listing = listing_of(body)
        if listing is None:
            continue
        expected |= good
        for entry in listing.entries:
            if not known & {entry.key, *entry.spellings}:
                shown.append(entry.key)
            known |= {entry.key, *entry.spellings}
    assert len(shown) == len(set(shown))
    assert set(shown) == expected
