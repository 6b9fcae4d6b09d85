"""Repairs of a document that cannot touch an identity.

What is repaired here has one meaning only: what stands before the root, a control
character that XML forbids, an ``&`` that starts no entity, an entity of HTML, a prefix
whose namespace is missing. The result is the same whatever else is in the document, so
a key does not depend on what is broken elsewhere. Everything else stays as it is, and
the strict parser decides.
"""

from __future__ import annotations

import html
import html.entities
import re
import sys
from functools import lru_cache

from ._errors import FeedError

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ROOT = re.compile(
    r"<!--.*?(?:-->|\Z)|(?P<root><(?:[\w.-]+:)?(?:rss|rdf|feed)(?=[\s>]))",
    re.DOTALL | re.IGNORECASE,
)
_PAGE = re.compile(r"<html[\s>]", re.IGNORECASE)
_ENTITY = re.compile(r"<!ENTITY\s+([\w:.-]+)\s")
_REFERENCE = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)"
    r"|&(?:\#(?:x0*(?P<hex>[0-9A-Fa-f]{1,6})|0*(?P<decimal>[0-9]{1,7}));"
    r"|(?P<name>[A-Za-z][A-Za-z0-9]*);)?",
    re.DOTALL,
)
_OF_XML = frozenset({"amp", "apos", "gt", "lt", "quot"})

_PREFIX = re.compile(r"<([A-Za-z_][\w.-]*):[A-Za-z_]|\s([A-Za-z_][\w.-]*):[\w.-]+\s*=")
_TAG = re.compile(r"<[\w.:-]+")
_BINDING = re.compile(r"\sxmlns:([\w.-]+)\s*=")
_NAMESPACES = {
    "atom": "http://www.w3.org/2005/Atom",
    "content": "http://purl.org/rss/1.0/modules/content/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "media": "http://search.yahoo.com/mrss/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "sy": "http://purl.org/rss/1.0/modules/syndication/",
}


def without_controls(text: str) -> str:
    """Return a text without the characters that XML and JSON forbid."""
    return _FORBIDDEN.sub("", text)


def repaired(text: str) -> str:
    """Return a document from its root on, with what has one meaning only repaired.

    The type of the document is left out, so that a parser expands no entities.

    Raises:
        FeedError: There is no root of a feed, or the document uses entities of its own.
    """
    text = without_controls(text)
    root = next((match for match in _ROOT.finditer(text) if match["root"]), None)
    if root is None or _PAGE.search(text, 0, root.start()):
        raise FeedError("not a feed", "the document has no root of RSS, RDF or Atom")
    own = {*_ENTITY.findall(text, 0, root.start())} - _OF_XML

    def reference(match: re.Match[str]) -> str:
        if match[0][0] == "<":
            return match[0]
        if match["name"] in own and _character(match["name"]) is None:
            raise FeedError("malformed", "the document uses entities of its own")
        return _reference(match)

    return _REFERENCE.sub(reference, text[root.start() :])


def _reference(match: re.Match[str]) -> str:
    """Return a reference that XML allows, the characters of one of HTML, or a text."""
    name, decimal = match["name"], match["decimal"]
    if name in _OF_XML:
        return match[0]
    if name:
        return _character(name) or f"&amp;{name};"
    if decimal or match["hex"]:
        number = int(decimal) if decimal else int(match["hex"], 16)
        if 0 < number <= sys.maxunicode and not _FORBIDDEN.match(chr(number)):
            return match[0]
    return f"&amp;{match[0][1:]}"


@lru_cache(maxsize=1_024)
def _character(name: str) -> str | None:
    """Return the characters of an entity of HTML, escaped for XML."""
    characters = html.entities.html5.get(f"{name};")
    return html.escape(characters) if characters else None


_MOST_UNBOUND = 50
"""Prefixes without a namespace in one document; a real one has a few."""


def with_prefixes(document: str) -> str:
    """Return a document with a namespace for each prefix that has none."""
    used = {first or second for first, second in _PREFIX.findall(document)}
    unbound = used - {"xml", "xmlns", *_BINDING.findall(document)}
    if len(unbound) > _MOST_UNBOUND:
        return document  # feedparser takes ever longer for more
    declared = "".join(
        f' xmlns:{prefix}="{_NAMESPACES.get(prefix, f"urn:prefix:{prefix}")}"'
        for prefix in sorted(unbound)
    )
    end = _TAG.match(document)
    at = end.end() if end else 0
    return f"{document[:at]}{declared}{document[at:]}"
