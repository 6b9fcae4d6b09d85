"""What a benchmark is: works, contestants' figures, ratios, goals. Pure; no I/O.

On a machine whose speed drifts, two figures are only comparable if they were taken side
by side. So contestants take turns, and a ratio is the median of the rounds' ratios.
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
_LARGE = 1_000  # from here on a figure needs no decimals


class WrongAnswerError(Exception):
    """A contestant gave a false verdict: however fast it was, it is out."""


@dataclass(frozen=True)
class Goal:
    """What our figure must reach: a bound, or a factor of a contestant's figure.

    Attributes:
        bound: The figure itself, or our figure divided by theirs. A limit from below
            if more is better in the measure, else from above.
        against: The contestant, or ``None`` for the figure itself.
        is_aim: Wished for; missing it is no failure.
    """

    bound: float
    against: str | None = None
    is_aim: bool = False


@dataclass(frozen=True)
class Measure:
    """One thing that is measured in a work."""

    name: str
    unit: str
    more_is_better: bool = False
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What one run of one contestant gave.

    Attributes:
        figures: A figure per measure.
        rate: Operations per second, to choose how many the next run takes.
        points: Instants and figures, for works that are drawn over time.
    """

    figures: Mapping[str, float]
    rate: float = 0.0
    points: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Work:
    """Something to do that contestants are compared in.

    Attributes:
        name: As in ``--only``.
        title: What is done.
        measures: What is measured.
        runs: How each contestant does it, by name.
        backend: Where ours keeps its keys; figures are grouped by it.
        quick: What is smaller in the quick form.
        is_long: It prepares much and measures long: a third of the rounds, no warm-up.
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
    """What came of a work.

    Attributes:
        work: The work.
        rounds: Each contestant's outcomes, a round at the same place in each list.
        failures: Who is out, and why.
        note: What was smaller than it should be.
    """

    work: Work
    rounds: dict[str, list[Outcome]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def values(self, measure: Measure, contestant: str) -> list[float]:
        """A contestant's figures, in the order of the rounds; none if it is out."""
        if contestant in self.failures:
            return []
        outcomes = self.rounds.get(contestant, [])
        figures = [outcome.figures.get(measure.name) for outcome in outcomes]
        return [figure for figure in figures if figure is not None]

    def figure(self, measure: Measure, contestant: str) -> float | None:
        """The median of a contestant's figures."""
        values = self.values(measure, contestant)
        return median(values) if values else None

    def spread(self, measure: Measure, contestant: str) -> float | None:
        """From the least to the greatest figure, as a part of the median."""
        values = self.values(measure, contestant)
        if len(values) < _FEWEST or not median(values):
            return None
        return (max(values) - min(values)) / median(values)

    def ratio(self, measure: Measure, contestant: str) -> float | None:
        """Our figure divided by theirs: the median of what it was in each round."""
        ours, theirs = self.values(measure, OURS), self.values(measure, contestant)
        ratios = [
            our / their for our, their in zip(ours, theirs, strict=False) if their
        ]
        return median(ratios) if ratios else None


def chosen(works: Sequence[Work], names: Sequence[str]) -> list[Work]:
    """The works of these names, in their own order; all if there is no name.

    Args:
        works: Those to choose from.
        names: They may hold ``*``, as in a shell.

    Raises:
        LookupError: A name is nobody's.
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
    """Group what came of works that follow one another on the same backend."""
    for backend, group in groupby(results, lambda result: result.work.backend):
        yield backend, list(group)


@dataclass(frozen=True)
class Judgement:
    """Whether a goal was met.

    Attributes:
        goal: The goal.
        reached: Our figure, or the ratio; ``None`` if there is none.
        is_met: Was it reached?
        missed_by: By which part of the bound it was missed.
    """

    goal: Goal
    reached: float | None
    is_met: bool
    missed_by: float | None


def judge(result: Result, measure: Measure, goal: Goal) -> Judgement:
    """Compare what was reached with a goal."""
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
    """A goal in words: ``at least 20 x``."""
    limit = "at least" if measure.more_is_better else "at most"
    wanted = f"aim: {limit}" if goal.is_aim else limit
    unit = measure.unit if goal.against is None else "x"
    return f"{wanted} {shown(goal.bound)} {unit}"


def verdict(judgement: Judgement) -> str:
    """Say whether a goal was met, or missed by how much."""
    if judgement.is_met:
        return "met"
    if judgement.missed_by is None:
        return "missed: no figure"
    return f"missed by {judgement.missed_by:.1%}"


def shown(value: float) -> str:
    """A figure with three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.3g}"


def turns(names: Sequence[str], place: int) -> list[str]:
    """Whose turn it is in a round: there, and back in the next."""
    return list(names) if place % 2 == 0 else list(reversed(names))


def percentile(values: Sequence[float], part: float) -> float:
    """The least value that so large a part of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(ceil(part * len(ordered)) - 1, 0)]
