"""An entry of a feed, as data and as a line of text."""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING, Any

import click

from catalyst_seen.feeds import Entry

from .._output import local, printable, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalyst_seen import Claim

_TEXTS = ("title", "link", "summary", "feed", "recipe")
FIELDS = ("published", "feed", "title", "link", "summary", "authors", "key", "source")
"""What a template may have."""

_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\\": "\\"}


def entry_of(claim: Claim) -> Entry:
    """Return the entry of a claimed key.

    A note that is none of an entry, of another program, is shown as its title.
    """
    note = claim.note or ""
    try:
        entry = Entry.from_json(note)
        entry.digest  # noqa: B018 - fails if a part has another type
        if all(isinstance(getattr(entry, name), str) for name in _TEXTS):
            return entry
    except (TypeError, ValueError, AttributeError):
        pass
    return Entry(key=claim.key, title=" ".join(note.split())[:1_000])


def data_of(entry: Entry, claim: Claim) -> dict[str, Any]:
    """Return an entry as data: of JSON Lines, and for the command of ``--exec``."""
    published = entry.published
    return {
        "source": claim.namespace,
        "feed": entry.feed,
        "title": entry.title,
        "link": entry.link,
        "published": rfc3339(published.timestamp()) if published else None,
        "summary": entry.summary,
        "authors": list(entry.authors),
        "enclosures": [
            {"url": e.url, "type": e.type, "length": e.length} for e in entry.enclosures
        ],
        "key": claim.key,
    }


def as_text(entry: Entry) -> str:
    """Return an entry as a line for a person."""
    return "  ".join(filter(None, [*_head(entry), printable(entry.link)]))


def as_text_within(entry: Entry, width: int) -> str:
    """Return the same for a terminal of so many columns.

    What is too long for one line has its link, which is never cut, on a second one.
    """
    from rich.cells import cell_len, set_cell_size

    line = as_text(entry)
    if cell_len(line) <= width:
        return line
    head, link = "  ".join(_head(entry)), printable(entry.link)
    if cell_len(head) > width > 1:
        head = set_cell_size(head, width - 1).rstrip() + "…"
    return f"{head}\n    {link}" if link else head


def _head(entry: Entry) -> list[str]:
    published = entry.published
    when = local(published.timestamp())[:16] if published else f"{'':16}"
    return [when, *map(printable, filter(None, (entry.feed, entry.title)))]


def template(text: str) -> Callable[[dict[str, Any]], str]:
    r"""Return what fills a template such as ``{title}\t{link}``.

    Raises:
        click.BadParameter: It has another field, or is malformed.
    """
    text = re.sub(r"\\[tn\\]", lambda found: _ESCAPES[found[0]], text)

    def fill(data: dict[str, Any]) -> str:
        return text.format(**{name: _shown(data[name]) for name in FIELDS})

    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        if unknown := [name for name in names if name not in FIELDS]:
            raise click.BadParameter(
                f"there is no {{{unknown[0]}}}, but"
                f" {', '.join(f'{{{name}}}' for name in FIELDS)}"
            )
        fill(dict.fromkeys(FIELDS, ""))
    except (ValueError, KeyError, IndexError, AttributeError) as exc:
        raise click.BadParameter(
            f"{text!r} is no template such as '{{title}} {{link}}': {exc}"
        ) from None
    if not names:
        raise click.BadParameter(
            f"{text!r} is not text, json, or a template such as '{{title}} {{link}}'"
        )
    return fill


def _shown(value: Any) -> str:
    """Return a value for a template, without characters that control a terminal."""
    if isinstance(value, list):
        return printable(", ".join(map(str, value)))
    return printable(str(value)) if value is not None else ""
