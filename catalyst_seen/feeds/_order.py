"""The order in which entries are handled: oldest first, where dates allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ._listing import Entry


def oldest_first(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return entries oldest first if most of them have a date, else as listed.

    Sources list the newest first. So entries of the same date are reversed, unless the
    listing as a whole is the other way round; one without a date stays with the older
    one beside it.
    """
    dates = [entry.published for entry in entries if entry.published]
    if 2 * len(dates) <= len(entries):
        return tuple(entries)
    in_order = entries if dates[0] < dates[-1] else entries[::-1]
    dated: list[tuple[datetime, Entry]] = []
    date = min(dates)
    for entry in in_order:
        date = entry.published or date
        dated.append((date, entry))
    return tuple(entry for _, entry in sorted(dated, key=lambda pair: pair[0]))
