"""Which entries are wanted, by plain texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalyst_seen.feeds import Entry


@dataclass(frozen=True)
class EntryFilter:
    """Texts to find in the title or the summary of an entry, in any case.

    Attributes:
        include: One of these must be there, if there are any.
        exclude: None of these may be there.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def wants(self, entry: Entry) -> bool:
        """Is an entry wanted?"""
        text = f"{entry.title}\n{entry.summary}".casefold()
        if any(each.casefold() in text for each in self.exclude):
            return False
        return not self.include or any(e.casefold() in text for e in self.include)
