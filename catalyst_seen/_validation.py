"""Validation of keys, namespaces, durations, instants and choices, for all backends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING

from ._durations import FORMS, parse_duration
from ._errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import EllipsisType

MAX_KEY_BYTES = 2_048
"""UTF-8 bytes of a key, below the 2,704 bytes of a PostgreSQL B-tree entry."""

MAX_NAMESPACE_BYTES = 2_048
"""UTF-8 bytes of a namespace: a URL of a news search has hundreds."""

MAX_NOTE_BYTES = 65_536
"""UTF-8 bytes of a note."""

MIN_SECONDS = 0.001
"""The shortest duration: shorter than a call, and large enough to change a float64 of
the current time when it is added."""

MAX_SECONDS = 36_525 * 86_400.0
"""The longest duration, a hundred years; "never" is ``None``."""

YEAR_2000 = 946_684_800.0
"""The beginning of the year 2000, in seconds since 1970."""

MAX_TIMESTAMP = 253_402_300_800.0
"""The end of the year 9999, in seconds since 1970."""

_DIGEST = "if the text is the identity, use its hashlib.sha256(...).hexdigest()"
_SHORTER = {"note": "store it elsewhere, and note where"}
_BREAKS = "\r\n"
_MAX_REPR = 60
_FIRST, _LAST = itemgetter(0), itemgetter(-1)

Duration = float | timedelta | str
"""Seconds, a ``timedelta``, or a text such as ``"7d"``, ``"90s"`` or ``"1h30m"``."""


def check_key(
    key: str, argument: str = "key", *, may_end_in_break: bool = False
) -> str:
    """Return a valid key, as a plain ``str``.

    Args:
        key: The key.
        argument: Its argument, for errors.
        may_end_in_break: Accept a line break at either end. Older versions stored such
            keys, so a verb that ends a key accepts them.

    Raises:
        TypeError: The key is not a ``str``.
        InvalidKeyError: The key is empty, blank or too long, it contains a NUL or a
            lone surrogate, or begins or ends with a line break.
    """
    if _is_plain(key):
        return key
    check_text(key, argument, MAX_KEY_BYTES)
    if not key or key.isspace():
        raise InvalidKeyError(
            argument, f"{key!r} is empty or blank; a key must name one item"
        )
    if (key[-1] in _BREAKS or key[0] in _BREAKS) and not may_end_in_break:
        raise InvalidKeyError(
            argument,
            f"{truncated_repr(key)} begins or ends with a line break, like a line of a"
            " file that still has its \\n: use key.strip()",
        )
    return _plain(key)


def check_keys(
    keys: Sequence[str], argument: str, first: int, *, may_end_in_break: bool = False
) -> Sequence[str]:
    """Return valid keys, each as a plain ``str``; see ``check_key``.

    Raises:
        TypeError: A key is not a ``str``.
        InvalidKeyError: A key is invalid; the error names its index.
    """
    if _are_plain(keys):
        return keys
    return [
        check_key(key, f"{argument}[{index}]", may_end_in_break=may_end_in_break)
        for index, key in enumerate(keys, first)
    ]


def _is_plain(key: object) -> bool:
    """Is the key valid by checks that are fast? Nearly all keys pass them."""
    return (
        type(key) is str
        and key.isascii()
        and 0 < len(key) <= MAX_KEY_BYTES
        and key[0] > " " < key[-1]  # neither blank nor a line break, at either end
        and "\0" not in key
    )


def _are_plain(keys: Sequence[str]) -> bool:
    """Are all keys valid by checks that are fast? Most of them run in C."""
    if {*map(type, keys)} != {str} or not all(keys):
        return False
    text = "".join(keys)
    return (
        text.isascii()
        and "\0" not in text
        and max(map(len, keys)) <= MAX_KEY_BYTES
        and min(map(_FIRST, keys)) > " " < min(map(_LAST, keys))
    )


def _plain(text: str) -> str:
    """Return the text of a ``str``, without what a subclass holds besides.

    The strings of a parser refer to their whole document, which the cache of recent
    keys would keep in memory.
    """
    return text if type(text) is str else str.__str__(text)


def check_namespace(namespace: str, argument: str = "namespace") -> str:
    """Return a valid namespace, as a plain ``str``; it may be empty.

    Raises:
        TypeError: The namespace is not a ``str``.
        InvalidKeyError: The namespace is blank or too long, or it contains a NUL or a
            lone surrogate.
    """
    check_text(namespace, argument, MAX_NAMESPACE_BYTES)
    if namespace.isspace():
        raise InvalidKeyError(
            argument, f'{namespace!r} is blank; the default namespace is ""'
        )
    return _plain(namespace)


def check_note(note: str | None, argument: str = "note") -> str | None:
    """Return a valid note, as a plain ``str``; ``None`` is no note.

    Raises:
        TypeError: The note is neither a ``str`` nor ``None``.
        InvalidKeyError: The note is too long, or it contains a NUL or a lone surrogate.
    """
    if note is None:
        return None
    check_text(note, argument, MAX_NOTE_BYTES)
    return _plain(note)


def check_prefix(prefix: str) -> str:
    """Return how keys begin, as a plain ``str``; it may be empty."""
    check_text(prefix, "prefix", MAX_KEY_BYTES)
    return _plain(prefix)


def check_text(text: str, argument: str, limit: int) -> None:
    """Raise unless it is a text of at most ``limit`` bytes, without a NUL.

    Raises:
        TypeError: Not a ``str``.
        InvalidKeyError: It is too long, or it contains a NUL or a lone surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"{argument} must be a str, not {type(text).__name__}:"
            f" {truncated_repr(text)}; {_conversion(text, argument)}"
        )
    if "\0" in text:
        raise InvalidKeyError(argument, f"{truncated_repr(text)} holds a NUL character")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(
            argument,
            f"{truncated_repr(text)} holds a lone surrogate, which has no UTF-8 form",
        ) from None
    if size > limit:
        raise InvalidKeyError(
            argument,
            f"{truncated_repr(text)} is {size:,} bytes of UTF-8, {limit:,} are allowed;"
            f" {_SHORTER.get(argument, _DIGEST)}",
        )


