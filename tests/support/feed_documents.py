"""Documents of feeds for tests, made here: each format, and faults in them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from xml.sax.saxutils import escape

FIRST = datetime(2026, 6, 1, 10, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """One item of a document."""

    number: int

    @property
    def guid(self) -> str:
        """An id with a query, as broken documents spell differently."""
        return f"https://news.example/item?id={self.number}&lang=en"

    @property
    def link(self) -> str:
        """An address whose query the publisher escapes twice."""
        return f"https://news.example/a?n={self.number}&amp;ref=rss"

    @property
    def title(self) -> str:
        """A title with characters beyond ASCII."""
        return f"Café {self.number}: R&D <for> you"

    @property
    def published(self) -> datetime:
        """A later one for each item."""
        return FIRST + timedelta(hours=self.number)


def rss(*items: str, channel: str = "", start: str = "") -> bytes:
    """Return an RSS document of items that are given as XML."""
    inside = "".join(f"<item>{item}</item>" for item in items)
    return (
        f"{start}<rss version='2.0' xmlns:content='http://purl.org/rss/1.0/modules/"
        "content/' xmlns:media='http://search.yahoo.com/mrss/'"
        " xmlns:dc='http://purl.org/dc/elements/1.1/'"
        " xmlns:atom='http://www.w3.org/2005/Atom'>"
        f"<channel><title>News</title>{channel}{inside}</channel></rss>"
    ).encode()


def atom(*entries: str, feed: str = "") -> bytes:
    """Return an Atom document of entries that are given as XML."""
    inside = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return (
        "<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'>"
        f"<title>News</title>{feed}{inside}</feed>"
    ).encode()


def rss_of(numbers: Sequence[int], *, has_guid: bool = True) -> bytes:
    """Return an RSS document as publishers make them: the newest first, many parts."""
    items = []
    for made in map(Made, sorted(numbers, reverse=True)):
        guid = f"<guid isPermaLink='false'>{escape(made.guid)}</guid>" * has_guid
        items.append(
            f"\n<title>{escape(made.title)}</title>\n<link>{escape(made.link)}</link>"
            f"\n{guid}<pubDate>{format_datetime(made.published)}</pubDate>"
            f"<!-- story {made.number} -->\n<description><![CDATA[<p>Text & more of"
            f" <b>{made.number}</b>]]></description>\n<enclosure"
            f" url='https://cdn.example/{made.number}.mp3?a=1&amp;b=2' length='9'"
            " type='audio/mpeg'/>"
        )
    return rss(*items, start="<?xml version='1.0' encoding='utf-8'?>\n")


def rdf_of(numbers: Sequence[int]) -> bytes:
    """Return an RSS 1.0 document, whose ids are attributes."""
    made = [*map(Made, sorted(numbers, reverse=True))]
    listed = "".join(f"<rdf:li rdf:resource='{escape(m.guid)}'/>" for m in made)
    items = "".join(
        f"<item rdf:about='{escape(m.guid)}'><title>{escape(m.title)}</title>"
        f"<link>{escape(m.link)}</link><dc:date>{m.published.isoformat()}</dc:date>"
        "</item>\n"
        for m in made
    )
    return (
        "<?xml version='1.0'?>\n<rdf:RDF xmlns='http://purl.org/rss/1.0/'"
        " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
        " xmlns:dc='http://purl.org/dc/elements/1.1/'>\n<channel rdf:about='x'>"
        f"<title>News</title><items><rdf:Seq>{listed}</rdf:Seq></items></channel>"
        f"{items}</rdf:RDF>"
    ).encode()


def atom_of(numbers: Sequence[int]) -> bytes:
    """Return an Atom document of numbered entries."""
    return atom(
        *(
            f"<id>{escape(m.guid)}</id><title>{escape(m.title)}</title>"
            f"<link rel='alternate' href='{escape(m.link)}'/>\n"
            f"<published>{m.published.isoformat()}</published>"
            f"<summary type='html'>&lt;p&gt;Text {m.number}&lt;/p&gt;</summary>"
            for m in map(Made, sorted(numbers, reverse=True))
        )
    )


def json_feed_of(numbers: Sequence[int]) -> bytes:
    """Return a JSON Feed of numbered items."""
    items = [
        {
            "id": m.guid,
            "url": m.link,
            "title": m.title,
            "content_html": f"<p>Text {m.number}</p>",
            "date_published": m.published.isoformat(),
        }
        for m in map(Made, sorted(numbers, reverse=True))
    ]
    version = "https://jsonfeed.org/version/1.1"
    document = {"version": version, "title": "News", "items": items}
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


_IDENTITIES = re.compile(
    rb"<(guid|link|id)\b.*?</\1>|<link [^>]*/>|<item rdf:about='[^']*'|"
    rb'"(?:id|url)": "(?:[^"\\]|\\.)*"',
    re.DOTALL,
)


def outside_identities(body: bytes, *, length: int = 1) -> list[int]:
    """Return where so many bytes are neither an id nor a link, nor a part of one."""
    free: list[int] = []
    start = 0
    for match in _IDENTITIES.finditer(body):
        free += range(start, match.start() - length + 1)
        start = match.end() + 1
    return [*free, *range(start, len(body) - length)]


def with_faults(body: bytes, seed: int, number: int = 200) -> Iterator[bytes]:
    """Yield the document with one fault outside its identities, again and again.

    In turn a ``<``, an ``&`` and a NUL are inserted, and up to 40 bytes are left out.
    """
    chance = random.Random(seed)
    places = [outside_identities(body, length=length) for length in range(41)]
    for count in range(number):
        fault = (b"<", b"&", b"\0", b"")[count % 4]
        skipped = 0 if fault else chance.randint(1, 40)
        at = chance.choice(places[skipped or 1])
        yield body[:at] + fault + body[at + skipped :]
