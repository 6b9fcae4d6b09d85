"""The form of an export: a JSON object a key, after a line that says what it is.

What is as usual is left out: the namespace ``""``, the state ``seen``, a first sighting
that is the last one, an expiry that is never. Instants are rounded to milliseconds, so
that a key which was imported is exported by the same bytes on every database.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .._output import rfc3339

if TYPE_CHECKING:
    from catalyst_seen import Record

HEADER = "catalyst-seen"
VERSION = 1


def header() -> str:
    """Return the first line."""
    return _line({HEADER: "export", "version": VERSION})


def line_of(record: Record) -> str:
    """Return the line of a key."""
    seen = _instant(record.last_seen)
    first = _instant(record.first_seen)
    is_seen = record.state == "seen"
    parts = {
        "namespace": record.namespace or None,
        "key": record.key,
        "state": None if is_seen else record.state,
        "seen": seen,
        "first": None if first == seen else first,
        "expires": _instant(record.expires_at),
        "until": _instant(record.until),
        "attempt": record.attempt or None,
        "note": record.note,
        "error": record.error,
    }
    return _line({name: part for name, part in parts.items() if part is not None})


def _instant(instant: float | None) -> str | None:
    return None if instant is None else rfc3339(round(instant, 3))


def _line(parts: dict[str, object]) -> str:
    # As ASCII where a character would divide or hide a line in an editor.
    text = json.dumps(parts, ensure_ascii=False, separators=(", ", ": "))
    return text if text.isprintable() else json.dumps(parts)
