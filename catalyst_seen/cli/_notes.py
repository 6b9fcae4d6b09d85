"""Notes in short: the title of an entry, or how a text begins."""

from __future__ import annotations

import json
from typing import Any

_LONGEST = 120
_IS_ENTRY = {"recipe", "title", "link", "summary", "published", "feed"}
"""What ``Entry.to_json`` writes; an entry has at least one of them."""


def entry_of(note: str) -> dict[str, Any] | None:
    """Return the fields of the entry of a feed that is in a note; else ``None``."""
    if not note.startswith("{"):
        return None
    try:
        known = json.loads(note)
    except (ValueError, RecursionError):
        return None
    return known if isinstance(known, dict) and _IS_ENTRY & known.keys() else None


def shortened(note: str) -> str:
    """Return one line that tells a person what a note is about."""
    entry = entry_of(note) or {}
    named = (entry.get("title"), entry.get("link"))
    text = next((text for text in named if text and isinstance(text, str)), note)
    line = " ".join(text[: _LONGEST * 4].split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
