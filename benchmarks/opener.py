"""A process that opens and uses a store, to measure its time and memory.

    python -m benchmarks.opener FILE

It writes a line of JSON: milliseconds to open, and the peak of memory, in MB.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from time import perf_counter

from catalyst_seen import AsyncSeenStore

from . import keys
from .load import by_tasks

_TASKS = 100
_MARKS = 10_000


async def main(path: str) -> None:
    """Open, mark, report."""
    new = keys.addresses(_MARKS)
    started = perf_counter()
    async with AsyncSeenStore(path) as store:
        opened = perf_counter() - started

        async def mark(key: str) -> bool:
            return bool(await store.check_and_mark(key))

        await by_tasks(mark, new, _TASKS)
    sys.stdout.write(json.dumps({"open": 1e3 * opened, "RSS": _most_memory()}))


def _most_memory() -> float:
    """Return the peak memory; ``getrusage`` would include the parent process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status)
    return int(kibibytes) * 1024 / 1e6


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
