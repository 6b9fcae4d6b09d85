"""What a reader of one format hands over: a source, and what it lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalyst_seen.keys import Fields

    from ._listing import Entry


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    Attributes:
        fields: What names it, as the document has it.
        older: The same, as older programs read it.
        entry: What is shown of it, without a key.
    """

    fields: Fields
    older: Fields
    entry: Entry


@dataclass(frozen=True, slots=True)
class Source:
    """What a document says of its source.

    Attributes:
        items: Its items, as listed.
        title: Its title; may be empty.
        link: The absolute address of its page; may be empty.
        ttl: Seconds until the next poll, if the publisher asks for it.
    """

    items: list[Item]
    title: str
    link: str
    ttl: float | None = None
