"""The cost of a large store: 60-byte keys, marked in random order.

One file grows, and is copied at each size; then the copies are measured in turn. The
file system's cache is not controlled: it holds recent writes as far as they fit.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from asyncio.subprocess import PIPE
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks import keys
from benchmarks.contestants.ours import Ours
from benchmarks.load import by_tasks, timed
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work
from catalyst_seen import AsyncSeenStore

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.arena import Arena

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
"""Numbers of keys; the last is left out in the quick form."""

_TASKS = 100
_CHUNK = 100_000  # keys per transaction that fills the file
_MARKS = 5_000  # keys marked on top of each size
_SEED = 60


async def _ours(arena: Arena) -> Outcome:
    sizes = SIZES[:-1] if arena.is_quick else SIZES
    files = {size: arena.shared / f"large-{size}.db" for size in sizes}
    if not files[sizes[-1]].exists():
        await _fill(files, arena)
    largest = files[sizes[-1]]
    per_key = _bytes(largest) / sizes[-1]
    rates = {size: await _rate(path) for size, path in files.items()}
    outside = await _outside(largest)
    return Outcome(
        {
            **{at(size): 1e6 / rate for size, rate in rates.items()},
            "throughput": 100 * rates[sizes[-1]] / rates[sizes[0]],
            "open": outside["open"],
            "RSS": outside["rss"],
            "file": per_key,
        }
    )


def at(size: int) -> str:
    """Return the measure of a mark's cost at a number of stored keys."""
    return f"mark at {size:,} keys"


async def _fill(files: dict[int, Path], arena: Arena) -> None:
    """Grow one file, and copy it at each size."""
    last = max(files)
    new = keys.links(last, _SEED)
    filled = 0
    growing = arena.folder / "growing.db"
    for size, path in files.items():
        async with AsyncSeenStore(growing, purge_interval=None) as store:
            while filled < size:
                chunk = list(islice(new, min(_CHUNK, size - filled)))
                await store.check_and_mark_many(chunk)
                filled += len(chunk)
                arena.tell(f"{filled:,} of {last:,} keys")
        copy = shutil.move if size == last else shutil.copyfile
        await asyncio.to_thread(copy, growing, path)


async def _rate(path: Path) -> float:
    """Mark new keys with default settings; return the number per second."""
    new = keys.addresses(_MARKS)
    async with AsyncSeenStore(path) as store:
        marks = by_tasks(Ours(store).check_and_mark, new, _TASKS)
        return (await timed(marks, _MARKS, true=_MARKS)).rate


async def _outside(path: Path) -> dict[str, float]:
    """Measure a separate process that opens the file and uses it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.opener", str(path)), stdout=PIPE
    )
    try:
        answer, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    figures: dict[str, float] = json.loads(answer)
    return figures


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


LARGE = Work(
    "large",
    f"check_and_mark, new keys, 100 tasks, with up to {SIZES[-1]:,} keys of 60 bytes",
    (
        *(Measure(at(size), "µs") for size in SIZES),
        Measure(
            "throughput", "% of that at 10,000", more_is_better=True, goals=(Goal(50),)
        ),
        Measure("open", "ms", goals=(Goal(100),)),
        Measure("RSS", "MB", goals=(Goal(150),)),
        Measure("file", "bytes a key", goals=(Goal(130),)),
    ),
    {OURS: _ours},
    quick=f"up to {SIZES[-2]:,} only",
    is_long=True,
)
"""What one mark costs by size, and what the largest file needs."""
