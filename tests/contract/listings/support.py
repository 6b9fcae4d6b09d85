"""What tests of listings share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from catalyst_seen import AsyncSeenStore, Observation, Source


@dataclass(frozen=True)
class Entry:
    """An item of a listing."""

    key: str
    note: str | None = None
    link: str | None = None
    title: str = ""
    text: str | None = None
    spellings: tuple[str, ...] = ()

    @property
    def alias(self) -> tuple[str, ...] | None:
        """The link, and the title."""
        return (self.link, self.title) if self.link else None


async def observe(
    feed: AsyncSeenStore, entries: Iterable[str | Entry], **texts: str
) -> Observation[Entry]:
    """Observe entries; of a plain text, it is the key and the note."""
    made = [Entry(one, one) if isinstance(one, str) else one for one in entries]
    return await feed.observe(
        made,
        key=lambda entry: entry.key,
        note=lambda entry: entry.note,
        aliases=lambda entry: entry.alias,
        digest=lambda entry: entry.text,
        spellings=lambda entry: entry.spellings,
        **texts,
    )


def keys(entries: Iterable[Entry]) -> list[str]:
    """Return the keys of entries."""
    return [entry.key for entry in entries]


async def baseline(feed: AsyncSeenStore, entries: Iterable[str | Entry] = "z") -> None:
    """Observe a first listing, which is marked."""
    seen = await observe(feed, entries)
    assert not seen.new
    assert seen.baseline


async def handled(feed: AsyncSeenStore) -> list[str | None]:
    """Handle what is pending, and return its notes in order."""
    notes = []
    async for claim in feed.pending():
        async with claim:
            notes.append(claim.note)
    return notes


async def read(feed: AsyncSeenStore) -> Source:
    """Return the source, which exists."""
    source = await feed.source()
    assert source is not None
    return source


async def fail(feed: AsyncSeenStore, error: Exception) -> None:
    """Fail to handle the first key that is pending."""
    async for claim in feed.pending():
        async with claim:
            raise error
