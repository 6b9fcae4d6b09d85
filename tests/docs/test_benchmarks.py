"""How the benchmarks compare figures; the benchmarks themselves are not run here."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # behind the installed package

from benchmarks import report
from benchmarks.arena import Arena
from benchmarks.imports import CPU_TIME, importing
from benchmarks.load import (
    SIZE,
    filling,
    marking,
    with_addresses,
)
from benchmarks.measure import (
    OURS,
    Goal,
    Measure,
    Outcome,
    Result,
    Work,
    WrongAnswerError,
    by_backend,
    chosen,
    described,
    judge,
    percentile,
    turns,
    verdict,
)
from benchmarks.works import WORKS

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
def test_goal_is_a_bound_with_a_distance(
    measure: Measure, goal: Goal, text: str, said: str
) -> None:
    """A goal is a bound from below or above, and shows how far it was missed."""
    done = result(measure, ours=[100, 100], peer=[10, 10])
    assert described(goal, measure) == text
    assert verdict(judge(done, measure, goal)) == said


def test_failed_contestant_has_no_figure() -> None:
    """A contestant that failed in one round has no figure."""
    done = result(MORE, ours=[100, 100], peer=[10])
    done.failures["peer"] = "WrongAnswerError: 1 of 2 answers"
    assert done.figure(MORE, "peer") is None
    assert not judge(done, MORE, Goal(1, "peer")).is_met


def test_first_turn_rotates() -> None:
    """No contestant is always the first."""
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


def test_only_some_works() -> None:
    """A name may stand for several works; they stay in order, each only once."""
    works = [Work(name, "", (), {}) for name in ("claims", "pg-claims", "pg-many")]
    first, second, third = works
    assert chosen(works, []) == works
    assert chosen(works, ["pg-*", "pg-many", "claims"]) == works
    assert chosen(works, ["pg-*"]) == [second, third]
    assert chosen(works, ["claims"]) == [first]
    with pytest.raises(LookupError, match="no pg; there are claims, pg-claims"):
        chosen(works, ["claims", "pg"])


def test_figures_by_backend() -> None:
    """What was measured on one backend is together; SQLite is the one unless said."""
    works = [Work("a", "", (), {}), Work("b", "", (), {})]
    works += [Work("c", "", (), {}, backend="Valkey")]
    grouped = [
        (backend, [result.work.name for result in group])
        for backend, group in by_backend(map(Result, works))
    ]
    assert grouped == [("SQLite", ["a", "b"]), ("Valkey", ["c"])]


class Place:
    """A server that keeps keys, and needs some room besides."""

    url = ""

    def __init__(self) -> None:
        self.keys = {"of another contestant"}

    def clear(self) -> None:
        """Remove every key."""
        self.keys.clear()

    def used(self) -> int:
        """So many bytes."""
        return 1_000 + sum(map(len, self.keys))


class Contestant:
    """Keeps keys on a server; or forgets them."""

    def __init__(self, place: Place, *, is_forgetful: bool = False) -> None:
        self.place = place
        self.is_forgetful = is_forgetful

    @asynccontextmanager
    async def opened(self, _: Arena) -> AsyncIterator[Contestant]:
        """Need no connection."""
        yield self

    async def check_and_mark(self, key: str) -> bool:
        """Add a key."""
        is_new = key not in self.place.keys
        if not self.is_forgetful:
            self.place.keys.add(key)
        return is_new

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Add keys."""
        return sum([await self.check_and_mark(key) for key in keys])


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    """A place without servers, for a short run."""
    no_servers: Any = None
    return Arena(tmp_path, tmp_path, no_servers, size=300)


async def test_room_for_a_key(arena: Arena) -> None:
    """What was there before does not count, nor what a server needs without keys."""
    place = Place()
    run = filling(Contestant(place).opened, lambda _: place, count=2_000, quick=50)
    outcome = await with_addresses(run)(arena)
    assert outcome.figures == {SIZE: 60}
    assert len(place.keys) == 2_000


@pytest.mark.parametrize("is_forgetful", [False, True])
async def test_answers_are_checked(arena: Arena, *, is_forgetful: bool) -> None:
    """Who says twice that a key is new is out, however fast it was."""
    contestant = Contestant(Place(), is_forgetful=is_forgetful)
    run = marking(contestant.opened, tasks=10)
    if is_forgetful:
        with pytest.raises(WrongAnswerError, match="100 keys were new for the second"):
            await run(arena)
    else:
        assert (await run(arena)).rate > 0


async def test_import_in_a_fresh_process(arena: Arena) -> None:
    """An import is measured as that of a program which begins with it."""
    quick = replace(arena, is_quick=True)
    nothing = await importing("sys")(quick)
    package = await importing("catalyst_seen")(quick)
    assert package.figures[CPU_TIME] > nothing.figures[CPU_TIME] >= 0
    with pytest.raises(RuntimeError, match="no_such_module"):
        await importing("no_such_module")(quick)


def test_several_goals_of_one_measure() -> None:
    """Each goal has its verdict, in the table of all figures and in that of goals."""
    goals = (Goal(5, "peer"), Goal(20, "peer", is_aim=True))
    measure = replace(MORE, goals=goals)
    done = result(measure, ours=[100], peer=[10])
    runs: dict[str, Any] = dict.fromkeys(done.rounds)
    done.work = replace(done.work, measures=(measure,), runs=runs)
    *_, line = report.lines(done)
    assert line.goal == "at least 5 x; aim: at least 20 x"
    assert line.verdict == "met; missed by 50.0%"
    assert not report.is_missed(done)
    assert report.summary([done]).row_count == 2
    assert report.goals([done]).count("throughput") == 0
    assert report.goals([done]).count("10 x | at least 5 x | met |") == 1


def test_figures_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved figures can be shown after a work got another contestant, or went."""
    nothing: Any = None
    runs = dict.fromkeys([OURS, "peer"], nothing)
    work = Work("work", "Work", (MORE,), runs)
    done, gone = (result(MORE, ours=[3, 4, 5], peer=[1, 1, 1]) for _ in range(2))
    done.work, gone.work = work, replace(work, name="gone")
    report.save([done, gone], {}, tmp_path)
    now = replace(work, runs={**runs, "another": nothing})
    monkeypatch.setattr(report, "WORKS", [now])
    (again,) = report.restored(tmp_path)
    assert again.figure(MORE, OURS) == 4
    assert [line.figure for line in report.lines(again)] == [
        "4 marks/s",
        "1 marks/s",
        "-",
    ]


def test_rows_of_the_table() -> None:
    """The goals are parts of a plain statement or of raw sqlite3, or figures."""
    peers = {
        (work.name, goal.against)
        for work in WORKS
        for measure in work.measures
        for goal in measure.goals
        if goal.against and not goal.is_aim
    }
    assert peers == {
        ("feeds", "one plain statement"),
        ("feeds-filter", "one plain statement"),
        ("new-keys", "raw sqlite3"),
        ("one-caller", "one aiosqlite hop"),
        ("claims", "raw sqlite3"),
        ("many", "raw sqlite3"),
        ("recent-key", "one aiosqlite hop"),
    }
