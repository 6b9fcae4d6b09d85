"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from . import machine, plots, report
from .arena import Arena
from .board import Board
from .measure import chosen
from .rounds import compete
from .servers import Servers
from .works import WORKS

if TYPE_CHECKING:
    from .measure import Result, Work

RESULTS = Path(__file__).parent / "results"

console = Console()


async def measured(
    works: list[Work], *, is_quick: bool, runs: int, seconds: float
) -> list[Result]:
    """Run works, with servers and a folder that are removed afterwards."""
    results = []
    with (
        tempfile.TemporaryDirectory(prefix="catalyst-seen-") as name,
        Servers(Path(name)) as servers,
        Board(console, works, runs) as board,
    ):
        folder = Path(name)
        arena = Arena(folder, folder, servers, is_quick=is_quick, tell=board.tell)
        for work in works:
            result = await compete(work, arena, board, runs=runs, seconds=seconds)
            board.end(result)
            results.append(result)
    return results


def main(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Shorter runs and smaller databases.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="One work, or several, as 'postgres-*'; may be given several times.",
        ),
    ] = None,
    list_works: Annotated[
        bool, typer.Option("--list", help="Show the works, and run none.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show the figures of the last run again.")
    ] = False,
    output: Annotated[
        Path,
        typer.Option(
            help="The folder for table.md, goals.md, figures.json and the plots.",
            show_default="benchmarks/results",
        ),
    ] = RESULTS,
    runs: Annotated[
        int | None, typer.Option(min=1, help="How many runs count; 7, quick 3.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a goal is missed.")
    ] = False,
) -> None:
    """Measure the store, and compare it with its alternatives.

    In each work the contestants run in turn, in alternating order, after a warm-up
    round that does not count. A figure is the median of a contestant's runs; the spread
    is from the least of them to the greatest. "Ours / it" is our figure divided by the
    contestant's: the median of the ratios of all rounds, so that it holds on a machine
    whose speed drifts. Results are checked: a contestant with a wrong one is excluded.
    """
    logging.getLogger("catalyst_seen").setLevel(logging.ERROR)  # stores are created
    try:
        works = chosen(WORKS, only or [])
    except LookupError as exc:
        raise typer.BadParameter(str(exc)) from exc
    if list_works:
        for work in works:
            console.print(f"{work.name:20} {work.title}", highlight=False)
        return
    if show:
        last = report.restored(output)
        console.print(report.table(last), report.summary(last))
        return
    output.mkdir(parents=True, exist_ok=True)
    described = machine.described()
    results = asyncio.run(
        measured(
            works,
            is_quick=quick,
            runs=runs or (3 if quick else 7),
            seconds=0.15 if quick else 1.0,
        )
    )
    console.print(report.table(results), report.summary(results))
    report.save(results, described, output)
    plots.draw(results, output)
    console.print(f"written to {output}")
    if strict and any(map(report.is_missed, results)):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
