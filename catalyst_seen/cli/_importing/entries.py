"""What a source of an import lists, before anything is checked."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..._pause import pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

UNSET = "unset"
"""The expiry of an entry that says nothing about it."""

_PAGE = 2_000
"""Entries that are checked or written together."""


class Number(str):
    """A number of a JSON document, as it is written there."""

    __slots__ = ()


class Entry(NamedTuple):
    """One key with what is said about it, as a source has it.

    Attributes:
        place: The number of its line, row or item, from 1.
        key: The key: a text or a number, if it is one.
        date: When it was seen, in whatever form.
        note: Its note.
        namespace: Its namespace; ``None`` is that of the command.
        first: When it was first seen; ``None`` is ``date``.
        expires: From when on it is unseen; ``None`` is never, ``UNSET`` is by the TTL.
        state: Its state; what is not seen is not imported.
        problem: What is wrong with the whole entry; ``None`` if it could be read.
    """

    place: int
    key: object
    date: object = None
    note: object = None
    namespace: object = None
    first: object = None
    expires: object = UNSET
    state: str = "seen"
    problem: str | None = None


class Source(Protocol):
    """Lists entries, as often as it is asked.

    Attributes:
        kind: What it is, with its article: ``a JSON list``.
        unit: What a place in it is called: ``line``, ``row``, ``item``.
    """

    @property
    def kind(self) -> str: ...
    @property
    def unit(self) -> str: ...

    def entries(self) -> Iterator[Entry]:
        """List the entries from the first one on.

        Raises:
            Failure: The source cannot be read on.
        """


async def pages(
    source: Source, advance: Callable[[int], None]
) -> AsyncIterator[list[Entry]]:
    """Yield the entries of a source page by page; other tasks run between.

    Args:
        source: The source.
        advance: Called with the size of each page, when its caller is done with it.

    Raises:
        Failure: The source cannot be read on.
    """
    entries = source.entries()
    while page := list(islice(entries, _PAGE)):
        yield page
        advance(len(page))
        await pause(0)


class Fields(NamedTuple):
    """The options that name the parts of an entry.

    Attributes:
        key: A JSON pointer, or a column.
        date: The same of the date.
        note: The same of the note.
        table: The table of a SQLite file.
    """

    key: str | None = None
    date: str | None = None
    note: str | None = None
    table: str | None = None
