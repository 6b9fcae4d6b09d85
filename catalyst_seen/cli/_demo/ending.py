"""The end of the demo: what was lost, what came twice and why, what to read next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .._output import console_of, counted, is_for_person, write_json
from .site import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._settings import Settings
    from .figures import Cause, Outcome
    from .running import Plan
    from .site import Failure

_CAUSES: dict[Cause, str] = {
    "killed": "the worker was killed before its confirm",
    "answer_lost": "the webhook's answer was lost",
    "too_late": "the timeout or the lease was over",
}
_FAILURES: dict[Failure, str] = {
    "unavailable": "HTTP 503",
    "dropped": "connection cut",
    "answer_lost": "accepted, and connection cut",
    "slow": "no answer in time",
}


class _Row(NamedTuple):
    """A line of the table; one with a cause explains the line before it."""

    name: str
    number: int
    is_detail: bool = False
    style: str = ""


def write_ending(settings: Settings, plan: Plan, outcome: Outcome) -> None:
    """Write what became of everything: a table, lines, or one object of JSON."""
    if settings.is_json:
        write_json(_data(plan, outcome))
        return
    rows = list(_rows(outcome))
    if is_for_person(settings):
        _print_table(plan, outcome, rows)
    else:
        for row in rows:
            click.echo(f"{'  ' * row.is_detail}{row.name}: {row.number:,}")
    for problem in outcome.problems:
        settings.say(f"problem: {problem}")
    if outcome.again:
        settings.say(
            "a claim is at least once: a webhook that knows the Idempotency-Key drops"
            " what comes again"
        )
    worker = Path(__file__).with_name("worker.py")
    settings.say(f"read next: the worker, {worker}")


def _rows(outcome: Outcome) -> Iterator[_Row]:
    last = outcome.last
    yield _Row("published", last.published)
    yield _Row("delivered", last.delivered, style="bold green")
    yield _Row("lost", outcome.lost, style="bold red" if outcome.lost else "bold green")
    if outcome.pending:
        yield _Row("not delivered in time", outcome.pending, style="bold red")
    yield _Row("delivered again", outcome.again, style="yellow")
    for cause, name in _CAUSES.items():
        if outcome.repeated.get(cause):
            yield _Row(name, outcome.repeated[cause], is_detail=True)
    yield _Row("workers killed (SIGKILL)", last.kills)
    yield _Row("webhook failures", last.failures)
    for failure, name in _FAILURES.items():
        if outcome.failures.get(failure):
            yield _Row(name, outcome.failures[failure], is_detail=True)
    yield _Row("retries", last.retries)
    yield _Row("duplicates refused", last.refused)
    yield _Row("calls", last.calls)
    yield _Row("calls a second", _rate(outcome))


def _print_table(plan: Plan, outcome: Outcome, rows: list[_Row]) -> None:
    from rich.box import ROUNDED
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=ROUNDED,
        show_header=False,
        border_style="bright_black",
    )
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        style = "bright_black" if row.is_detail else row.style
        name = f"  {row.name}" if row.is_detail else row.name
        table.add_row(Text(name, style=style), Text(f"{row.number:,}", style=style))
    console = console_of(sys.stdout)
    processes = counted(plan.workers, "process", "processes")
    title = Text(f"{plan.callers:,} callers in {processes}", style="bold")
    title.append(f", one SQLite file, {outcome.last.seconds:.1f} s", style="not bold")
    console.print(title)
    console.print(table)


def _data(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    last = outcome.last
    return {
        "seconds": round(last.seconds, 3),
        "workers": plan.workers,
        "callers": plan.callers,
        "published": last.published,
        "delivered": last.delivered,
        "lost": outcome.lost,
        "pending": outcome.pending,
        "delivered_again": outcome.again,
        "delivered_again_because": {
            name: outcome.repeated.get(name, 0) for name in _CAUSES
        },
        "kills": last.kills,
        "webhook_failures": {name: outcome.failures.get(name, 0) for name in FAILURES},
        "retries": last.retries,
        "duplicates_refused": last.refused,
        "calls": last.calls,
        "calls_a_second": _rate(outcome),
        "problems": [*outcome.problems],
    }


def _rate(outcome: Outcome) -> int:
    return round(outcome.last.calls / max(outcome.last.seconds, 0.001))
