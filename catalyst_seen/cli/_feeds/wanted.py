"""Which entries are wanted: by plain texts, and by age."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalyst_seen.feeds import Entry


@dataclass(frozen=True)
class EntryFilter:
    """What is asked of an entry.

    Attributes:
        include: One of these must be in its title or summary, in any case, if there are
            any.
        exclude: None of these may be there.
        max_age: Seconds since its publication, at most; ``None`` is any number. An
            entry without a date is wanted.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_age: float | None = None

    def wants(self, entry: Entry) -> bool:
        """Is an entry wanted?"""
        text = f"{entry.title}\n{entry.summary}".casefold()
        if any(each.casefold() in text for each in self.exclude):
            return False
        if self.include and not any(e.casefold() in text for e in self.include):
            return False
        if self.max_age is None or entry.published is None:
            return True
        return time.time() - entry.published.timestamp() <= self.max_age
