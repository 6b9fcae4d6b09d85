"""Notes in short: the title of an entry, or how a text begins."""

from __future__ import annotations

import json
from typing import Any

_LONGEST, _LONGEST_TITLE, _LONGEST_LINK = 120, 1_000, 2_048
_SKIPPED = "skipped"
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


def skipped(title: str, link: str) -> str:
    """Return the note of an entry that --include, --exclude or --max-age left out."""
    note = {"title": title[:_LONGEST_TITLE], "link": link[:_LONGEST_LINK]}
    return json.dumps({**note, _SKIPPED: True}, ensure_ascii=False)


def is_skipped(note: str | None) -> bool:
    """Is it the note of such an entry?"""
    entry = entry_of(note) if note else None
    return entry is not None and entry.get(_SKIPPED) is True


def shortened(note: str) -> str:
    """Return one line that tells a person what a note is about."""
    entry = entry_of(note) or {}
    named = (entry.get("title"), entry.get("link"))
    text = next((text for text in named if text and isinstance(text, str)), note)
    line = " ".join(text[: _LONGEST * 4].split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
