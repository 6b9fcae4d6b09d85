"""What an import costs, and the start of the tool, measured in fresh processes."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from statistics import median
from typing import TYPE_CHECKING

from .measure import Outcome

if TYPE_CHECKING:
    from .arena import Arena
    from .measure import Run

CPU_TIME = "CPU time"
"""The measure of this work, in milliseconds."""

_PROCESSES = 3  # for one figure; in the quick form one
_SCRIPT = """
from time import process_time
started = process_time()
{statement}
print(1e3 * (process_time() - started))
"""


def importing(module: str) -> Run:
    """Import a module in fresh processes, one after the other."""
    return running(f"import {module}")


def running(statement: str) -> Run:
    """Run a statement in fresh processes, one after the other.

    CPU time counts, so that other programs matter little. The byte code is that of the
    benchmark, and the warm-up compiles it.
    """

    async def run(arena: Arena) -> Outcome:
        processes = 1 if arena.is_quick else _PROCESSES
        taken = [await _run(statement, arena) for _ in range(processes)]
        return Outcome({CPU_TIME: median(taken)})

    return run


async def _run(statement: str, arena: Arena) -> float:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(arena.shared / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SCRIPT.format(statement=statement)),
        cwd=arena.shared,
        env=environment,
        stdout=PIPE,
    )
    answer, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"cannot run {statement!r}; the reason is above")
    return float(answer)
