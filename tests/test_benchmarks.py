"""How the benchmarks compare figures; the benchmarks themselves are not run here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # behind the installed package

from benchmarks.measure import (
    OURS,
    Goal,
    Measure,
    Outcome,
    Result,
    Work,
    described,
    judge,
    percentile,
    turns,
    verdict,
)

MORE = Measure("throughput", "marks/s", more_is_better=True)
LESS = Measure("time", "ms")


def result(measure: Measure, ours: list[float], peer: list[float]) -> Result:
    """What came of a work that two did."""
    figures = {OURS: ours, "peer": peer}
    rounds = {
        name: [Outcome({measure.name: one}) for one in values]
        for name, values in figures.items()
    }
    return Result(Work("work", "Work", (measure,), {}), rounds)


def test_ratio_of_each_round() -> None:
    """A ratio compares what was measured side by side, however the machine drifts."""
    drifting = result(MORE, ours=[100, 20, 60], peer=[10, 2, 5])
    assert drifting.figure(MORE, OURS) == 60
    assert drifting.figure(MORE, "peer") == 5
    assert drifting.ratio(MORE, "peer") == 10
    assert drifting.spread(MORE, OURS) == pytest.approx(80 / 60)


@pytest.mark.parametrize(
    ("measure", "goal", "text", "said"),
    [
        (MORE, Goal(10, "peer"), "at least 10 x", "met"),
        (MORE, Goal(20, "peer"), "at least 20 x", "missed by 50.0%"),
        (MORE, Goal(100), "at least 100 marks/s", "met"),
        (LESS, Goal(80), "at most 80 ms", "missed by 25.0%"),
        (LESS, Goal(10, "peer"), "at most 10 x", "met"),
        (LESS, Goal(8, "peer", is_aim=True), "aim: at most 8 x", "missed by 25.0%"),
        (LESS, Goal(1, "nobody"), "at most 1 x", "missed: no figure"),
    ],
)
def test_goal(measure: Measure, goal: Goal, text: str, said: str) -> None:
    """A goal is a bound from below or above, and says by how much it was missed."""
    done = result(measure, ours=[100, 100], peer=[10, 10])
    assert described(goal, measure) == text
    assert verdict(judge(done, measure, goal)) == said


def test_out() -> None:
    """Who failed in one round has no figure at all."""
    done = result(MORE, ours=[100, 100], peer=[10])
    done.failures["peer"] = "WrongAnswerError: 1 of 2 answers"
    assert done.figure(MORE, "peer") is None
    assert not judge(done, MORE, Goal(1, "peer")).is_met


def test_turns() -> None:
    """Nobody is always the first."""
    assert [turns(["a", "b", "c"], place) for place in range(2)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
    ]


def test_long_works_have_fewer_rounds() -> None:
    """A warm-up comes first; a long work does without."""
    assert list(Work("", "", (), {}).places(3)) == [0, 1, 2, 3]
    assert list(Work("", "", (), {}, is_long=True).places(7)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("part", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (1, 100)]
)
def test_percentile(part: float, value: int) -> None:
    """A percentile is one of the values, and never too low."""
    assert percentile(range(100, 0, -1), part) == value


def test_readme_shows_the_results() -> None:
    """The table in the README is the one that the last benchmark wrote."""
    root = Path(__file__).parents[1]
    goals = (root / "benchmarks/results/goals.md").read_text(encoding="utf-8")
    assert goals in (root / "README.md").read_text(encoding="utf-8")
