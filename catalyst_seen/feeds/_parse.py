"""From the body of an answer to a listing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from catalyst_seen.keys import (
    Alias,
    Fields,
    Identity,
    Recipe,
    canonical_url,
    identity,
    recipe_name,
)

from ._document import entries_of, fields_of, tree_of
from ._encoding import Decoded, decoded
from ._errors import FeedError
from ._item import Item, Source
from ._json_feed import is_json, read_json_feed
from ._listing import Entry, Listing
from ._order import oldest_first
from ._shown import entry_of, link_of, older_fields, parsed_of, title_of, ttl_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 32 * 1024 * 1024
MAX_ENTRIES = 50_000
_MAX_SPELLINGS = 8  # as many as an identity has


def parse(
    body: bytes,
    url: str,
    content_type: str = "",
    *,
    recipe: Recipe = "guid",
    formerly: Sequence[Recipe] = (),
) -> Listing:
    """Return the listing of an answer: RSS 0.9 to 2.0, RDF, Atom or JSON Feed.

    Keys are taken from a document only if it is well-formed, if need be after repairs
    that cannot touch an identity. So the key of an entry does not depend on what else
    is in the document.

    This may take seconds for a large document; ``Parser`` does it beside an event loop.

    Args:
        body: The body.
        url: The address that it came from, after redirects: the base of relative links.
            It is not part of any key.
        content_type: The header of that name, for its charset.
        recipe: How keys are made; see ``catalyst_seen.keys.identity``.
        formerly: Recipes by which keys of this source were made before.

    Raises:
        FeedError: There is no usable listing, and no poll.
        TypeError, ValueError: A recipe is wrong; see ``catalyst_seen.keys.identity``.
    """
    name = recipe_name(recipe)
    if len(body) > MAX_BYTES:
        raise FeedError("too large", f"the document has over {MAX_BYTES:,} bytes")
    document = decoded(body, content_type)
    if not document.text.strip("\ufeff\0 \t\r\n"):
        raise FeedError("empty", "the document has no text")
    source = _source(document, url)
    title = source.title or _host(url)
    _check_number(source.items)
    own = {canonical_url(url), canonical_url(source.link)}
    shared = own | _shared_links(source.items)
    hosts = {_origin(address) for address in own} | _usual_origins(source.items)
    is_alone = len(source.items) == 1
    entries = []
    for item in source.items:
        named = _identified(_told_apart(item, shared, recipe), recipe, formerly)
        if not document.is_sure(_basis(item.fields, named)):
            raise FeedError("malformed", "an identity has bytes of another encoding")
        is_own = canonical_url(item.entry.link) in own
        alias = None if is_own else _alias(named, hosts, is_alone=is_alone)
        entries.append(_entry(item, named, alias, title))
    return Listing(
        url=url,
        title=title,
        link=source.link,
        entries=oldest_first(entries),
        ttl=source.ttl,
        recipe=name,
    )


def _source(document: Decoded, url: str) -> Source:
    if is_json(document.text):
        return read_json_feed(document.text, url)
    root = tree_of(document.text)
    elements = entries_of(root)
    _check_number(elements)  # what follows takes long
    named = [fields_of(element) for element in elements]
    feed, parsed = parsed_of(root, elements, document.shown)
    items = [
        Item(fields, older_fields(entry), entry_of(entry, url))
        for fields, entry in zip(named, parsed, strict=True)
        if fields != Fields()
    ]
    return Source(items, title_of(feed), link_of(feed, url), ttl_of(feed))


def _shared_links(items: Sequence[Item]) -> set[str]:
    """Return the links that name several entries without an id."""
    links = [item.fields.link for item in items if not item.fields.guid.strip()]
    counts = Counter(map(canonical_url, links))
    return {link for link, count in counts.items() if count > 1}


def _told_apart(item: Item, shared: set[str], recipe: Recipe) -> Item:
    """Return an entry without a link that does not name it.

    Its key is then a digest of what there is, unless the recipe wants the link.
    """
    fields = item.fields
    if fields.guid.strip() or recipe not in {"guid", "strip_fragment"}:
        return item
    if canonical_url(fields.link) not in shared or fields.title == fields.content == "":
        return item
    plain, older = replace(fields, link=""), replace(item.older, link="")
    return replace(item, fields=plain, older=older)


def _check_number(entries: Sequence[object]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise FeedError("too large", f"the document has over {MAX_ENTRIES:,} entries")


def _identified(item: Item, recipe: Recipe, formerly: Sequence[Recipe]) -> Identity:
    """Return the identity, with what older programs stored among the spellings."""
    named = _identity(item.fields, recipe, formerly)
    name = item.older.guid or item.older.link
    is_same = name and name == (item.fields.guid or item.fields.link)
    if is_same or named.recipe not in {"guid", "link", "digest", "strip_fragment"}:
        return named
    older = _identity(item.older, "guid", ())
    if named.recipe not in {older.recipe, "strip_fragment"}:
        return named
    theirs = older.spellings[:2]
    if older.recipe == "guid":
        theirs = (older.key, *theirs)
    spellings = dict.fromkeys((*theirs, *named.spellings))
    spellings.pop(named.key, None)
    return replace(named, spellings=tuple(spellings)[:_MAX_SPELLINGS])


def _identity(fields: Fields, recipe: Recipe, formerly: Sequence[Recipe]) -> Identity:
    return identity(
        guid=fields.guid,
        link=fields.link,
        title=fields.title,
        content=fields.content,
        enclosures=fields.enclosures,
        date=fields.date,
        recipe=recipe,
        formerly=formerly,
    )


def _basis(fields: Fields, named: Identity) -> str:
    """Return the texts on which a key depends."""
    if named.recipe in {"guid", "strip_fragment"}:
        return fields.guid
    if named.recipe == "link":
        return fields.link
    texts = (fields.title, fields.content, *fields.enclosures, fields.date)
    return "\n".join((fields.guid, fields.link, *texts))


def _alias(named: Identity, own: set[str], *, is_alone: bool) -> Alias | None:
    """Return the alias of an entry.

    A source may move to another domain with all its ids and links. So of a link to the
    source's own site only what follows the host counts.

    A listing of one entry often has the same link and title for each edition, so there
    title and date together are one witness.

    Args:
        named: Its identity.
        own: The beginnings of links to the source's own site.
        is_alone: Is it the only entry?
    """
    if named.alias is None:
        return None
    link, *witnesses = named.alias
    origin = _origin(link)
    if origin and origin in own:
        link = link.removeprefix(origin)
    if not is_alone:
        return (link, *witnesses)
    return (link, " ".join(witnesses)) if len(witnesses) > 1 else None


def _usual_origins(items: Sequence[Item]) -> set[str]:
    """Return the beginning that most links have, wherever the listing itself is."""
    counts = Counter(_origin(canonical_url(item.fields.link)) for item in items)
    return {origin for origin, count in counts.items() if 2 * count > len(items)}


def _origin(address: str) -> str:
    """Return scheme and host of a canonical address; empty without any."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}{mark}{rest.partition('/')[0]}" if mark else ""


def _entry(item: Item, named: Identity, alias: Alias | None, feed: str) -> Entry:
    return replace(
        item.entry,
        key=named.key,
        recipe=named.recipe,
        spellings=named.spellings,
        alias=alias,
        feed=feed,
    )


def _host(url: str) -> str:
    """Return the host of an address; the rest of it may hold a secret."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
