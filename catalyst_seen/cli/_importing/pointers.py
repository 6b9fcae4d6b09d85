"""JSON pointers that go through lists: ``/items/id`` is the id of every item."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._codes import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = object()
"""What is found where nothing is."""


class Found(NamedTuple):
    """A value that a pointer leads to.

    Attributes:
        value: The value.
        record: The element of a list that it belongs to, or the document.
        depth: How many names of the pointer lead to that.
    """

    value: object
    record: object
    depth: int


def names_of(pointer: str, option: str) -> list[str]:
    """Return the names of a pointer such as ``/items/id``.

    Raises:
        Failure: It does not begin with a slash.
    """
    if pointer and not pointer.startswith("/"):
        raise Failure(
            f"{option} {pointer}: fields of JSON are named by their path:"
            f" {option} /{pointer}"
        )
    names = pointer.split("/")[1:]
    return [name.replace("~1", "/").replace("~0", "~") for name in names]


def find(value: object, names: list[str], *, is_record: bool) -> Iterator[Found]:
    """Yield what a pointer leads to, of every element of the lists on its way.

    A name leads to the element of a list only if it is a number, and the list itself is
    an element of another.

    Args:
        value: A document.
        names: Those of the pointer.
        is_record: Is the document one record, as a line of JSON Lines is?
    """
    yield from _walk(Found(value, value if is_record else None, 0), names, 0)


def value_at(found: Found, names: list[str], key_names: list[str]) -> object:
    """Return another value of the record that a key belongs to.

    Args:
        found: What the pointer of the key led to.
        names: Those of the other pointer.
        key_names: Those of the key's.
    """
    rest = names
    if names[: found.depth] == key_names[: found.depth]:
        rest = names[found.depth :]
    value = found.record
    for name in rest:
        value = _child(value, name)
    return None if value is MISSING else value


def _walk(at: Found, names: list[str], done: int) -> Iterator[Found]:
    if isinstance(at.value, list) and not _is_index(at, names, done):
        for element in at.value:
            yield from _walk(Found(element, element, done), names, done)
    elif done < len(names):
        child = _child(at.value, names[done])
        record, depth = (at.value, done) if at.record is None else at[1:]
        yield from _walk(Found(child, record, depth), names, done + 1)
    elif isinstance(at.value, dict):
        for name, value in at.value.items():  # its names are the keys
            yield Found(name, value, done)
    else:
        yield at


def _is_index(at: Found, names: list[str], done: int) -> bool:
    is_element = at.record is at.value and at.depth == done
    return is_element and done < len(names) and names[done].isdecimal()


def _child(value: object, name: str) -> object:
    if isinstance(value, dict):
        return value.get(name, MISSING)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return MISSING
