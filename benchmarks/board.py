"""The progress of the benchmark, on the terminal."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .report import judgements

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from .measure import Result, Work

_LONG = 20  # a long run takes as much time as this number of short runs


class Board:
    """A progress bar that is drawn on request only: never while something is timed."""

    def __init__(self, console: Console, works: list[Work], runs: int) -> None:
        """Draw on a console."""
        self._bar = Progress(
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
        )
        steps = sum(
            len(work.runs) * len(work.places(runs)) * _weight(work) for work in works
        )
        self._task = self._bar.add_task("", total=steps)
        self._started = monotonic()
        self._doing = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, doing: str) -> None:
        """Show which run begins."""
        self._doing = doing
        self.tell("")

    def tell(self, what: str) -> None:
        """Show a status text of the current run."""
        text = f"{self._doing} {what}"
        self._bar.update(self._task, description=text, refresh=True)

    def advance(self, work: Work) -> None:
        """Advance the bar by one run of a contestant."""
        self._bar.advance(self._task, _weight(work))

    def end(self, result: Result) -> None:
        """Print a line about a completed work."""
        goals = [judgement.is_met for _, judgement in judgements(result)]
        reached = f"{sum(goals)} of {len(goals)} goals met" if goals else "no goals"
        taken = monotonic() - self._started
        self._bar.console.print(
            f"{taken:6.0f} s  {result.work.name:20} {reached}", highlight=False
        )


def _weight(work: Work) -> int:
    return _LONG if work.is_long else 1
