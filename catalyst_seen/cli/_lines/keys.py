"""The key of a line: the line, or the part of it that an expression finds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import click

from catalyst_seen.keys import storable

_PLAIN_LENGTH = 2_048
_FIRST, _LAST = itemgetter(0), itemgetter(-1)

Part = Callable[[str], str | None]
"""Finds the part of a line that identifies it; ``None`` if the line has none."""


class LineKeys:
    """Finds the keys of lines.

    Different lines never have the same key by accident: what cannot be stored as a key,
    because it is long, or no text, is represented by its SHA-256.
    """

    def __init__(
        self,
        part: Part | None = None,
        *,
        ignores_case: bool = False,
        trims: bool = False,
    ) -> None:
        """Choose what of a line counts.

        Args:
            part: Finds the part of it; ``None`` is the whole line.
            ignores_case: Are upper and lower case the same?
            trims: Do blanks at either end count for nothing?
        """
        self._part = part
        self._ignores_case = ignores_case
        self._trims = trims

    def of(self, line: bytes) -> str | None:
        """Return the key of a line; ``None`` if it has none."""
        text: str | None = text_of(line)
        if self._part is not None and text:
            text = self._part(text)
        if not text or text.isspace():
            return None
        if self._trims:
            text = text.strip()
        return storable(text.casefold() if self._ignores_case else text)

    def of_all(self, lines: list[bytes]) -> list[str | None]:
        """Return the keys of lines; fast if each is its own key."""
        if self._part is None and not self._ignores_case and lines:
            joined = b"\n".join(lines)
            if joined.isascii() and b"\r" not in joined and b"\0" not in joined:
                keys = joined.decode("ascii").split("\n")
                if _are_plain(keys):
                    return [*keys]
        return [self.of(line) for line in lines]


def _are_plain(keys: list[str]) -> bool:
    """Is each key storable, and neither blank nor with a blank at its ends?"""
    return (
        all(keys)
        and max(map(len, keys)) <= _PLAIN_LENGTH
        and min(map(_FIRST, keys)) > " " < min(map(_LAST, keys))
    )


def text_of(line: bytes) -> str:
    """Return a line as text, without its line end; any bytes have one."""
    return line.decode("utf-8", "surrogateescape").removesuffix("\r")


def part(expression: str) -> Part:
    """Return what finds the part of a line; the ``type=`` of ``--key``.

    Args:
        expression: A JSON pointer, which begins with ``/``, or a regular expression.
    """
    if expression.startswith("/"):
        return _Pointer(expression)
    try:
        return _Pattern(re.compile(expression))
    except (re.error, OverflowError, RecursionError) as exc:
        raise click.BadParameter(
            f"{expression!r} is neither a JSON pointer, such as /id, nor a regular"
            f" expression: {exc}"
        ) from None


class _Pattern:
    """Finds the first group of a regular expression, or all that it matches."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._group = min(pattern.groups, 1)

    def __call__(self, text: str) -> str | None:
        match = self._pattern.search(text)
        return match and match[self._group]


class _Pointer:
    """Finds the text or number at a JSON pointer (RFC 6901)."""

    def __init__(self, pointer: str) -> None:
        self._steps = [
            step.replace("~1", "/").replace("~0", "~")
            for step in pointer.split("/")[1:]
        ]

    def __call__(self, text: str) -> str | None:
        try:
            value = _DECODER.decode(text)
        except (ValueError, RecursionError):
            return None
        for step in self._steps:
            value = _member(value, step)
        return value if isinstance(value, str) else None


def _member(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return None


_DECODER = json.JSONDecoder(
    parse_int=str, parse_float=str, parse_constant=lambda _: None
)
"""A number keeps the digits that it is written with."""
