"""Dates as other programs write them, in seconds since 1970."""

from __future__ import annotations

import math
import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from .._values import is_instant
from .entries import Number

_MILLISECONDS = 1e11  # as seconds it is the year 5138, as milliseconds 1973
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)


def instant_of(value: object) -> float | None:
    """Return the instant that a value is; ``None`` if it is no date.

    It is a date of ISO 8601 or RFC 2822, or the seconds or milliseconds since 1970. A
    date without a zone has the time of this machine. An instant before 2000 is no date:
    a program that never had one has written 0.
    """
    if isinstance(value, bool):
        return None
    try:
        found = _instant(value)
    except (ValueError, OverflowError, OSError):
        return None
    return found if found is not None and is_instant(found) else None


def _instant(value: object) -> float | None:
    if isinstance(value, int | float | Number):
        return _of_number(float(value))
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        instant = _of_number(float(text))
        if is_instant(instant):
            return instant
    return _of_text(text).timestamp()


def _of_number(number: float) -> float:
    if not math.isfinite(number):
        return 0.0
    while number >= _MILLISECONDS:  # or microseconds, or nanoseconds
        number /= 1000
    return number


def _of_text(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)
