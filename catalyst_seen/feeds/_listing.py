"""What a source shows at one poll: a listing of entries, and the note of an entry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from catalyst_seen.keys import Alias

MAX_NOTE_BYTES = 65_536
"""The limit of a note of a store."""

_CUT_FIRST = ("summary", "enclosures", "authors", "feed", "title", "link")


@dataclass(frozen=True, kw_only=True, slots=True)
class Enclosure:
    """A file that belongs to an entry: an episode, an image.

    Attributes:
        url: Its absolute address.
        type: Its media type, as the document names it.
        length: Its size in bytes; ``None`` if unknown.
    """

    url: str
    type: str = ""
    length: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a listing.

    Every text is plain: without markup, on one line, without the characters that drive
    a terminal. ``key``, ``spellings`` and ``alias`` may have any character that a store
    accepts.

    Attributes:
        key: The identity, for ``observe``.
        recipe: The recipe that gave the key.
        spellings: Other forms of the same key.
        alias: The canonical link, without the host if that is the source's own, and
            its witnesses; ``None`` if the link names more than this entry.
        title: The title.
        link: The absolute address of the page.
        published: When it was published, else updated; with a time zone.
        summary: The description, else the content.
        authors: Names of the authors.
        enclosures: Files of the entry.
        feed: Title of the listing.
    """

    key: str
    recipe: str = ""
    spellings: tuple[str, ...] = ()
    alias: Alias | None = None
    title: str = ""
    link: str = ""
    published: datetime | None = None
    summary: str = ""
    authors: tuple[str, ...] = ()
    enclosures: tuple[Enclosure, ...] = ()
    feed: str = ""

    @property
    def digest(self) -> str:
        """A digest of what a reader sees; it differs if the entry was edited.

        Dates are no part of it: many publishers renew them without an edit.
        """
        shown = [self.title, self.link, self.summary, *(e.url for e in self.enclosures)]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()

    def to_json(self, *, max_bytes: int = MAX_NOTE_BYTES) -> str:
        """Return what shows the entry, as a note to keep with its key.

        ``spellings`` and ``alias`` are left out.

        Args:
            max_bytes: The limit of the note in UTF-8; the default is that of a store.
                The summary is cut first, then the lists, and the title and the link
                last.
        """
        note: dict[str, Any] = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) and field.name not in _IDENTITY
        }
        if self.published:
            note["published"] = self.published.isoformat()
        if self.enclosures:
            note["enclosures"] = [
                {"url": e.url, "type": e.type, "length": e.length}
                for e in self.enclosures
            ]
        text = _dumped(note)
        for name in _CUT_FIRST:
            while len(text.encode()) > max_bytes and note.get(name):
                is_whole = name == "link"  # half an address is none
                note[name] = "" if is_whole else note[name][: len(note[name]) // 2]
                text = _dumped({name: part for name, part in note.items() if part})
        return text

    @classmethod
    def from_json(cls, note: str) -> Self:
        """Return the entry of a note that ``to_json`` made.

        Raises:
            ValueError: The text is no such note.
        """
        try:
            known: dict[str, Any] = json.loads(note)
            published = known.pop("published", None)
            enclosures = known.pop("enclosures", ())
            authors = known.pop("authors", ())
            return cls(
                **known,
                published=datetime.fromisoformat(published) if published else None,
                enclosures=tuple(Enclosure(**enclosure) for enclosure in enclosures),
                authors=tuple(authors),
            )
        except (AttributeError, TypeError, ValueError) as exc:
            raise ValueError(f"this note is not one of Entry.to_json(): {exc}") from exc


_IDENTITY = ("spellings", "alias")


def _dumped(note: dict[str, Any]) -> str:
    return json.dumps(note, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What a source shows at one poll.

    Attributes:
        url: The address that was read.
        title: The title of the source; the host of its address if it has none.
        link: The absolute address of the source's page.
        entries: The entries, oldest first where their dates allow it, else as listed.
        ttl: Seconds for which the publisher wants to be left alone; ``None`` if nothing
            is said.
        recipe: Name of the recipe by which the keys were made.
    """

    url: str
    title: str
    link: str = ""
    entries: tuple[Entry, ...] = ()
    ttl: float | None = None
    recipe: str = "guid"
