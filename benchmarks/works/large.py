"""The cost of a large store: keys of 60 bytes in thousands of namespaces of 60 bytes.

One file grows by polls of all feeds in turn, and is copied at each size; then the
copies are measured, there and back. The file system's cache is not controlled: it holds
recent writes as far as they fit.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from itertools import cycle, islice
from random import Random
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import children, feeds, keys
from benchmarks.load import by_tasks
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work, turns
from benchmarks.timing import check, timed
from catalyst_seen import AsyncSeenStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.arena import Arena

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
"""Numbers of keys; the last is left out in the quick form."""

FEEDS = 5_000
"""Namespaces; each has the same number of keys."""

_NAMES = [feeds.name(feed) for feed in range(FEEDS)]
_TASKS = 100
_ITEMS = 500  # keys at most of a call that fills the file
_MARKS = 5_000  # keys marked on top of each size
_TIMES = 3  # so often, on fresh copies; the largest file is not copied
_SEED = 60


async def _ours(arena: Arena) -> Outcome:
    sizes = SIZES[:-1] if arena.is_quick else SIZES
    files = {size: arena.shared / f"large-{size}.db" for size in sizes}
    if not files[sizes[-1]].exists():
        await fill(files, arena)
    largest = files[sizes[-1]]
    room = json.loads(
        arena.kept("large.json", lambda to: _weigh(largest, to)).read_text()
    )
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(_TIMES):
        for name in turns([*map(str, sizes)], turn):
            arena.tell(f"marks at {int(name):,} keys")
            path = files[int(name)]
            if path != largest:
                path = shutil.copyfile(path, arena.file)
            rates[int(name)].append(await _rate(path))
    first, last = rates[sizes[0]], rates[sizes[-1]]
    return Outcome(
        {
            **{at(size): 1e6 / median(some) for size, some in rates.items()},
            "throughput": median(
                100 * late / early for late, early in zip(last, first, strict=True)
            ),
            **await children.figures("opener", str(largest)),
            **{title: size / sizes[-1] for title, size in room.items()},
        }
    )


def at(size: int) -> str:
    """Return the measure of a mark's cost at a number of stored keys."""
    return f"mark at {size:,} keys"


async def fill(files: dict[int, Path], arena: Arena) -> None:
    """Grow one file, and copy it at each size: a multiple of the number of feeds."""
    last = max(files)
    new = keys.links(last, _SEED)
    filled = 0
    growing = arena.folder / "growing.db"
    for size, path in files.items():
        async with AsyncSeenStore(growing, purge_interval=None) as store:
            while filled < size:
                items = min(_ITEMS, (size - filled) // FEEDS)
                await _poll(store, items, new)
                filled += items * FEEDS
                arena.tell(f"{filled:,} of {last:,} keys")
        copy = shutil.move if size == last else shutil.copyfile
        await asyncio.to_thread(copy, growing, path)


async def _poll(store: AsyncSeenStore, items: int, new: Iterator[str]) -> None:
    """Mark a number of new items of each feed."""
    left = iter(_NAMES)

    async def poll_on() -> int:
        marked = 0
        for name in left:
            listing = list(islice(new, items))
            sightings = await store.check_and_mark_many(listing, namespace=name)
            marked += sum(map(bool, sightings))
        return marked

    marked = sum(await asyncio.gather(*(poll_on() for _ in range(_TASKS))))
    check(marked, items * FEEDS, true=items * FEEDS)


def _weigh(path: Path, to: Path) -> None:
    """Write the bytes of a file, as it is and as ``VACUUM`` would leave it."""
    small = path.with_suffix(".vacuumed")
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", (str(small),))
    room = {"file": path.stat().st_size, "file after VACUUM": small.stat().st_size}
    small.unlink()
    to.write_text(json.dumps(room))


async def _rate(path: Path) -> float:
    """Mark new keys of random feeds; return the number per second."""
    new = keys.addresses(_MARKS)
    names = cycle(Random().sample(_NAMES, FEEDS))
    async with AsyncSeenStore(path) as store:

        async def mark(key: str) -> bool:
            return bool(await store.check_and_mark(key, namespace=next(names)))

        return (await timed(by_tasks(mark, new, _TASKS), _MARKS, true=_MARKS)).rate


LARGE = Work(
    "large",
    f"check_and_mark, new keys, 100 tasks, {FEEDS:,} namespaces of 60 bytes, with up to"
    f" {SIZES[-1]:,} keys of 60 bytes",
    (
        *(Measure(at(size), "µs") for size in SIZES),
        Measure(
            "throughput", "% of that at 10,000", more_is_better=True, goals=(Goal(50),)
        ),
        Measure("open", "ms", goals=(Goal(100),)),
        Measure("RSS", "MB", goals=(Goal(150),)),
        Measure("file", "bytes a key", goals=(Goal(125),)),
        Measure("file after VACUUM", "bytes a key"),
    ),
    {OURS: _ours},
    quick=f"up to {SIZES[-2]:,} only",
    is_long=True,
)
"""What one mark costs by size, and what the largest file needs."""
