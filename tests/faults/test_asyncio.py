"""Group A, second half: opening, closing, leaking, loops, and twenty thousand calls."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    SeenError,
    StoreClosedError,
)

from ..support.leaks import open_descriptors
from ..support.sqlite_files import a_row, write
from .harness.cancelling import SEED, take, told
from .harness.checker import History
from .harness.marking import settings
from .harness.processes import stored
from .harness.report import Fault

pytestmark = pytest.mark.timeout(300)  # a hang is what is looked for

PATIENCE = 60.0
"""Seconds after which a call hangs, on however busy a machine."""

Verb = Callable[[AsyncSeenStore, str], Awaitable[object]]

VERBS: dict[str, Verb] = {
    "is_seen": lambda store, key: store.is_seen(key),
    "mark_seen": lambda store, key: store.mark_seen(key),
    "mark_many": lambda store, key: store.mark_many([key]),
    "check_and_mark": lambda store, key: store.check_and_mark(key),
    "check_and_mark_many": lambda store, key: store.check_and_mark_many([key]),
    "filter_new": lambda store, key: store.filter_new([key]),
    "claim": take,
    "claim_many": lambda store, key: store.claim_many([key]),
    "resolve": lambda store, key: store.resolve(key, handled=True),
    "forget": lambda store, key: store.forget(key),
    "get": lambda store, key: store.get(key),
    "held": lambda store, _: store.held(),
    "count": lambda store, _: store.count(),
    "stats": lambda store, _: store.stats(),
    "purge_expired": lambda store, _: store.purge_expired(),
    "cleanup_old_entries": lambda store, _: store.cleanup_old_entries(),
}


async def mark(store: AsyncSeenStore, key: str, history: History) -> None:
    """Check and mark a key of a store that may be closing."""
    started = time.monotonic()
    try:
        outcome = told(await store.check_and_mark(key))
    except StoreClosedError:
        outcome = "fail"
    history.tell(key, outcome, time.monotonic() - started)


async def close(store: AsyncSeenStore) -> float:
    """Close a store, and say how long that took."""
    started = time.monotonic()
    await store.aclose()
    return time.monotonic() - started


@pytest.mark.usefixtures("nothing_left")
async def test_concurrent_closes_amid_marks(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """Ten closes amid a hundred marks: each mark is done or refused, nothing hangs."""
    row = fault("A5", "10 closes at once while 100 marks are in flight")
    rng, worst = random.Random(SEED), 0.0
    for number in range(100 if torture else 15):
        few = settings(path, max_in_flight=20)  # in a batch
        store, history = AsyncSeenStore(few), History()
        await store.open()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            marks = [f"{number} {place}" for place in range(100)]
            for key in marks:
                group.create_task(mark(store, key, history))
            for _ in range(rng.randrange(8)):
                await asyncio.sleep(0)
            closes = [group.create_task(close(store)) for _ in range(10)]
            group.create_task(mark(store, f"{number} late", history))
        assert history.keys("fail") == {f"{number} late"}
        worst = max(worst, *(done.result() for done in closes))
        await close(store)
        started = time.monotonic()
        for verb in VERBS.values():
            with pytest.raises(StoreClosedError):
                await verb(store, "k")
        assert time.monotonic() - started < PATIENCE / 4
        keys, intact = stored(path)
        row.add(history, keys & {key for key, _ in history.told}, intact=intact)
    row.note(f"{row.rounds * 10:,} closes, none hung, worst {worst * 1_000:,.0f} ms")


@pytest.mark.usefixtures("nothing_left")
async def test_cancelled_opens(path: Path, fault: Fault, *, torture: bool) -> None:
    """An open that is cancelled leaves no thread and no descriptor."""
    row = fault("A6", "opens cancelled")
    rng, endings = random.Random(SEED), Counter[str]()
    before = len(open_descriptors()), threading.active_count()
    opens = 200 if torture else 20
    for _ in range(opens):
        store = AsyncSeenStore(settings(path))
        opening = asyncio.create_task(store.open())
        await asyncio.sleep(rng.choice([0, rng.random() * 0.01]))
        opening.cancel()
        try:
            await opening
            await store.aclose()
            endings["were faster"] += 1
        except asyncio.CancelledError:
            endings["were cancelled"] += 1
    await settle(before)
    async with AsyncSeenStore(settings(path)) as store:
        history = History()
        await mark(store, "k", history)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(opens - 1)
    row.note(", ".join(f"{count} {what}" for what, count in endings.items()))
    assert endings["were cancelled"]


@pytest.mark.usefixtures("nothing_left")
async def test_failing_opens(path: Path, fault: Fault, *, torture: bool) -> None:
    """An open that fails leaves no thread and no descriptor, and says why."""
    row = fault("A6", "opens of what is no store")
    folder, junk, text = path.parent / "d", path.parent / "junk", path.parent / "file"
    folder.mkdir()
    junk.write_bytes(b"junk" * 1_000)
    text.write_text("a file")
    before = len(open_descriptors()), threading.active_count()
    opens = 50 if torture else 10
    for bad in (folder, junk, text / "seen.db", Path("/proc/seen.db")):
        for _ in range(opens):
            with pytest.raises(SeenError, match=bad.name):
                await AsyncSeenStore(settings(bad)).open()
        await settle(before)
        row.passed(opens)
    assert junk.read_bytes() == b"junk" * 1_000


async def settle(before: tuple[int, int]) -> None:
    """Wait until no more descriptors and threads are there than before."""
    async with asyncio.timeout(PATIENCE):
        while (len(open_descriptors()), threading.active_count()) > before:
            await asyncio.sleep(0.01)
    assert len(open_descriptors()) <= before[0]
    assert threading.active_count() <= before[1]


def test_other_loops(path: Path, fault: Fault, *, torture: bool) -> None:
    """Every verb refuses a second loop at its first call, even what is in memory."""
    row = fault("A9", "asyncio.run twice on one store, and a loop of another thread")
    refused = Counter[str]()  # and never a silent answer

    async def intrude(store: AsyncSeenStore, where: str) -> None:
        for verb in VERBS.values():
            with pytest.raises(StoreClosedError, match="another event loop"):
                await verb(store, "k")
            refused[where] += 1

    async def first(store: AsyncSeenStore, key: str, history: History) -> None:
        await store.open()
        await mark(store, "k", History())  # from here on it is in memory
        await asyncio.to_thread(
            asyncio.run, intrude(store, "refused in another thread")
        )
        await mark(store, key, history)

    for number in range(10 if torture else 2):
        store, history = AsyncSeenStore(path, purge_interval=None), History()
        asyncio.run(first(store, str(number), history))
        asyncio.run(intrude(store, "refused in a second run"))
        asyncio.run(asyncio.wait_for(store.aclose(), PATIENCE))
        keys, intact = stored(path)
        row.add(history, keys & {str(number)}, intact=intact)
    row.note(", ".join(f"{count} calls {where}" for where, count in refused.items()))
    assert refused.total() == row.rounds * 2 * len(VERBS)


class Probe:
    """Measures how long the loop lets others wait, and how much memory there is."""

    def __init__(self) -> None:
        self.lag = 0.0
        self.most = self.begin = _megabytes()

    async def run(self) -> None:
        """Look every hundredth of a second."""
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.01)
            self.lag = max(self.lag, time.monotonic() - started - 0.01)
            self.most = max(self.most, _megabytes())


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / 1e6


async def test_twenty_thousand_concurrent_marks(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """Twenty thousand concurrent marks complete, in bounded batches."""
    marks = 20_000 if torture else 5_000
    row = fault("A12", f"{marks:,} marks at once")
    history, latencies, probe = History(), list[float](), Probe()
    watching = asyncio.create_task(probe.run())
    async with AsyncSeenStore(settings(path)) as store:

        async def timed(key: str) -> None:
            started = time.monotonic()
            await mark(store, key, history)
            latencies.append(time.monotonic() - started)

        await asyncio.gather(*(timed(f"key {number}") for number in range(marks)))
        batches = (await store.stats()).batches
    watching.cancel()
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    latencies.sort()
    p50, p99 = latencies[marks // 2], latencies[marks * 99 // 100]
    row.note(
        f"{batches} batches, call p50 {p50 * 1_000:,.0f} ms, p99 {p99 * 1_000:,.0f} ms;"
        f" the loop kept others waiting for {probe.lag * 1_000:,.0f} ms at most;"
        f" {probe.most - probe.begin:,.0f} MB"
    )
    assert len(history.keys("new")) == marks
    assert batches >= marks / 1_000  # max_in_flight
    assert probe.lag < PATIENCE / 4


async def test_purge_task(path: Path, fault: Fault, *, torture: bool) -> None:
    """The purge outlives a lock that others hold, and a clock that raises."""
    row = fault("A13", "purges that meet a held lock, then a clock that fails")
    clock, history = BrokenClock(), History()
    store = AsyncSeenStore(path, ttl=None, purge_interval=0.01, clock=clock)
    await store.open()
    rounds, held = (5, 3.0) if torture else (2, 0.4)
    for number in range(rounds):
        with capture_logs() as logs:
            await store.mark_many((f"old {place}" for place in range(100)), ttl=1)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                clock.now += 1
                await until(store, "failures")
                await asyncio.sleep(held)
                other.execute("ROLLBACK")
            await until(store, "runs")
            clock.is_broken = True
            await until(store, "failures")
            clock.is_broken = False
            await until(store, "runs")
        await mark(store, f"key {number}", history)
        assert [log["event"] for log in logs].count("purge_failed") == 2, logs
    stats = await store.stats()
    await store.mark_many((f"old {place}" for place in range(20_000)), ts=1e9, ttl=1)
    await asyncio.sleep(0.01)
    took = await close(store)
    keys, intact = stored(path)
    row.add(history, {key for key in keys if not key.startswith("old")}, intact=intact)
    row.passed(2 * rounds - 1)
    row.note(
        f"{stats.purge_rows:,} rows purged, {stats.purge_failures} purges failed and"
        f" were outlived, each of {2 * rounds} causes logged once; a close amid a purge"
        f" took {took * 1_000:,.0f} ms"
    )
    assert stats.purge_rows == rounds * 100
    assert took < PATIENCE / 2


class BrokenClock:
    """Stands still, or fails."""

    now, is_broken = 4e9, False

    def __call__(self) -> float:
        """Tell the time."""
        if self.is_broken:
            raise ZeroDivisionError("a broken clock")
        return self.now


async def until(store: AsyncSeenStore, what: str) -> None:
    """Wait for two more purges that run, or fail: the first may be under way."""
    before = getattr(store._maintenance, what)
    async with asyncio.timeout(PATIENCE):
        while getattr(store._maintenance, what) < before + 2:
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("nothing_left")
async def test_store_dropped_after_any_verb_warns(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A store that is dropped after any verb leaves no lock, and warns."""
    row = fault("A14", f"every reference dropped, after each of {len(VERBS)} verbs")
    slowest = 0.0
    gc.collect()
    gc.freeze()  # what others have made is looked through no more
    history, rounds = History(), 20 if torture else 2
    for number in range(rounds):
        for name, verb in VERBS.items():
            made = [AsyncSeenStore(settings(path))]
            await made[0].open()
            await mark(made[0], f"{name} {number}", history)
            await verb(made[0], f"{name} {number} verb")
            history.tell(f"{name} {number} verb", "unknown")
            with pytest.warns(ResourceWarning, match=r"seen.db' open> was never"):
                drop(made)
            started = time.monotonic()
            write(path, *a_row("", f"other {name} {number}", seen_at=time.time()))
            slowest = max(slowest, time.monotonic() - started)
            history.tell(f"other {name} {number}", "new")
    gc.unfreeze()
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(rounds * len(VERBS) - 1)
    row.note(f"another connection wrote in {slowest * 1_000:,.0f} ms at most")
    assert slowest < PATIENCE / 4


def drop(made: list[AsyncSeenStore]) -> None:
    """Forget a store, and all that keeps it."""
    made.clear()
    gc.collect()
