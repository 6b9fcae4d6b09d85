"""Entries are listed oldest first, where their dates allow it."""

from __future__ import annotations

import pytest

from catalyst_seen.feeds import parse

from ..support.feed_documents import rss


@pytest.mark.parametrize(
    ("listed", "order"),
    [
        ("a9 b8 c7", "cba"),  # the newest first
        ("a1 b2 c3", "abc"),  # the oldest first
        ("a5 b9 c7", "acb"),  # mixed
        ("a5 b5 c5", "cba"),  # the newest first, as all of one date are
        ("a9 b5 c5", "cba"),
        ("a1 b1 c5 d5", "abcd"),  # equal dates in a listing that begins with the oldest
        ("a9 b- c7", "cba"),  # one without a date stays beside the older one
        ("a9 b8 c-", "cba"),
        ("a- b8 c9", "abc"),
        ("a9 b- c-", "abc"),  # most have no date: as listed
        ("a- b-", "ab"),
        ("a9", "a"),
    ],
)
def test_order(listed: str, order: str) -> None:
    """The order of handling is that of the dates, and never shuffled."""
    items = []
    for item in listed.split():
        name, day = item[0], item[1]
        date = f"<pubDate>2026-06-0{day}T10:00:00Z</pubDate>" if day != "-" else ""
        items.append(f"<guid>{name}</guid>{date}")
    listing = parse(rss(*items), "https://news.example/feed")
    assert "".join(entry.key for entry in listing.entries) == order
