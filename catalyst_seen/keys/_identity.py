"""What names an item: its key, other forms of the key, and its alias."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from xml.sax.saxutils import escape

from ._address import canonical_url, unescaped
from ._digest import collapsed, digest, sha256, storable
from ._recipes import Fields, Recipe, named

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_SPELLINGS = 8

Alias: TypeAlias = tuple[str, ...]
"""A canonical link, and then its witnesses.

Two items are the same under another id if their links are equal and any witness is.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """What names an item.

    Attributes:
        key: The key.
        recipe: What gave it: ``"guid"``, ``"link"``, ``"digest"``, ``"strip_fragment"``
            or the name of the function.
        spellings: Other forms of the same key, as older programs and looser parsers
            stored them: at most eight, the likeliest first, without the key itself.
        alias: Says that an item under another id is the same; ``None`` without a link,
            or with nothing beside it.
    """

    key: str
    recipe: str
    spellings: tuple[str, ...]
    alias: Alias | None


_EDITION = re.compile(r"#\d+\Z")
"""A fragment by which a publisher counts the editions of one page."""

_SEMICOLON = re.compile(r"&(\w+);", re.ASCII)
"""What looks like an entity."""


def identity(
    *,
    guid: str = "",
    link: str = "",
    title: str = "",
    content: str = "",
    enclosures: Sequence[str] = (),
    date: str = "",
    recipe: Recipe = "guid",
    formerly: Sequence[Recipe] = (),
) -> Identity:
    """Return what names an item: its guid, else its link, else a digest of the rest.

    The texts are those of a document that was read strictly; see ``Fields``. A link is
    folded by ``canonical_url``; a guid is kept as it is, without blanks around it.

    Args:
        guid: Its id, as published.
        link: The address of its page, as published.
        title: The title.
        content: Summary and contents, joined by line breaks.
        enclosures: Addresses of its files.
        date: When it was published, as published.
        recipe: How the key is made.
        formerly: Recipes by which keys of this source were made before. Their keys are
            given as spellings, so that a change of the recipe repeats nothing. Keys of
            another recipe are given without being asked for only where they cannot
            name another item: the whole guid, if its fragment is stripped.

    Raises:
        TypeError: A recipe is neither a name nor a function, or returns no text.
        ValueError: No recipe has that name, or a function has no name of its own.
    """
    fields = Fields(
        guid=guid,
        link=link,
        title=title,
        content=content,
        enclosures=enclosures,
        date=date,
    )
    source, text = named(fields, recipe)
    key = storable(text)
    forms: list[str] = []
    for former in formerly:
        its_source, its_text = named(fields, former)
        forms += [its_text, *_forms(fields, its_source)]
    forms += _forms(fields, source)
    spellings = dict.fromkeys(map(storable, forms))
    spellings.pop(key, None)
    return Identity(key, source, tuple(spellings)[:_MAX_SPELLINGS], _alias(fields))


def _forms(fields: Fields, source: str) -> list[str]:
    """Return what older programs and looser parsers made of a text that gives a key."""
    if source in {"guid", "strip_fragment"}:
        return _written(fields.guid)
    if source == "link":
        return _written(fields.link)
    if source == "digest":  # of the example poller
        text = f"{fields.title}\n{fields.content}"
        return [sha256(text)]
    return []


def _written(text: str) -> list[str]:
    """Return the forms of an id or a link, the likeliest first.

    feedparser's loose parser, which reads documents that are not well-formed, leaves
    ids escaped. In links it takes a semicolon from whatever looks like an entity:
    ``&amp;ref=rss`` becomes ``&ampref=rss``.
    """
    stripped = text.strip()
    escaped = escape(stripped)
    plain = unescaped(stripped)
    return [
        stripped,
        escaped,
        _SEMICOLON.sub(r"&\1", escaped.replace("&amp;", "&")),
        plain,
        plain.replace("&", "&amp;"),
        plain.replace("&", "&amp"),
        escape(stripped, {'"': "&quot;", "'": "&apos;"}),
        plain.replace("&", "&amp;amp;"),
        collapsed(stripped),
        text.strip("\r\n"),
    ]


def _alias(fields: Fields) -> Alias | None:
    """Return the link without the number of an edition, and its witnesses.

    They are the title and the date; of an item with neither, it is the content.
    """
    link = _EDITION.sub("", canonical_url(fields.link))
    texts = {"title": collapsed(fields.title), "date": collapsed(fields.date)}
    if not any(texts.values()):
        texts = {"content": collapsed(fields.content)}
    witnesses = [f"{name}:{digest(text)[7:39]}" for name, text in texts.items() if text]
    return (storable(link), *witnesses) if link and witnesses else None
