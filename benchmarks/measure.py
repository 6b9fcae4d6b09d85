"""The model of a benchmark: works, figures, ratios, goals. Pure; no I/O.

On a machine whose speed drifts, two figures are only comparable if they were measured
side by side. So contestants alternate, and a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby
from math import ceil
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from .arena import Arena

    Run = Callable[[Arena], Awaitable["Outcome"]]

OURS = "ours"
"""The name of the contestant that the goals are about."""

THROUGHPUT = "throughput"
"""The measure of the works that have one only."""

_FEWEST = 2  # runs that have a spread
_LARGE = 1_000  # a figure of this size needs no decimals


class WrongAnswerError(Exception):
    """A contestant returned a wrong verdict, which excludes it."""


@dataclass(frozen=True)
class Goal:
    """What our figure must reach: a bound, or a factor of a contestant's figure.

    Attributes:
        bound: The figure itself, or our figure divided by theirs. A limit from below
            if more is better in the measure, else from above.
        against: The contestant, or ``None`` for the figure itself.
        is_aim: An aim only; missing it is no failure.
    """

    bound: float
    against: str | None = None
    is_aim: bool = False


@dataclass(frozen=True)
class Measure:
    """One measured quantity of a work."""

    name: str
    unit: str
    more_is_better: bool = False
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run of one contestant.

    Attributes:
        figures: A figure per measure.
        rate: Operations per second, which determines the size of the next run.
        points: Instants and figures, for works that are drawn over time.
    """

    figures: Mapping[str, float]
    rate: float = 0.0
    points: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Work:
    """A task in which contestants are compared.

    Attributes:
        name: As in ``--only``.
        title: Description of the task.
        measures: The measured quantities.
        runs: The run of each contestant, by name.
        backend: The backend of our store, by which figures are grouped.
        quick: Description of the smaller quick form.
        is_long: Long preparation and runs: a third of the rounds, no warm-up.
    """

    name: str
    title: str
    measures: tuple[Measure, ...]
    runs: Mapping[str, Run]
    backend: str = "SQLite"
    quick: str = ""
    is_long: bool = False

    def places(self, runs: int) -> range:
        """Number the rounds; the warm-up, which does not count, is round 0."""
        return range(1, ceil(runs / 3) + 1) if self.is_long else range(runs + 1)


@dataclass
class Result:
    """The result of a work.

    Attributes:
        work: The work.
        rounds: Each contestant's outcomes, with equal rounds at equal indexes.
        failures: The excluded contestants, and the reason.
        note: A remark on a work of reduced size.
    """

    work: Work
    rounds: dict[str, list[Outcome]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def values(self, measure: Measure, contestant: str) -> list[float]:
        """Return a contestant's figures by round; none if it is excluded."""
        if contestant in self.failures:
            return []
        outcomes = self.rounds.get(contestant, [])
        figures = [outcome.figures.get(measure.name) for outcome in outcomes]
        return [figure for figure in figures if figure is not None]

    def figure(self, measure: Measure, contestant: str) -> float | None:
        """Return the median of a contestant's figures."""
        values = self.values(measure, contestant)
        return median(values) if values else None

    def spread(self, measure: Measure, contestant: str) -> float | None:
        """Return the range of the figures, as a part of the median."""
        values = self.values(measure, contestant)
        if len(values) < _FEWEST or not median(values):
            return None
        return (max(values) - min(values)) / median(values)

    def ratio(self, measure: Measure, contestant: str) -> float | None:
        """Return our figure divided by theirs: the median of all rounds' ratios."""
        ours, theirs = self.values(measure, OURS), self.values(measure, contestant)
        ratios = [
            our / their for our, their in zip(ours, theirs, strict=False) if their
        ]
        return median(ratios) if ratios else None


def chosen(works: Sequence[Work], names: Sequence[str]) -> list[Work]:
    """Select works by name, in their own order; all works if there is no name.

    Args:
        works: The available works.
        names: Names, or patterns with ``*`` as in a shell.

    Raises:
        LookupError: No work has the name.
    """
    for name in names:
        if not any(fnmatchcase(work.name, name) for work in works):
            known = ", ".join(work.name for work in works)
            raise LookupError(f"there is no {name}; there are {known}")
    wanted = names or ["*"]
    return [
        work for work in works if any(fnmatchcase(work.name, name) for name in wanted)
    ]


def by_backend(results: Iterable[Result]) -> Iterator[tuple[str, list[Result]]]:
    """Group the results of consecutive works on the same backend."""
    for backend, group in groupby(results, lambda result: result.work.backend):
        yield backend, list(group)


@dataclass(frozen=True)
class Judgement:
    """The comparison of a figure with a goal.

    Attributes:
        goal: The goal.
        reached: Our figure, or the ratio; ``None`` if there is none.
        is_met: Whether the goal was met.
        missed_by: The difference to the bound, as a part of the bound.
    """

    goal: Goal
    reached: float | None
    is_met: bool
    missed_by: float | None


def judge(result: Result, measure: Measure, goal: Goal) -> Judgement:
    """Compare the figures with a goal."""
    if goal.against is None:
        reached = result.figure(measure, OURS)
    else:
        reached = result.ratio(measure, goal.against)
    if reached is None:
        return Judgement(goal, None, is_met=False, missed_by=None)
    lacking = goal.bound - reached if measure.more_is_better else reached - goal.bound
    is_met = lacking <= 0
    return Judgement(goal, reached, is_met, None if is_met else lacking / goal.bound)


def described(goal: Goal, measure: Measure) -> str:
    """Describe a goal: ``at least 20 x``."""
    limit = "at least" if measure.more_is_better else "at most"
    wanted = f"aim: {limit}" if goal.is_aim else limit
    unit = measure.unit if goal.against is None else "x"
    return f"{wanted} {shown(goal.bound)} {unit}"


def verdict(judgement: Judgement) -> str:
    """Describe whether a goal was met, or by how much it was missed."""
    if judgement.is_met:
        return "met"
    if judgement.missed_by is None:
        return "missed: no figure"
    return f"missed by {judgement.missed_by:.1%}"


def shown(value: float) -> str:
    """Format a figure with three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.3g}"


def turns(names: Sequence[str], place: int) -> list[str]:
    """Return the order of the contestants, reversed in every second round."""
    return list(names) if place % 2 == 0 else list(reversed(names))


def percentile(values: Sequence[float], part: float) -> float:
    """Return the least value that a given share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(ceil(part * len(ordered)) - 1, 0)]
