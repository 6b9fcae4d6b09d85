"""JSON Feed, versions 1 and 1.1 (jsonfeed.org)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalyst_seen.keys import Fields

from ._errors import FeedError
from ._item import Item, Source
from ._listing import Enclosure, Entry
from ._repair import without_controls
from ._shown import MAX_SUMMARY, MAX_TITLE, absolute
from ._text import one_line, text_of, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_json(text: str) -> bool:
    """Is a document one of JSON?"""
    return text.lstrip("\ufeff\0 \t\r\n").startswith("{")


def read_json_feed(text: str, url: str) -> Source:
    """Read a JSON Feed.

    Raises:
        FeedError: It is no JSON, or other JSON.
    """
    try:
        document = json.loads(without_controls(text), strict=False)
    except (ValueError, RecursionError) as exc:
        raise FeedError("malformed", "the document is no JSON") from exc
    items = document.get("items")
    if not _text(document, "version").startswith("https://jsonfeed.org/version/"):
        raise FeedError("not a feed", "the document is other JSON than a JSON Feed")
    if not isinstance(items, list):
        raise FeedError("not a feed", "the JSON Feed has no list of items")
    title = one_line(_text(document, "title"))
    return Source(
        items=[_item(i, url) for i in items if isinstance(i, dict)],
        title=title,
        link=absolute(_text(document, "home_page_url"), url),
    )


def _item(item: Mapping[str, Any], url: str) -> Item:
    summary, title = _text(item, "summary"), _text(item, "title")
    content = _text(item, "content_text") or text_of(_text(item, "content_html"))
    attachments = item.get("attachments")
    given = attachments if isinstance(attachments, list) else []
    files = [one for one in given if isinstance(one, dict)]
    date = _text(item, "date_published") or _text(item, "date_modified")
    link = _text(item, "url") or _text(item, "external_url")
    fields = Fields(
        guid=_text(item, "id"),
        link=link,
        title=title,
        content="\n".join(filter(None, [summary, content])),
        enclosures=tuple(_text(file, "url") for file in files),
        date=date,
    )
    entry = Entry(
        key="",
        title=one_line(title)[:MAX_TITLE].strip(),
        link=absolute(link, url),
        published=_moment(date),
        summary=one_line(summary or content)[:MAX_SUMMARY].strip(),
        authors=_authors(item),
        enclosures=tuple(
            Enclosure(
                url=absolute(_text(file, "url"), url),
                type=one_line(_text(file, "mime_type")),
                length=whole_number(_text(file, "size_in_bytes")),
            )
            for file in files
        ),
    )
    return Item(fields, fields, entry)


def _text(item: Mapping[str, Any], name: str) -> str:
    """Return a text; publishers write ids as numbers too."""
    value = item.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value if isinstance(value, str) else ""


def _moment(date: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(date.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _authors(item: Mapping[str, Any]) -> tuple[str, ...]:
    authors = item.get("authors") or [item.get("author")]
    if not isinstance(authors, list):
        return ()
    names = [one_line(_text(a, "name")) for a in authors if isinstance(a, dict)]
    return tuple(filter(None, names))
