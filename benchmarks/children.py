"""Processes that measure themselves, and write a line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE


async def figures(module: str, *arguments: str) -> dict[str, float]:
    """Run a module of the benchmarks; return the figures that it writes.

    Raises:
        ChildProcessError: The process failed; it has said why.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{module}", *arguments), stdout=PIPE
    )
    try:
        answer, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ChildProcessError(f"benchmarks.{module} failed; what it said is above")
    written: dict[str, float] = json.loads(answer)
    return written
