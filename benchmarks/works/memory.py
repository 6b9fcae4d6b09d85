"""What a poller of many feeds keeps in memory, to answer for unchanged listings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import children
from benchmarks.feeds import ITEMS
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work
from benchmarks.remembering import FORMS, SET

if TYPE_CHECKING:
    from benchmarks.arena import Arena

_FEEDS, _FEEDS_QUICK = 5_000, 250


async def _ours(arena: Arena) -> Outcome:
    """Measure each form of a poll in a process of its own."""
    figures, hits = {}, []
    for form in FORMS:
        arena.tell(form)
        figures[form], some = await _remembering(form, arena)
        hits.append(some)
    return Outcome({**figures, "hits": min(hits)})


async def _set(arena: Arena) -> Outcome:
    """Measure a set, for which the form does not matter."""
    memory, hits = await _remembering(SET, arena)
    return Outcome({**dict.fromkeys(FORMS, memory), "hits": hits})


async def _remembering(form: str, arena: Arena) -> tuple[float, float]:
    feeds = _FEEDS_QUICK if arena.is_quick else _FEEDS
    path = arena.folder / f"{form}.db"
    figures = await children.figures("remembering", form, str(path), str(feeds))
    return figures["memory"] * _FEEDS / feeds, figures["hits"]


MEMORY = Work(
    "feeds-memory",
    f"memory of the cache for {_FEEDS:,} feeds of {ITEMS} items, of which 4 were new",
    (
        *(Measure(form, "MB", goals=(Goal(5),)) for form in FORMS),
        Measure("hits", "%", more_is_better=True, goals=(Goal(99),)),
    ),
    {OURS: _ours, "a set of keys": _set},
    quick=f"{_FEEDS_QUICK} feeds only, and twenty times their memory",
    is_long=True,
)
"""Memory that Python has allocated, and how much of the last poll it has answered."""
