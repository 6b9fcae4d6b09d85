"""One JSON document: a list, an object of dates, or something with a path to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .._codes import Failure
from .lines import Picker, decode, likely, refuse_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .entries import Entry, Fields
    from .inputs import Input

_MAX_SIZE = 512 * 1024 * 1024
"""The largest document in bytes: it takes several times that in memory."""


@dataclass(frozen=True)
class Document:
    """A JSON document, which is read as a whole."""

    read: Input
    fields: Fields
    unit: str = "item"

    @property
    def kind(self) -> str:
        """A list, or an object."""
        return "a JSON list" if isinstance(self._value, list) else "a JSON object"

    def entries(self) -> Iterator[Entry]:
        """List the keys in the document."""
        if self.fields.key is None:
            self._refuse_structure()
        pick = Picker(self.fields)
        for place, found in enumerate(pick.found(self._value, is_record=False), 1):
            yield pick.entry(place, found)

    @cached_property
    def _value(self) -> object:
        if self.read.size > _MAX_SIZE:
            raise Failure(
                f"is a JSON document of {self.read.size:,} bytes, and"
                f" at most {_MAX_SIZE:,} are read at once: make JSON Lines of it, as"
                " jq -c '.[]' does"
            )
        with self.read.text() as reader:
            text = reader.read()
        try:
            return decode(text)
        except ValueError as exc:
            what = getattr(exc, "msg", exc)
            line = getattr(exc, "lineno", 1)
            raise Failure(
                f"line {line:,} is no JSON: {what}; --as text takes each line as a key"
            ) from None

    def _refuse_structure(self) -> None:
        """Raise ``Failure`` unless it is a list of keys, or an object of dates."""
        value = self._value
        if isinstance(value, list):
            first = next((one for one in value if isinstance(one, dict | list)), None)
            refuse_fields(first)
            if isinstance(first, list):
                raise Failure(
                    "is a list of lists: name the place of the key in each, such as"
                    " --key /0 --date /1"
                )
        elif isinstance(value, dict):
            inner = [
                name
                for name, at in value.items()
                if isinstance(at, list) or (isinstance(at, dict) and at)
            ]
            if inner:
                raise Failure(_path_to(likely(inner), value))
        else:
            raise Failure("is a single JSON value: a list or an object is needed")


def _path_to(name: str, document: dict[str, object]) -> str:
    """Return what to do about an object in which a list or an object has the keys."""
    elements = document[name]
    first = elements[0] if isinstance(elements, list) and elements else None
    field = f"/{likely(list(first))}" if isinstance(first, dict) and first else ""
    path = name.replace("~", "~0").replace("/", "~1")
    return (
        f"is an object with the fields {', '.join([*document][:8])}: name where the"
        f" keys are, such as --key '/{path}{field}'; --key '' if these are the keys"
    )
