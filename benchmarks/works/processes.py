"""Eight processes on one file.

Each marks its keys one after the other. It shares half of them with another process:
each of those must be new for exactly one of the two.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks import keys
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work, WrongAnswerError
from benchmarks.timing import percentiles

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from benchmarks.arena import Arena
    from benchmarks.measure import Run

DISKCACHE = "diskcache"

_PROCESSES = 8
_KEYS = 1_000
_PATIENCE = 120  # seconds for all processes: far more than they need
_LINE = 2**20  # bytes of the longest line that a process writes


def _marking(contestant: str) -> Run:
    async def run(arena: Arena) -> Outcome:
        shares = _shares()
        async with AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(_process(contestant, arena, share))
                for share in shares
            ]
            async with asyncio.timeout(_PATIENCE):
                for process in processes:
                    await _line(process)  # the process is ready
                for process in processes:
                    _stdin(process).write(b"go\n")
                answers = [json.loads(await _line(process)) for process in processes]
        _check(shares, [answer["new"] for answer in answers])
        taken = [one for answer in answers for one in answer["taken"]]
        return Outcome(percentiles(taken))

    return run


def _shares() -> list[list[str]]:
    """Return the keys of each process: half private, half shared with a neighbour."""
    half = _KEYS // 2
    shares = []
    for _ in range(_PROCESSES // 2):
        both = keys.digests(half)
        shares += [keys.mixed(keys.digests(half) + both) for _ in range(2)]
    return shares


@asynccontextmanager
async def _process(
    contestant: str, arena: Arena, share: list[str]
) -> AsyncIterator[Process]:
    """Start a process that opens the arena's file, and waits for the signal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.marker", contestant, str(arena.folder)),
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE,
    )
    try:
        _stdin(process).write(json.dumps(share).encode() + b"\n")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _stdin(process: Process) -> asyncio.StreamWriter:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    return process.stdin


async def _line(process: Process) -> bytes:
    """Return the next line that a process writes."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = await process.stdout.readline()
    if not line:
        raise WrongAnswerError("a process failed; what it said is above")
    return line


def _check(shares: list[list[str]], new: list[list[str]]) -> None:
    """Check that each key was new for exactly one process."""
    told = Counter(key for keys_of_one in new for key in keys_of_one)
    asked = {key for share in shares for key in share}
    wrong = sum(told[key] != 1 for key in asked)
    if wrong:
        raise WrongAnswerError(f"{wrong:,} of {len(asked):,} keys: not new just once")


PROCESSES = Work(
    "processes",
    "check_and_mark, 8 processes on one file, 1,000 keys each, half of them shared",
    (
        Measure("p50", "ms"),
        Measure("p99", "ms", goals=(Goal(1 / 3, DISKCACHE, is_aim=True),)),
        Measure("max", "ms", goals=(Goal(1 / 10, DISKCACHE, is_aim=True),)),
    ),
    {OURS: _marking("ours"), DISKCACHE: _marking("diskcache")},
    is_long=True,
)
"""How long marks take, and that every verdict is right."""
