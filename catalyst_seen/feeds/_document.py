"""The strict reading of a document: its tree, its entries, and their identities.

Identities are taken from here and from nowhere else, as the document has them: nothing
is resolved, and no markup is interpreted.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import chain
from typing import TYPE_CHECKING
from xml.parsers.expat import errors

from catalyst_seen.keys import Fields

from ._errors import FeedError
from ._repair import repaired, with_prefixes

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DEPTH = 200
_UNBOUND_PREFIX = errors.codes[errors.XML_ERROR_UNBOUND_PREFIX]

_OF_FEEDS = frozenset({
    "",
    "http://www.w3.org/2005/Atom",
    "http://purl.org/atom/ns#",
    "http://purl.org/rss/1.0/",
    "http://my.netscape.com/rdf/simple/0.9/",
    "http://channel.netscape.com/rdf/simple/0.9/",
})  # fmt: skip
_CONTENT = "http://purl.org/rss/1.0/modules/content/"
_DUBLIN_CORE = "http://purl.org/dc/elements/1.1/"
_MEDIA = frozenset({"http://search.yahoo.com/mrss", "http://search.yahoo.com/mrss/"})


class _Builder(ET.TreeBuilder):
    """Builds a tree, and knows when its root has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self.is_complete = False

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FeedError("malformed", f"its elements are over {_MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        self.is_complete = self._depth == 0
        return super().end(tag)


def tree_of(text: str) -> ET.Element:
    """Return the root of a document of RSS, RDF or Atom.

    What follows the end of the root is ignored.

    Raises:
        FeedError: It is not well-formed, or it is something else.
    """
    document = repaired(text)
    try:
        try:
            return _tree(document)
        except ET.ParseError as exc:
            if exc.code != _UNBOUND_PREFIX:
                raise
            return _tree(with_prefixes(document))
    except ET.ParseError as exc:
        line, column = exc.position
        reason = f"{errors.messages[exc.code]} at line {line}, column {column}"
        raise FeedError("malformed", reason) from exc


def _tree(document: str) -> ET.Element:
    builder = _Builder()
    parser = ET.XMLParser(target=builder)  # noqa: S314 - it has no document type
    try:
        parser.feed(document)
        parser.close()
    except ET.ParseError:
        if not builder.is_complete:
            raise
    return builder.close()


def entries_of(root: ET.Element) -> list[ET.Element]:
    """Return the elements of the entries, as listed."""
    channels = [child for child in root if _name(child)[1] == "channel"]
    return [
        element
        for element in chain(root, *channels)
        if _name(element)[1] in {"item", "entry"}
    ]


def fields_of(entry: ET.Element) -> Fields:
    """Return what names an entry, as the document has it."""
    parts = _Parts(entry)
    guid = parts.first("guid", "id") or parts.about()
    link = parts.first("link") or next(parts.references("alternate"), "")
    content = ["description", "summary", "content", "encoded"]
    if not (guid or link):  # then whatever tells entries apart is needed
        content += ["author", "creator", "image"]
    return Fields(
        guid=guid,
        link=link,
        title=parts.first("title"),
        content="\n".join(parts.texts(*content)),
        enclosures=tuple(parts.files()),
        date=parts.first(
            "pubdate", "published", "date", "updated", "issued", "modified"
        ),
    )


class _Parts:
    """The children of an entry, by their names."""

    def __init__(self, entry: ET.Element) -> None:
        own, _ = _name(entry)
        namespaces = {*_OF_FEEDS, own, _CONTENT, _DUBLIN_CORE}
        self._entry = entry
        self._children: dict[str, list[ET.Element]] = {}
        for child in entry:
            namespace, name = _name(child)
            if namespace in namespaces:
                self._children.setdefault(name, []).append(child)

    def texts(self, *names: str) -> Iterator[str]:
        """Return the texts of the children of these names, name by name."""
        for name in names:
            for child in self._children.get(name, ()):
                text = "".join(child.itertext()).strip()
                if text:
                    yield text

    def first(self, *names: str) -> str:
        """Return the first text that is not blank."""
        return next(self.texts(*names), "")

    def references(self, relation: str) -> Iterator[str]:
        """Return the addresses of the links of Atom with a relation."""
        for child in self._children.get("link", ()):
            if child.get("rel", "alternate") == relation and (
                href := child.get("href")
            ):
                yield href.strip()

    def about(self) -> str:
        """Return the id of RDF, whatever is wrong with its namespace."""
        texts = self._entry.attrib.items()
        return next((text for name, text in texts if name.endswith("}about")), "")

    def files(self) -> Iterator[str]:
        """Return the addresses of enclosures, media and images."""
        for child in self._children.get("enclosure", ()):
            yield child.get("url", "")
        yield from self.references("enclosure")
        for element in self._entry.iter():
            namespace, name = _name(element)
            if namespace in _MEDIA and name in {"content", "thumbnail"}:
                yield element.get("url", "")
            elif name == "image" and (href := element.get("href")):
                yield href


def _name(element: ET.Element) -> tuple[str, str]:
    """Return the namespace and the name of an element, small letters for the name."""
    namespace, _, name = element.tag.rpartition("}")
    return namespace.removeprefix("{"), name.lower()
