"""The first pass of an import: everything is checked before anything is written."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .._output import printable
from .._values import problem_of
from .dates import instant_of
from .entries import UNSET, Number, pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from .entries import Entry, Source

_SHOWN = 10
_AHEAD = 86_400.0  # of a clock in another zone
_SURROGATES = "\udc80", "\udcff"


class Item(NamedTuple):
    """A key as it is written.

    Attributes:
        namespace: Its namespace.
        key: The key.
        seen: When it was seen; ``None`` is now.
        first: When it was first seen; ``None`` is ``seen``.
        expires: From when on it is unseen; ``None`` is never.
        note: Its note.
    """

    namespace: str
    key: str
    seen: float | None
    first: float | None
    expires: float | None
    note: str | None


@dataclass(frozen=True)
class Terms:
    """How entries become items.

    Attributes:
        namespace: That of the keys; ``None`` is that of each, or ``""``.
        ttl: Their TTL in seconds; ``None`` is never.
        is_own_ttl: Was it given with the command? It replaces that of an export.
        is_from_now: Does it count from now, and not from the date?
        now: The time of the command.
    """

    namespace: str | None
    ttl: float | None
    is_own_ttl: bool
    is_from_now: bool
    now: float = field(default_factory=time.time)

    def item(self, entry: Entry) -> Item:
        """Return the item of an entry.

        Raises:
            ValueError: Its key, its namespace or its note cannot be stored; or its
                expiry is no date.
        """
        if entry.problem is not None:
            raise ValueError(entry.problem)
        namespace = self.namespace
        if namespace is None:
            namespace = "" if entry.namespace is None else _text(entry.namespace)
        note = None if entry.note is None else _note(entry.note)
        key = _text(entry.key)
        problem = problem_of(namespace, key, note)
        if problem is not None:
            raise ValueError(_explained(key, problem))
        return self._dated(entry, Item(namespace, key, None, None, None, note))

    def _dated(self, entry: Entry, item: Item) -> Item:
        seen = instant_of(entry.date)
        if seen is not None and seen > self.now + _AHEAD:
            seen = None
        first = None if seen is None else instant_of(entry.first)
        if first is not None and seen is not None and first >= seen:
            first = None
        expires = self._expiry(entry, seen)
        return item._replace(seen=seen, first=first, expires=expires)

    def _expiry(self, entry: Entry, seen: float | None) -> float | None:
        is_kept = entry.expires != UNSET and not (self.is_own_ttl or self.is_from_now)
        if is_kept:
            return _own_expiry(entry.expires)
        if self.ttl is None:
            return None
        begin = self.now if self.is_from_now or seen is None else seen
        return begin + self.ttl

    def counts_from_now(self, item: Item) -> bool:
        """Does an item expire one TTL after it is written?"""
        end = None if self.ttl is None else self.now + self.ttl
        return item.seen is None and item.expires == end

    def is_over(self, item: Item) -> bool:
        """Would the key of an item be unseen at once?"""
        return item.expires is not None and item.expires <= self.now


@dataclass
class Findings:
    """What the first pass has found.

    Attributes:
        keys: Number of entries with a key that can be stored.
        dated: Number of those with a date.
        undatable: Number of those that have a date which is none.
        example: One of these dates, and where it is.
        over: Number of those that would be unseen at once.
        expiring: Number of those that have an expiry of their own.
        left_out: Number of entries by the state that is not imported.
        bad: Number of entries that cannot be stored.
        problems: The first of them, a line each.
        namespaces: Some of the namespaces.
        nameless: Number of keys that the input gives no namespace.
    """

    keys: int = 0
    dated: int = 0
    undatable: int = 0
    example: str = ""
    over: int = 0
    expiring: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    bad: int = 0
    problems: list[str] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    nameless: int = 0

    def add(self, entry: Entry, source: Source, terms: Terms) -> None:
        """Check an entry."""
        where = f"{source.unit} {entry.place:,}"
        if entry.state != "seen":
            self.left_out[entry.state] = self.left_out.get(entry.state, 0) + 1
            return
        try:
            item = terms.item(entry)
        except ValueError as exc:
            self._add_bad(f"{where}: {exc}")
            return
        self.keys += 1
        self.dated += item.seen is not None
        self.nameless += entry.namespace is None
        self.over += terms.is_over(item)
        self.expiring += entry.expires != UNSET
        if item.seen is None and _is_meant_as_date(entry.date):
            self.undatable += 1
            self.example = self.example or f"{_shown(entry.date)} in {where}"
        if len(self.namespaces) <= 1 and isinstance(entry.namespace, str):
            self.namespaces.add(entry.namespace)

    def _add_bad(self, problem: str) -> None:
        self.bad += 1
        if self.bad <= _SHOWN:
            self.problems.append(problem)


async def check(
    source: Source, terms: Terms, advance: Callable[[int], None]
) -> Findings:
    """Check every entry of a source; other tasks run between."""
    findings = Findings()
    async for page in pages(source, advance):
        for entry in page:
            findings.add(entry, source, terms)
    return findings


def _own_expiry(value: object) -> float | None:
    """Return when a key of an export expires.

    Raises:
        ValueError: That is no date: taken for "never" it would be kept for ever.
    """
    if value is None:
        return None
    instant = instant_of(value)
    if instant is None:
        raise ValueError(f"its expiry is {_shown(value)}, and no date")
    return instant


def _text(value: object) -> str:
    """Return the text of a key.

    Raises:
        ValueError: It is neither a text nor a number.
    """
    if type(value) is str:
        return value
    if isinstance(value, Number):
        return str.__str__(value)
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no key")  # noqa: TRY004 - of a file
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)  # of SQLite
    what = {dict: "an object", list: "a list", bytes: "binary", float: "no number"}
    if value is None:
        raise ValueError("has no key")
    raise ValueError(f"the key is {what.get(type(value), 'no text')}, and not a text")


def _note(value: object) -> str:
    if isinstance(value, bytes):
        raise ValueError("the note is binary, and not a text")  # noqa: TRY004
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)


def _explained(key: str, problem: str) -> str:
    """Return a problem of a key, and how to convert a file that is not UTF-8."""
    if any(_SURROGATES[0] <= c <= _SURROGATES[1] for c in key):
        return "is no UTF-8: convert it first, such as by iconv -f LATIN1 -t UTF-8"
    return printable(problem)


def _is_meant_as_date(value: object) -> bool:
    return value is not None and not isinstance(value, bool | dict | list)


def _shown(value: object) -> str:
    text = printable(str(value))
    return repr(text if len(text) <= 40 else f"{text[:40]}...")  # noqa: PLR2004
