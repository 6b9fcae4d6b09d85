"""Text with a key in each line, and JSON Lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._codes import Failure
from .entries import Entry, Number
from .pointers import MISSING, Found, find, names_of, value_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .entries import Fields
    from .inputs import Input

_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number)
"""Reads numbers as they are written; what is not finite is a float."""


def decode(text: str) -> object:
    """Return the value of a JSON document.

    Raises:
        ValueError: It is none.
    """
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return value


def values(lines: Iterable[str]) -> Iterator[tuple[int, object, str | None]]:
    """Yield the number of each line that is not blank, its JSON value, and a problem.

    The problem is ``None``, or why the line is no JSON.
    """
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        value, problem = None, None
        try:
            value = decode(line)
        except ValueError as exc:
            problem = f"is no JSON: {getattr(exc, 'msg', exc)}"
        yield place, value, problem


@dataclass(frozen=True)
class Text:
    """A key in each line; blank lines have none."""

    read: Input
    kind: str = "a text"
    unit: str = "line"

    def entries(self) -> Iterator[Entry]:
        """List the lines."""
        for place, line in enumerate(self.read.lines(), 1):
            key = line.rstrip("\r\n")
            if key and not key.isspace():
                yield Entry(place, key)


@dataclass(frozen=True)
class JsonLines:
    """A JSON value in each line: a key, or an object with one."""

    read: Input
    fields: Fields
    kind: str = "JSON Lines"
    unit: str = "line"

    def entries(self) -> Iterator[Entry]:
        """List the keys of the lines."""
        pick = Picker(self.fields)
        for place, value, problem in values(self.read.lines()):
            if problem is not None:
                yield Entry(place, None, problem=problem)
                continue
            for found in pick.found(value, is_record=True):
                yield pick.entry(place, found)


class Picker:
    """Picks keys, dates and notes out of JSON values."""

    def __init__(self, fields: Fields) -> None:
        self._is_named = fields.key is not None
        self._key = names_of(fields.key or "", "--key")
        self._date = _names(fields.date, "--date")
        self._note = _names(fields.note, "--note")

    def found(self, value: object, *, is_record: bool) -> Iterator[Found]:
        """Yield where the keys of a value are.

        Raises:
            Failure: It has fields, and it is not said which is the key.
        """
        if is_record and not self._is_named:
            refuse_fields(value)
            yield Found(value, value, 0)
            return
        if isinstance(value, list) and not self._is_named:
            yield from (Found(element, element, 0) for element in value)
            return
        yield from find(value, self._key, is_record=is_record)

    def entry(self, place: int, found: Found) -> Entry:
        """Return the entry of a key; the value of an object's field is its date."""
        if found.value is MISSING:
            pointer = "/" + "/".join(self._key)
            return Entry(place, None, problem=f"has nothing at {pointer}")
        date = note = None
        if self._date is not None:
            date = value_at(found, self._date, self._key)
        elif found.value is not found.record and found.depth == len(self._key):
            date = found.record  # the field of an object
        if self._note is not None:
            note = value_at(found, self._note, self._key)
        return Entry(place, found.value, date, note)


def refuse_fields(value: object) -> None:
    """Raise ``Failure`` if a value is an object, and name its fields."""
    if isinstance(value, dict) and value:
        names = list(value)
        shown = ", ".join(names[:8])
        raise Failure(
            f"its objects have the fields {shown}: name the one that is the key, such"
            f" as --key /{likely(names)}"
        )


def likely(names: list[str]) -> str:
    """Return the name that is most probably that of the keys."""
    usual = ("key", "id", "guid", "uid", "uuid", "url", "link", "value", "hash")
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), names[0])


def _names(pointer: str | None, option: str) -> list[str] | None:
    return None if pointer is None else names_of(pointer, option)
