"""The figures on a terminal while the demo runs, or as lines where there is none."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._output import console_of, counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.live import Live

    from .._settings import Settings
    from .figures import Moment
    from .running import Plan, Screen

_BAR = 40


@contextmanager
def screen(settings: Settings, plan: Plan) -> Iterator[Screen]:
    """Show the figures while the block runs, on standard error."""
    if settings.is_quiet or not sys.stderr.isatty():
        yield _Lines(settings)
        return
    from rich.live import Live

    console = console_of(sys.stderr)
    with Live(
        console=console, transient=True, auto_refresh=False, redirect_stdout=False
    ) as live:
        yield _Picture(live, plan)


class _Lines:
    """A line each second."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next = 1

    def show(self, now: Moment) -> None:
        """Write a line if it is time for one."""
        if now.seconds < self._next:
            return
        self._next = int(now.seconds) + 1
        self._settings.say(f"{int(now.seconds)}s: {_line(now)}")


def _line(now: Moment) -> str:
    return (
        f"{now.delivered:,} delivered, {now.pending:,} pending,"
        f" {now.in_flight:,} in flight; {counted(now.kills, 'kill')},"
        f" {counted(now.failures, 'webhook failure')},"
        f" {counted(now.retries, 'retry', 'retries')},"
        f" {counted(now.refused, 'duplicate')} refused,"
        f" {now.rate:,.0f} calls a second"
    )


class _Picture:
    """A picture that is drawn again and again."""

    def __init__(self, live: Live, plan: Plan) -> None:
        self._live = live
        self._plan = plan

    def show(self, now: Moment) -> None:
        """Draw the figures."""
        self._live.update(_picture(now, self._plan), refresh=True)


def _picture(now: Moment, plan: Plan) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    processes = counted(plan.workers, "process", "processes")
    title = Text(f"{plan.callers:,} callers in {processes}")
    title.append(f", one SQLite file   {now.seconds:4.1f}s", style="dim")
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(style="bold")
        table.add_column(justify="right", min_width=7)
    table.add_row(
        "delivered", f"{now.delivered:,}", *_cell("kill -9", now.kills, "red")
    )
    table.add_row(
        "in flight",
        f"{now.in_flight:,}",
        *_cell("webhook failures", now.failures, "yellow"),
    )
    table.add_row("pending", f"{now.pending:,}", "retries", f"{now.retries:,}")
    table.add_row(
        "calls a second", f"{now.rate:,.0f}", "duplicates refused", f"{now.refused:,}"
    )
    return Padding(Group(title, _bar(now), Text(), table), (1, 2))


def _cell(name: str, count: int, style: str) -> tuple[str, str]:
    return name, f"[{style}]{count:,}[/]" if count else "0"


def _bar(now: Moment) -> RenderableType:
    """Return a bar of what is delivered, in flight and pending."""
    from rich.text import Text

    whole = max(1, now.published)
    done = _BAR * now.delivered // whole
    busy = min(_BAR - done, -(-_BAR * now.in_flight // whole))
    bar = Text("━" * done, style="green")
    bar.append("━" * busy, style="yellow")
    return bar.append("━" * (_BAR - done - busy), style="bright_black")
