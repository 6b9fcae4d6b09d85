"""The figures as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from .measure import (
    OURS,
    Outcome,
    Result,
    by_backend,
    described,
    judge,
    shown,
    verdict,
)
from .works import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import JustifyMethod

    from .measure import Goal, Judgement, Measure, Work

HEADERS = ("contestant", "figure", "spread", "ours / it", "goal", "")
GOAL_HEADERS = ("what", "ours", "beside", "ours / it", "goal", "")


class Line(NamedTuple):
    """A line of the table: a contestant in one measure of a work; see ``HEADERS``."""

    contestant: str
    figure: str
    spread: str
    ratio: str
    goal: str
    verdict: str


def judgements(result: Result) -> list[tuple[Measure, Judgement]]:
    """Compare the figures of a work with each of its goals."""
    return [
        (measure, judge(result, measure, goal))
        for measure in result.work.measures
        for goal in measure.goals
    ]


def is_missed(result: Result) -> bool:
    """Return whether a goal that is not an aim was missed."""
    return any(
        not judgement.is_met and not judgement.goal.is_aim
        for _, judgement in judgements(result)
    )


def lines(result: Result) -> Iterator[Line]:
    """Return the lines of a work: our figure, then each comparison with its goal."""
    for measure in result.work.measures:
        for contestant in result.work.runs:
            against = None if contestant == OURS else contestant
            goals = [one for one in measure.goals if one.against == against]
            yield _line(result, measure, contestant, goals)


def _line(
    result: Result, measure: Measure, contestant: str, goals: Sequence[Goal]
) -> Line:
    is_only = len(result.work.measures) == 1
    name = contestant if is_only else f"{measure.name}: {contestant}"
    spread = result.spread(measure, contestant)
    ratio = result.ratio(measure, contestant)
    return Line(
        name,
        _figure(result, measure, contestant),
        "" if spread is None else f"{spread:.0%}",
        "" if ratio is None or contestant == OURS else f"{shown(ratio)} x",
        "; ".join(described(goal, measure) for goal in goals),
        result.failures.get(contestant)
        or "; ".join(verdict(judge(result, measure, goal)) for goal in goals),
    )


def table(results: Sequence[Result]) -> Table:
    """Render all figures for a terminal."""
    made = Table(title="medians of alternating runs", title_justify="left")
    for header in HEADERS:
        is_number = header in {"figure", "spread", "ours / it"}
        made.add_column(header, justify="right" if is_number else "left")
    for result in results:
        made.add_section()
        made.add_row(f"[bold]{result.work.name}[/] {result.note}", style="cyan")
        for line in lines(result):
            made.add_row(*line, style=_style(line.verdict))
    return made


def summary(results: Sequence[Result]) -> Table:
    """Render one row per goal for a terminal."""
    made = Table(title="goals", title_justify="left")
    for header in GOAL_HEADERS:
        is_number = header in {"ours", "beside", "ours / it"}
        justify: JustifyMethod = "right" if is_number else "left"
        made.add_column(
            header, justify=justify, no_wrap=header == "what", overflow="fold"
        )
    for result in results:
        made.add_section()
        for measure, judgement in judgements(result):
            _, *row = _compared(result, measure, judgement)
            is_only = len(result.work.measures) == 1
            name = result.work.name
            made.add_row(
                name if is_only else f"{name}: {measure.name}",
                *row,
                style=_style(row[-1]),
            )
    return made


def _style(verdict: str) -> str | None:
    return "red" if verdict.startswith("missed") else None


def markdown(results: Sequence[Result], machine: Mapping[str, str]) -> str:
    """Render all figures as Markdown."""
    text = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    for backend, group in by_backend(results):
        text += [f"## {backend}", ""]
        for result in group:
            text += [f"**{_title(result)}**", ""]
            text += [_row(HEADERS), "|---|--:|--:|--:|---|---|"]
            text += map(_row, lines(result))
            text.append("")
    return "\n".join(text)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _title(result: Result) -> str:
    return result.work.title + (f" ({result.note})" if result.note else "")


def save(results: Sequence[Result], machine: Mapping[str, str], folder: Path) -> None:
    """Write ``figures.json``, ``table.md`` and ``goals.md``."""
    figures = {"machine": machine, "works": [_as_json(result) for result in results]}
    texts = {
        "figures.json": json.dumps(figures, indent=2, ensure_ascii=False) + "\n",
        "table.md": markdown(results, machine),
        "goals.md": goals(results),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def restored(folder: Path) -> list[Result]:
    """Read what ``save`` wrote, if need be for works that have changed since."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    works = {work.name: work for work in WORKS}
    return [
        _from_json(works[work["name"]], work)
        for work in figures["works"]
        if work["name"] in works
    ]


def goals(results: Sequence[Result]) -> str:
    """Render one line per goal, as a summary."""
    text = [_row(GOAL_HEADERS), "|---|--:|--:|--:|---|---|"]
    for backend, group in by_backend(results):
        compared = [
            _compared(result, measure, judgement)
            for result in group
            for measure, judgement in judgements(result)
        ]
        if compared:
            text.append(_row((f"**{backend}**", *[""] * (len(GOAL_HEADERS) - 1))))
        text += map(_row, compared)
    return "\n".join(text) + "\n"


def _compared(
    result: Result, measure: Measure, judgement: Judgement
) -> tuple[str, ...]:
    is_only = len(result.work.measures) == 1
    against, reached = judgement.goal.against, judgement.reached
    return (
        _title(result) if is_only else f"{_title(result)}: {measure.name}",
        _figure(result, measure, OURS),
        f"{against}: {_figure(result, measure, against)}" if against else "",
        f"{shown(reached)} x" if against and reached is not None else "",
        described(judgement.goal, measure),
        verdict(judgement),
    )


def _figure(result: Result, measure: Measure, contestant: str) -> str:
    figure = result.figure(measure, contestant)
    return "-" if figure is None else f"{shown(figure)} {measure.unit}"


def _as_json(result: Result) -> dict[str, object]:
    return {
        "name": result.work.name,
        "backend": result.work.backend,
        "title": result.work.title,
        "note": result.note,
        "measures": [
            {
                "name": measure.name,
                "unit": measure.unit,
                "more_is_better": measure.more_is_better,
                "contestants": {
                    name: {
                        "runs": result.values(measure, name),
                        "median": result.figure(measure, name),
                        "ours_divided_by_it": result.ratio(measure, name),
                        "failure": result.failures.get(name),
                    }
                    for name in result.work.runs
                },
            }
            for measure in result.work.measures
        ],
        "goals": [
            {
                "measure": measure.name,
                "against": judgement.goal.against,
                "goal": described(judgement.goal, measure),
                "reached": judgement.reached,
                "is_met": judgement.is_met,
            }
            for measure, judgement in judgements(result)
        ],
    }


def _from_json(work: Work, saved: dict[str, Any]) -> Result:
    result = Result(work, note=saved["note"])
    names = [measure["name"] for measure in saved["measures"]]
    for contestant in saved["measures"][0]["contestants"]:
        told = [measure["contestants"][contestant] for measure in saved["measures"]]
        rounds = zip(*(one["runs"] for one in told), strict=True)
        result.rounds[contestant] = [
            Outcome(dict(zip(names, figures, strict=True))) for figures in rounds
        ]
        if told[0]["failure"]:
            result.failures[contestant] = told[0]["failure"]
    return result
