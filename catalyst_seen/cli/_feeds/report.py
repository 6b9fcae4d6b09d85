"""What a person is told of a listing before a feed is watched."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .._output import printable, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalyst_seen.feeds import Entry, Listing, Poll

_SOURCES_OF_KEYS = {
    "guid": "the id of the entry",
    "link": "its link",
    "digest": "a digest of its text",
}


_SHORT = 30.0
"""Seconds under which a pause is not worth a word."""


def report(poll: Poll) -> Iterator[str]:
    """Yield what a listing is, and what is unusual about it.

    Args:
        poll: A poll of a new source, with a listing, by a poller with no wish of its
            own for the time of the next poll.
    """
    listing = poll.listing
    assert listing is not None  # noqa: S101 - there is no error
    if listing.title:
        yield f"title: {printable(listing.title)}"
    if not poll.feed.is_file and listing.url != poll.feed.shown:
        yield f"address: {printable(listing.url)}, after redirects"
    yield from _keys(listing)
    pause = poll.next_at - poll.at if poll.next_at else 0.0
    if pause >= _SHORT:
        yield f"it asks for about {_rounded(pause)} between two polls"
    yield from _warnings(listing)


def _rounded(pause: float) -> str:
    """Return a pause without what a poller leaves to chance, a tenth at most."""
    step = 3_600 if pause > 1.5 * 3_600 else 300 if pause > 900 else 60  # noqa: PLR2004
    return span(max(round(pause / 1.05 / step), 1) * step)


def _keys(listing: Listing) -> Iterator[str]:
    """Yield how many entries there are, and what gave their keys."""
    number = len({entry.key for entry in listing.entries})
    recipes = Counter(entry.recipe for entry in listing.entries)
    if not number:
        yield "it lists no entries: nothing is new until it does"
        return
    parts = [
        f"{count:,} by {_SOURCES_OF_KEYS.get(recipe, recipe)}"
        for recipe, count in recipes.most_common()
    ]
    yield f"keys: {', '.join(parts)}"
    what = "its entry" if number == 1 else f"its {number:,} entries"
    yield f"watch marks {what} as the baseline; --first 3 delivers the last three"


def _warnings(listing: Listing) -> Iterator[str]:
    entries = listing.entries
    repeated = len(entries) - len({entry.key for entry in entries})
    if repeated:
        yield f"warning: {repeated:,} repeat the key of another: the first counts"
    if ambiguous := _ambiguous(entries):
        yield f"warning: {ambiguous:,} keys can be taken for those of another entry"
    if digests := sum(entry.recipe == "digest" for entry in entries):
        yield (
            f"warning: {digests:,} have neither id nor link: an edit makes a new entry"
        )
    undated = sum(entry.published is None for entry in entries)
    if undated:
        what = "no entry has" if undated == len(entries) else f"{undated:,} do not have"
        yield f"warning: {what} a date: the order is the one of the listing"


def _ambiguous(entries: tuple[Entry, ...]) -> int:
    """Return how many forms of keys belong to several entries."""
    forms: dict[str, set[str]] = {}
    for entry in entries:
        for form in (entry.key, *entry.spellings):
            forms.setdefault(form, set()).add(entry.key)
    return sum(len(keys) > 1 for keys in forms.values())
