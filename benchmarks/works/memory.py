"""What a poller of many feeds keeps in memory, to answer for unchanged listings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import children
from benchmarks.feeds import ITEMS
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work
from benchmarks.remembering import SET

if TYPE_CHECKING:
    from benchmarks.arena import Arena
    from benchmarks.measure import Run

_FEEDS, _FEEDS_QUICK = 5_000, 500
_FORMS = {OURS: "check_and_mark_many", f"{OURS}, filter_new": "filter_new"}


def _remembering(form: str) -> Run:
    async def run(arena: Arena) -> Outcome:
        feeds = _FEEDS_QUICK if arena.is_quick else _FEEDS
        figures = await children.figures(
            "remembering", form, str(arena.file), str(feeds)
        )
        scaled = figures["memory"] * _FEEDS / feeds
        return Outcome({**figures, "memory": scaled})

    return run


MEMORY = Work(
    "feeds-memory",
    f"memory of the cache after unchanged polls of {_FEEDS:,} feeds of {ITEMS} items",
    (
        Measure("memory", "MB", goals=(Goal(5),)),
        Measure("hits", "%", more_is_better=True, goals=(Goal(99),)),
    ),
    {
        **{name: _remembering(form) for name, form in _FORMS.items()},
        "a set of keys": _remembering(SET),
    },
    quick=f"{_FEEDS_QUICK} feeds only, and ten times their memory",
    is_long=True,
)
"""Memory that Python has allocated, and how much of the last poll it has answered."""
