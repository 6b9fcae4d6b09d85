"""The blocking store, asked about keys that it remembers from a thread of a program."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from contextlib import closing, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from diskcache import Cache

from benchmarks import keys
from benchmarks.contestants import settings
from benchmarks.contestants.disk import DiskCache
from benchmarks.contestants.old import OldSeenStore
from benchmarks.measure import OURS, Goal, Measure, Outcome, Work
from benchmarks.timing import check
from catalyst_seen import SeenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.arena import Arena
    from benchmarks.measure import Run

    Verbs = dict[str, Callable[[str], bool]]
    Prepared = Callable[[Arena, Sequence[str]], AbstractContextManager[Verbs]]

_IS_SEEN, _CHECK = "is_seen", "check_and_mark"
_KEYS = 1_000


@contextmanager
def _ours(arena: Arena, seen: Sequence[str]) -> Iterator[Verbs]:
    with SeenStore(arena.file) as store:
        store.check_and_mark_many(seen)
        yield {
            _IS_SEEN: store.is_seen,
            _CHECK: lambda key: bool(store.check_and_mark(key)),
        }


@contextmanager
def _old(arena: Arena, seen: Sequence[str]) -> Iterator[Verbs]:
    with closing(sqlite3.connect(arena.file)) as db:
        for setting in settings(arena.synchronous):
            db.execute(setting)
        store = OldSeenStore(db)
        store.mark_many(seen)
        yield {_IS_SEEN: store.is_seen, _CHECK: store.check_and_mark}


@contextmanager
def _diskcache(arena: Arena, seen: Sequence[str]) -> Iterator[Verbs]:
    with closing(Cache(str(arena.folder / "cache"))) as cache:
        store = DiskCache(cache)
        with cache.transact():
            for key in seen:
                store.add(key)
        yield {_IS_SEEN: cache.__contains__, _CHECK: store.add}


def _asking(prepared: Prepared) -> Run:
    """Ask about keys, one after the other, each of which was read before."""

    def ask(arena: Arena) -> Outcome:
        seen = arena.keys(_KEYS)
        again = keys.shuffled(seen, arena.size)
        figures = {}
        with prepared(arena, seen) as verbs:
            check(sum(map(verbs[_IS_SEEN], seen)), _KEYS, true=_KEYS)
            for verb, question in verbs.items():
                gc.collect()
                started = perf_counter()
                answers = sum([question(key) for key in again])
                took = perf_counter() - started
                check(answers, len(again), true=len(again) * (verb == _IS_SEEN))
                figures[verb] = 1e6 * took / len(again)
        return Outcome(figures, rate=1e6 / max(figures.values()))

    async def run(arena: Arena) -> Outcome:
        return await asyncio.to_thread(ask, arena)

    return run


BLOCKING = Work(
    "blocking",
    "SeenStore, keys that were read just before, one thread",
    (
        Measure(_IS_SEEN, "µs", goals=(Goal(10),)),
        Measure(_CHECK, "µs", goals=(Goal(10),)),
    ),
    {
        OURS: _asking(_ours),
        "old store": _asking(_old),
        "diskcache": _asking(_diskcache),
    },
)
"""What one call costs."""