def _conversion(value: object, argument: str) -> str:
    """Return how a value that is no text becomes a key."""
    if isinstance(value, bytes | bytearray):
        return f"decode it: {argument}.decode()"
    if value is None:
        return "an item without a key cannot be remembered: choose another field of it"
    if argument.startswith("key of items"):
        return "pass key=, a function that returns the key of an item as a str"
    if isinstance(value, Mapping):
        return "choose the field of it that identifies the item"
    if isinstance(value, Iterable):
        return "a key is one text; several keys go into a verb whose name ends in _many"
    return f"use str({argument})"


def truncated_repr(value: object) -> str:
    """Return the ``repr`` of a value, truncated to fit a message."""
    text = repr(value)
    if len(text) <= _MAX_REPR:
        return text
    return f"{text[:_MAX_REPR]}..."


def seconds_or_never(duration: Duration | None, argument: str) -> float | None:
    """Return a duration in seconds; ``None`` means never, and stays ``None``.

    Raises:
        TypeError: Not a duration, or a ``bool``.
        ValueError: Under a millisecond, not finite, or over a hundred years; or a text
            of another form.
    """
    if duration is None:
        return None
    return _seconds(duration, argument, MIN_SECONDS, "; None means never")


def seconds(duration: Duration, argument: str, least: float = MIN_SECONDS) -> float:
    """Return a finite duration in seconds.

    Raises:
        TypeError: Not a duration, or a ``bool``.
        ValueError: Under ``least`` seconds, not finite, or over a hundred years; or a
            text of another form.
    """
    return _seconds(duration, argument, least, "")


def _seconds(duration: Duration, argument: str, least: float, advice: str) -> float:
    if isinstance(duration, str):
        try:
            length = parse_duration(duration)
        except ValueError as exc:
            raise ValueError(
                f"{argument} must be {FORMS}, not {truncated_repr(duration)}: {exc}"
            ) from None
    elif isinstance(duration, timedelta):
        length = duration.total_seconds()
    else:
        length = number(duration, argument, FORMS)
    if not least <= length <= MAX_SECONDS:
        raise ValueError(
            f"{argument} must be at least {least:g} seconds and at most 100 years,"
            f" not {truncated_repr(duration)}{advice}"
        )
    return length


def timestamp(ts: float, now: Callable[[], float], argument: str = "ts") -> float:
    """Return an instant in seconds since 1970.

    Args:
        ts: The instant.
        now: The clock of the store. An instant before 2000 is a duration by mistake,
            unless this clock is there as well.
        argument: Its argument, for errors.

    Raises:
        TypeError: Not a number, or a ``bool``.
        ValueError: Not finite, before 2000 or after the year 9999.
    """
    if isinstance(ts, datetime):
        raise TypeError(
            f"{argument} must be seconds since 1970, not datetime:"
            f" {truncated_repr(ts)}; use {argument}.timestamp()"
        )
    instant = number(ts, argument, "seconds since 1970")
    if not 0 <= instant < MAX_TIMESTAMP:
        raise ValueError(
            f"{argument} must be seconds since 1970, before the year 10000,"
            f" not {truncated_repr(ts)}; milliseconds must be divided by 1000"
        )
    if instant < YEAR_2000 <= now():
        advice = f"; a time to live is passed by name: ttl={ts!r}"
        raise ValueError(
            f"{argument} must be seconds since 1970, after the year 2000, not"
            f" {ts!r}{advice if argument == 'ts' else ''}"
        )
    return instant


def ttl_seconds(
    ttl: Duration | EllipsisType | None, default: float | None
) -> float | None:
    """Return a TTL in seconds; ``None`` is "never", and ``...`` the default.

    Raises:
        TypeError: It is not a duration.
        ValueError: It is out of range.
    """
    return default if ttl is ... else seconds_or_never(ttl, "ttl")


def days(age: float, argument: str) -> float:
    """Return an age in days as seconds; zero is allowed.

    Raises:
        TypeError: Not a number, or a ``bool``.
        ValueError: Negative, not finite, or over a hundred years.
    """
    length = number(age, argument, "a number of days") * 86_400
    if not 0 <= length <= MAX_SECONDS:
        raise ValueError(
            f"{argument} must be at least 0 and at most 36,525 days, not {age!r}"
        )
    return length


def number(value: float, argument: str, wanted: str) -> float:
    """Return a number as a float; one that is too large, as infinity.

    Raises:
        TypeError: Not a number, or a ``bool``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{argument} must be {wanted}, not {type(value).__name__}:"
            f" {truncated_repr(value)}"
        )
    try:
        return float(value)
    except OverflowError:
        return math.inf


def check_choice(value: str, allowed: tuple[str, ...], setting: str) -> None:
    """Raise ``ValueError`` unless the value is one of the allowed ones."""
    if value not in allowed:
        raise ValueError(
            f"{setting} must be one of {', '.join(allowed)}, not {value!r}"
        )


def check_flag(value: bool, argument: str) -> None:  # noqa: FBT001 - the value
    """Raise ``TypeError`` unless the value is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {value!r}")
