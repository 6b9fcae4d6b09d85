"""Validation of iterables of items, and of functions of an item or a key."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TypeVar

from ._validation import check_note, truncated_repr

T = TypeVar("T")

Note = str | Callable[[str], str | None] | None
"""The note of every key of a batch, or a function that returns the note of a key."""


def check_iterable(items: object, argument: str) -> None:
    """Raise ``TypeError`` unless it is an iterable of keys or items, and no text.

    A text is an iterable of its characters, which is never intended.
    """
    if isinstance(items, Iterable) and not isinstance(items, str | bytes):
        return
    advice = ""
    if isinstance(items, str | bytes):
        advice = "; for one key, put it in a list"
    elif isinstance(items, AsyncIterable):
        advice = "; collect it before: [item async for item in ...]"
    elif isinstance(items, Awaitable):
        advice = "; await it before"
    raise TypeError(
        f"{argument} must be an iterable of keys, not {truncated_repr(items)}{advice}"
    )


def listed(items: Iterable[T], argument: str) -> list[T]:
    """Return the items of an iterable; see ``check_iterable``."""
    check_iterable(items, argument)
    return list(items)


def check_key_function(key: object) -> None:
    """Raise ``TypeError`` unless it is a function of an item, or ``None``."""
    if key is not None and not callable(key):
        raise TypeError(
            "key must be a function that returns the key of an item, not"
            f" {truncated_repr(key)}: for dicts use"
            f" key=operator.itemgetter({truncated_repr(key)}), for objects a lambda,"
            " such as key=lambda item: item.id"
        )


def notes(note: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Return a function that checks the note that a function returns for a key."""
    return lambda key: check_note(note(key), f"note({truncated_repr(key)})")
