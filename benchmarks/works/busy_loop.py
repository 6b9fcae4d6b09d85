"""Whether a computing program and the store's worker starve each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import keys
from benchmarks.contestants.naive import NaiveAiosqlite
from benchmarks.contestants.ours import Ours
from benchmarks.load import by_tasks
from benchmarks.measure import OURS, THROUGHPUT, Measure, Outcome, Work
from benchmarks.pace import beside, compute, probe
from benchmarks.timing import timed

from .throughput import NAIVE

if TYPE_CHECKING:
    from benchmarks.arena import Arena
    from benchmarks.contestants import Marking, Opener
    from benchmarks.measure import Run
    from benchmarks.pace import Moment

_TASKS = 100


def _computing(opened: Opener[Marking]) -> Run:
    """Mark new keys, first in an idle loop, then in one that computes."""

    async def run(arena: Arena) -> Outcome:
        count = arena.size
        lags: list[Moment] = []
        async with opened(arena) as store:
            new = keys.digests(count)
            marks = by_tasks(store.check_and_mark, new, _TASKS)
            idle = await timed(marks, count, true=count)
            new = keys.digests(count)
            marks = by_tasks(store.check_and_mark, new, _TASKS)
            async with beside(compute()), beside(probe(lags)):
                busy = await timed(marks, count, true=count)
        figures = {
            THROUGHPUT: busy.rate,
            "of idle": 100 * busy.rate / idle.rate,
            "lag max": 1e3 * max(late for _, late in lags),
        }
        return Outcome(figures, busy.rate)

    return run


BUSY_LOOP = Work(
    "busy-loop",
    "check_and_mark, new keys, 100 tasks, while a task computes half of the time",
    (
        Measure(THROUGHPUT, "marks/s", more_is_better=True),
        Measure("of idle", "%", more_is_better=True),
        Measure("lag max", "ms"),
    ),
    {OURS: _computing(Ours.opened), NAIVE: _computing(NaiveAiosqlite.opened)},
)
"""Throughput, also as a part of that in an idle loop, and how late the loop was."""
