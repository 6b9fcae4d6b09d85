"""Runs the contestants in alternation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measure import Result, turns

if TYPE_CHECKING:
    from .arena import Arena
    from .board import Board
    from .measure import Outcome, Work

_FIRST = 400  # operations of a warm-up
_MOST = 1_000_000  # operations of a run, whose keys are created beforehand


async def compete(
    work: Work, arena: Arena, board: Board, *, runs: int, seconds: float
) -> Result:
    """Run a work with all contestants, each once in a round.

    The first round is a warm-up, which measures the rate of each contestant to choose
    the size of its runs; it does not count. A contestant that fails, or returns a wrong
    result, is excluded.
    """
    note = work.quick if arena.is_quick else ""
    result = Result(work, {name: [] for name in work.runs}, note=note)
    sizes = dict.fromkeys(work.runs, _FIRST)
    places = work.places(runs)
    for place in places:
        run = f"run {place} of {places[-1]}" if place else "warm-up"
        for name in turns(tuple(work.runs), place):
            if name in result.failures:
                board.advance(work)
                continue
            board.begin(f"{work.name}: {name}, {run}")
            try:
                outcome = await _run(work, name, arena, sizes[name])
            except Exception as exc:  # noqa: BLE001 - the other contestants continue
                result.failures[name] = f"{type(exc).__name__}: {exc}"
            else:
                if place:
                    result.rounds[name].append(outcome)
                elif outcome.rate:
                    sizes[name] = min(max(_FIRST, int(outcome.rate * seconds)), _MOST)
            board.advance(work)
    return result


async def _run(work: Work, name: str, arena: Arena, size: int) -> Outcome:
    with arena.run(size) as place:
        return await work.runs[name](place)
