"""What feedparser reads of a document: what is shown of a listing and its entries.

feedparser gets nothing but well-formed documents, so that its loose parser, which reads
ids and links differently, is never used. Identities do not come from here.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from calendar import timegm
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

import feedparser

from catalyst_seen.keys import Fields

from ._errors import FeedError
from ._listing import Enclosure, Entry
from ._text import one_line, text_of, whole_number

Parsed = Mapping[str, Any]
"""A listing or an entry, as feedparser gives it."""

_POSITION = "catalyst_seen_position"
_HEADERS = {"content-type": "application/xml; charset=utf-8"}
_PERIODS = {
    "hourly": 3_600.0,
    "daily": 86_400.0,
    "weekly": 604_800.0,
    "monthly": 2_592_000.0,
    "yearly": 31_536_000.0,
}
_ADDRESS = re.compile(r"https?://|[^:]*/")
"""A guid that is an address; many are none, and are not marked so."""

MAX_TITLE = 1_000
MAX_SUMMARY = 10_000
_MAX_AUTHORS = 20
_MAX_ENCLOSURES = 20


def parsed_of(
    root: ET.Element, entries: Sequence[ET.Element], shown: Callable[[str], str]
) -> tuple[Parsed, list[Parsed]]:
    """Return the listing and its entries, in the order of the elements.

    Args:
        root: The root of the document; it is changed.
        entries: The elements of its entries.
        shown: Gives the text that is shown for one of the document.

    Raises:
        FeedError: feedparser fails.
    """
    for position, entry in enumerate(entries):
        # feedparser may count other elements as entries, so each has its number.
        marker = ET.Element(_POSITION)
        marker.text = str(position)
        entry.insert(0, marker)
    document = shown(ET.tostring(root, encoding="unicode")).encode()
    try:
        # sanitize_html would remove what text_of() reads. Links inside contents are
        # resolved because the digests of older programs are of such contents.
        parsed = feedparser.parse(
            io.BytesIO(document),
            response_headers=_HEADERS,
            sanitize_html=False,
            resolve_relative_uris=True,
        )
    except Exception as exc:  # a parser may fail on one document, and not on the next
        raise FeedError("malformed", f"feedparser fails: {type(exc).__name__}") from exc
    by_position = {entry.get(_POSITION): entry for entry in parsed.entries}
    return parsed.feed, [by_position.get(str(n), {}) for n in range(len(entries))]


def entry_of(parsed: Parsed, url: str) -> Entry:
    """Return what is shown of an entry; it has no key yet."""
    return Entry(
        key="",
        title=title_of(parsed),
        link=link_of(parsed, url),
        published=_published(parsed),
        summary=_summary(parsed),
        authors=_authors(parsed),
        enclosures=_enclosures(parsed, url),
    )


def older_fields(parsed: Parsed) -> Fields:
    """Return what names an entry as feedparser reads it, as older programs did."""
    contents = [content.get("value") or "" for content in parsed.get("content", ())]
    return Fields(
        guid=parsed.get("id") or "",
        link=parsed.get("link") or "",
        title=parsed.get("title") or "",
        content="\n".join([parsed.get("summary") or "", *contents]),
    )


def title_of(parsed: Parsed) -> str:
    """Return the title as text."""
    return _text(parsed, "title")[:MAX_TITLE].strip()


def _summary(parsed: Parsed) -> str:
    """Return the summary as text, else the first content."""
    contents = parsed.get("content") or [{}]
    summary = _text(parsed, "summary") or text_of(str(contents[0].get("value") or ""))
    return summary[:MAX_SUMMARY].strip()


def _text(parsed: Parsed, name: str) -> str:
    text = str(parsed.get(name) or "")
    detail = parsed.get(f"{name}_detail") or {}
    return one_line(text) if detail.get("type") == "text/plain" else text_of(text)


def link_of(parsed: Parsed, url: str) -> str:
    """Return the absolute address of the page."""
    link = str(parsed.get("link") or "")
    if link == parsed.get("id") and not _ADDRESS.match(link):
        return ""  # feedparser takes any id for a link where there is no other
    return absolute(link, url)


def absolute(link: str, url: str) -> str:
    """Return a link that is relative to an address, as an absolute one."""
    link = one_line(link)
    try:
        return urljoin(url, link) if link else ""
    except ValueError:  # brackets that do not match
        return link


def _published(parsed: Parsed) -> datetime | None:
    """Return when an entry was published, else updated; ``None`` if unreadable."""
    for name in ("published_parsed", "updated_parsed"):
        moment = dict(parsed).get(
            name
        )  # feedparser's own get() has fallbacks that warn
        if moment:
            try:
                return datetime.fromtimestamp(timegm(moment), UTC)
            except (OSError, OverflowError, ValueError):  # a year out of range
                continue
    return None


def _authors(parsed: Parsed) -> tuple[str, ...]:
    """Return the names of the authors."""
    authors = parsed.get("authors", ())
    names = [one_line(str(a.get("name") or a.get("email") or "")) for a in authors]
    return tuple(dict.fromkeys(filter(None, names)))[:_MAX_AUTHORS]


def _enclosures(parsed: Parsed, url: str) -> tuple[Enclosure, ...]:
    """Return enclosures and media, each once."""
    found: dict[str, Enclosure] = {}
    files = [*parsed.get("enclosures", ()), *parsed.get("media_content", ())]
    for file in files:
        address = absolute(str(file.get("href") or file.get("url") or ""), url)
        length = str(file.get("length") or file.get("filesize") or "")
        if address:
            found.setdefault(
                address,
                Enclosure(
                    url=address,
                    type=one_line(str(file.get("type") or "")),
                    length=whole_number(length),
                ),
            )
    return tuple(found.values())[:_MAX_ENCLOSURES]


def ttl_of(feed: Parsed) -> float | None:
    """Return the seconds that the publisher asks for: of RSS, else of syndication."""
    if minutes := whole_number(str(feed.get("ttl") or "")):
        return minutes * 60.0
    period = _PERIODS.get(str(feed.get("sy_updateperiod") or "").strip().lower())
    frequency = whole_number(str(feed.get("sy_updatefrequency") or "1"))
    return period / frequency if period and frequency else None
