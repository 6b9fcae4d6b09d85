"""The benchmarks about feeds measure what they say, and refuse wrong answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # behind the installed package

from benchmarks import feeds
from benchmarks.arena import Arena
from benchmarks.contestants.naive import NaiveAiosqlite
from benchmarks.contestants.ours import Ours, OursByFilter
from benchmarks.contestants.raw import PlainStatement, RawSqlite
from benchmarks.load import claiming, claiming_many
from benchmarks.measure import WrongAnswerError
from benchmarks.pace import Moment, beside, probe
from benchmarks.remembering import FORMS, in_set, in_store
from benchmarks.timing import LOOP, WORKER
from benchmarks.works import large
from catalyst_seen import AsyncSeenStore, SeenStore, Verdict


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    """A place without servers, for a short run."""
    no_servers: Any = None
    return Arena(tmp_path, tmp_path, no_servers, size=300)


def test_feeds_move_on() -> None:
    """Each poll lists one new item and no longer the oldest, as new strings."""
    polled = feeds.Feeds(3, polls=2)
    first, second = polled.listings(0), polled.listings(1)
    assert len({name for name, _ in first}) == 3
    for (name, before), (same, after) in zip(first, second, strict=True):
        assert name == same
        assert after[:-1] == before[1:]
        assert after[-1] not in before
        assert after[0] is not before[1]
        assert {len(one.encode()) for one in (name, *before, *after)} == {60}


POLLERS = [Ours, OursByFilter, PlainStatement, NaiveAiosqlite]


@pytest.mark.parametrize("poller", POLLERS)
async def test_polls_of_feeds(arena: Arena, poller: Any) -> None:
    """Every form of a poll finds what is new, once, and all is measured."""
    quick = replace(arena, is_quick=True)
    outcome = await feeds.polling(poller.opened, feeds=9, quick=2)(quick)
    assert set(outcome.figures) == {one.name for one in feeds.measures({})}
    for name, figure in outcome.figures.items():
        early = 1 if feeds.LAG in name else 0  # a timer may be early by some of a ms
        assert figure > -early, name


@pytest.mark.parametrize("phase", [0, 1, 2])
async def test_wrong_answer_about_a_feed(arena: Arena, phase: int) -> None:
    """Who miscounts the new items is out, in whatever phase."""
    calls = 0

    class Wrong(Ours):
        async def poll(self, namespace: str, keys: Sequence[str]) -> int:
            nonlocal calls
            calls += 1
            wrong = calls == 1 + 2 * phase * 2  # of two feeds, polled twice in a phase
            return await super().poll(namespace, keys) + wrong

    quick = replace(arena, is_quick=True)
    with pytest.raises(WrongAnswerError, match="answers were true"):
        await feeds.polling(Wrong.opened, feeds=9, quick=2)(quick)


async def test_loop_that_is_never_free_is_late(arena: Arena) -> None:
    """A contestant that never gives the loop a turn is late by the whole poll."""

    class Busy:
        def __init__(self) -> None:
            self.seen: set[str] = set()

        @asynccontextmanager
        async def opened(self, _: Arena) -> AsyncIterator[Busy]:
            yield self

        async def poll(self, _namespace: str, keys: Sequence[str]) -> int:
            sum(range(20_000))
            new = set(keys) - self.seen
            self.seen |= new
            return len(new)

    outcome = await feeds.polling(Busy().opened, feeds=40, quick=9)(arena)
    items = 40 * feeds.ITEMS
    took = 1e3 * items / outcome.figures[feeds.UNCHANGED]
    assert outcome.figures[feeds.of(feeds.UNCHANGED, feeds.LAG)] > took / 2


async def test_lag_until_the_end_counts() -> None:
    """The loop is late also if it is not free before the measurement ends."""
    lags: list[Moment] = []

    async def compute() -> None:
        sum(range(1_000_000))

    async with beside(probe(lags)):
        await asyncio.sleep(0)
        await asyncio.gather(compute())
    assert max(late for _, late in lags) > 0


async def test_raw_claims_are_those_of_the_store(arena: Arena) -> None:
    """What is claimed and confirmed by hand is seen by the store, with its fence."""
    async with RawSqlite.opened(arena) as raw:
        assert await raw.claim_and_confirm_many(["a", "b"]) == 2
        assert await raw.claim_and_confirm_many(["b", "c"]) == 1
    async with AsyncSeenStore(arena.file) as store:
        for key in "abc":
            record = await store.get(key)
            assert record is not None
            assert (record.state, record.attempt) == ("seen", 1)
        assert (await store.claim("a")).verdict is Verdict.DUPLICATE


async def test_cpu_time_of_each_thread(arena: Arena) -> None:
    """The store's worker has CPU time of its own; raw sqlite3 has no other thread."""
    ours = await claiming(Ours.opened, tasks=10)(arena)
    assert min(ours.figures[LOOP], ours.figures[WORKER]) > 0
    (arena.folder / "seen.db").unlink()
    raw = await claiming_many(RawSqlite.opened, size=10)(arena)
    assert raw.figures[LOOP] > raw.figures[WORKER]


@pytest.mark.parametrize("form", FORMS)
async def test_memory_of_feeds(tmp_path: Path, form: str) -> None:
    """Unchanged listings are answered from memory, and what is kept is counted."""
    polled = feeds.Feeds(20, polls=4)
    figures = await in_store(form, str(tmp_path / "seen.db"), polled)
    kept = await in_set(polled)
    assert figures["hits"] > 90
    assert figures["memory"] > 0
    assert kept["memory"] > 20 * feeds.ITEMS * 60 / 1e6


async def test_large_file_of_many_namespaces(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has the keys that it should have, spread evenly over the feeds."""
    monkeypatch.setattr(large, "FEEDS", 10)
    monkeypatch.setattr(large, "_NAMES", [feeds.name(feed) for feed in range(10)])
    files = {size: arena.folder / f"{size}.db" for size in (20, 1_200)}
    await large.fill(files, arena)
    for size, path in files.items():
        with SeenStore(path) as store:
            assert store.count() == size
            names = store.namespaces()
            assert [store.count(namespace=one) for one in names] == [size // 10] * 10
