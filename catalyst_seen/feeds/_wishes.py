"""What a server asks for in the head of an answer: when to come again."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[\s,])no-(?:cache|store)\b", re.IGNORECASE)
_SECONDS = re.compile(r"\d{1,300}(?:\.\d*)?", re.ASCII)


def retry_after(headers: Mapping[str, str], now: float, most: float) -> float | None:
    """Return for how many seconds a server wants no request; ``None`` without a wish.

    ``Retry-After`` has seconds or a date. A date is compared with the time of the
    server, if the answer has it: its clock and ours may differ.

    Args:
        headers: The head of the answer.
        now: Our time.
        most: The longest wait; a server may have said a year by mistake.
    """
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        wait = float(text)
    else:
        until = _instant(text)
        if until is None:
            return None
        wait = until - (_instant(headers.get("Date", "")) or now)
    return min(wait, most) if wait > 0 else None


def max_age(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds the answer stays fresh; ``None`` without a wish."""
    wishes = headers.get("Cache-Control", "")
    match = _MAX_AGE.search(wishes)
    if match is None or _NOT_KEPT.search(wishes):
        return None
    age = headers.get("Age", "").strip()
    return max(float(match[1]) - (float(age) if _SECONDS.fullmatch(age) else 0.0), 0.0)


def _instant(text: str) -> float | None:
    """Return the seconds since 1970 of an HTTP date; ``None`` if it is none."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
