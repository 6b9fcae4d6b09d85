"""Durations as text, such as ``"7d"`` or ``"1h30m"``: parsed, and formatted."""

from __future__ import annotations

import re

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TEXT = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS), re.ASCII)

FORMS = "a number of seconds, a timedelta, or a text like '7d', '1h30m', '90s', '500ms'"
"""The allowed forms of a duration, for messages."""


def parse_duration(text: str) -> float:
    """Return the seconds of a text: numbers with units, the largest unit first.

    The units are ``w``, ``d``, ``h``, ``m``, ``s`` and ``ms``; each may occur once. A
    number without a unit is refused: no reader knows whether it means days.

    Raises:
        ValueError: The text has another form.
    """
    match = _TEXT.fullmatch(text)
    if not text or match is None:
        raise ValueError(
            "a text must be numbers with the units w, d, h, m, s, ms, the largest first"
        )
    amounts = zip(match.groups(), _UNITS.values(), strict=True)
    return sum(float(amount) * unit for amount, unit in amounts if amount is not None)


def format_duration(seconds: float) -> str:
    """Return a duration as a text that ``parse_duration`` reads, in whole milliseconds.

    A duration under half a millisecond is ``"0ms"``.
    """
    rest = round(seconds * 1000)
    parts = []
    for unit, length in _UNITS.items():
        amount, rest = divmod(rest, round(length * 1000))
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0ms"
