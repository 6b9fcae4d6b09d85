"""Group B: races for a key, and the edges of one: many tasks, many processes."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig, Verdict

from ..support.clock import Clock
from ..support.sqlite_files import read
from ..support.targets import Places, Target
from .harness import workers
from .harness.checker import History
from .harness.crowd import begin_together, start
from .harness.places import is_intact, seen_tokens, settings_of
from .harness.processes import stored
from .harness.report import Fault
from .harness.zygote import Zygote

TASKS = 64
PROCESSES = 8


@pytest.mark.parametrize("staleness", [1.0, 0.0])
async def test_one_of_64_tasks_wins_each_key(
    path: Path, fault: Fault, staleness: float, *, torture: bool
) -> None:
    """Of 64 tasks that mark the same keys, each in its own order, one wins each key."""
    memory = "with" if staleness else "without"
    row = fault("B1", f"{TASKS} tasks mark the same keys, {memory} a memory")
    keys = [str(number) for number in range(10_000 if torture else 300)]
    history = History()
    config = SeenStoreConfig(path, recent_staleness=staleness, purge_interval=None)
    async with AsyncSeenStore(config) as store:

        async def mark(seed: int) -> None:
            for key in random.Random(seed).sample(keys, len(keys)):
                started = time.monotonic()
                is_new = await store.check_and_mark(key)
                took = time.monotonic() - started
                history.tell(key, "new" if is_new else "dup", took)

        await asyncio.gather(*(mark(seed) for seed in range(TASKS)))
        stats = await store.stats()
    final, intact = stored(path)
    row.add(history, final, intact=intact)
    row.note(f"{len(history.told):,} calls in {stats.batches:,} transactions")
    assert len(history.told) == TASKS * len(keys)
    assert final == {*keys}


def test_one_of_eight_processes_wins_each_key(
    shared: Target,
    places: Places,
    zygote: Zygote,
    fault: Fault,
    *,
    torture: bool,
) -> None:
    """Of eight processes that mark the same keys, one wins each; none fails."""
    number = "B3" if shared.is_server else "B2"
    row = fault(number, f"{PROCESSES} processes mark the same keys, {shared.name}")
    keys = 1_500 if torture else 100
    racers = [
        start(zygote, workers.race, settings_of(shared), keys, seed)
        for seed in range(PROCESSES)
    ]
    begin_together(racers)
    started = time.monotonic()
    assert [racer.wait() for racer in racers] == [0] * PROCESSES
    took = time.monotonic() - started
    history = History()
    for racer in racers:
        history.read(racer.said())
    row.add(history, seen_tokens(shared, places), intact=is_intact(shared))
    calls = PROCESSES * keys
    row.note(f"{calls:,} calls, {calls / took:,.0f} a second, of which none failed")
    assert not history.keys("fail", "unknown")
    assert len(history.told) == calls
    assert len(history.keys("new")) == keys


def test_first_open(path: Path, zygote: Zygote, fault: Fault, *, torture: bool) -> None:
    """Of eight processes that open a new file at once, all can, and it is one store."""
    row = fault("B4", f"{PROCESSES} processes open a new file at once")
    for number in range(100 if torture else 4):
        fresh = path.with_name(f"{number}.db")
        settings = {"path": str(fresh), "purge_interval": None}
        openers = [
            start(zygote, workers.first, settings, str(one)) for one in range(PROCESSES)
        ]
        begin_together(openers)
        assert [one.wait() for one in openers] == [0] * PROCESSES
        history = History()
        for opener in openers:
            history.read(opener.said())
        assert len(history.keys("new")) == PROCESSES
        final, intact = stored(fresh)
        row.add(history, final, intact=intact)
        assert read(fresh, "PRAGMA journal_mode") == [("wal",)]
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        assert read(fresh, tables) == [("detail",), ("namespace",), ("seen",)]
    row.note(f"{row.rounds * PROCESSES} of {row.rounds * PROCESSES} opened it")


async def test_edge_of_a_ttl(target: Target, clock: Clock, fault: Fault) -> None:
    """A key is seen before its instant and unseen from it on, whoever asks how."""
    row = fault("B8", f"the edge of a TTL, {target.name}")
    late = 0.0011 if target.expires_by_itself else 0.0  # Redis rounds up to the next ms
    config = target.config(purge_interval=None, recent_staleness=1_000)
    async with AsyncSeenStore(config, ttl=60) as store:
        for number, ttl in enumerate([0.001, 0.5, 1, 60, 86_400, 1e8]):
            for step, is_seen in ((-0.0005, True), (late, False), (1, False)):
                clock.advance(100)
                marked = clock.now
                namespace = f"{number} {step}"
                await store.mark_many(["a", "b", "c"], ttl=ttl, namespace=namespace)
                clock.now = marked + ttl + step
                await look(store, namespace, is_seen=is_seen)
                row.passed()
    row.note("6 TTLs, 3 instants: is_seen, get, filter_new, count, check_and_mark,"
             " claim, purge agree")  # fmt: skip


async def look(store: AsyncSeenStore, namespace: str, *, is_seen: bool) -> None:
    """Ask in every way whether keys are seen: last, in those that change something."""
    new = [] if is_seen else ["a", "b", "c"]
    assert await store.is_seen("a", namespace=namespace) is is_seen
    record = await store.get("a", namespace=namespace)
    assert (record is not None) is is_seen
    assert await store.filter_new([*"abc"], namespace=namespace) == new
    assert await store.count(namespace=namespace) == (3 if is_seen else 0)
    sighting = await store.check_and_mark("a", ttl=60, namespace=namespace)
    assert sighting.verdict is (Verdict.DUPLICATE if is_seen else Verdict.NEW)
    claim = await store.claim("b", lease=60, ttl=60, namespace=namespace)
    assert claim.verdict is (Verdict.DUPLICATE if is_seen else Verdict.NEW)
    await store.purge_expired(namespace=namespace)
    left = {"a", "b", "c"} if is_seen else {"a"}
    unseen = {*await store.filter_new(["a", "b", "c"], namespace=namespace)}
    assert {"a", "b", "c"} - unseen == left


async def test_bad_ttl(target: Target, fault: Fault) -> None:
    """What is no length of time, or none that anybody needs, is refused before I/O."""
    row = fault("B8", f"TTLs that are none, {target.name}")
    nonsense = [
        0, -1, -0.0, float("inf"), float("nan"), 1e18, True, "60", b"60", 1j, [60],
    ]  # fmt: skip
    async with AsyncSeenStore(target.config(purge_interval=None)) as store:
        for ttl in nonsense:
            calls = (
                store.mark_seen("k", ttl=ttl),  # type: ignore[arg-type]
                store.check_and_mark("k", ttl=ttl),  # type: ignore[arg-type]
                store.mark_many(["k"], ttl=ttl),  # type: ignore[arg-type]
                store.check_and_mark_many(["k"], ttl=ttl),  # type: ignore[arg-type]
            )
            for call in calls:
                with pytest.raises((ValueError, TypeError)):
                    await call
                row.passed()
            with pytest.raises((ValueError, TypeError)):
                await store.claim("k", ttl=ttl)  # type: ignore[arg-type]
            with pytest.raises((ValueError, TypeError)):
                await store.claim_many(["k"], ttl=ttl)  # type: ignore[arg-type]
        assert (await store.stats()).batches == 0


@pytest.mark.usefixtures("clock")
async def test_large_batches(target: Target, fault: Fault, *, torture: bool) -> None:
    """Of equal keys in a batch the first is new; answers come in the keys' order."""
    row = fault("B9", f"batches with keys that come twice, {target.name}")
    sizes = [0, 1, 2, 999, 1_000, 1_025]
    sizes += [32_767, 100_000] if torture else [3_000]
    rng = random.Random(20_261_125)
    config = target.config(purge_interval=None, recent_staleness=0)
    async with AsyncSeenStore(config) as store:
        for size in sizes:
            before = (await store.stats()).batches
            keys = [f"k{rng.randrange(size * 2 // 3 + 1)}" for _ in range(size)]
            namespace = str(size)
            answers = await store.check_and_mark_many(keys, namespace=namespace)
            assert [answer.key for answer in answers] == keys
            unseen: set[str] = {*keys}
            for answer in answers:
                assert bool(answer) is (answer.key in unseen)
                unseen.discard(answer.key)
            assert await store.count(namespace=namespace) == len({*keys})
            again = await store.check_and_mark_many(keys, namespace=namespace)
            assert not any(again)
            if not size:
                assert (await store.stats()).batches == before
            row.passed()
    row.note(f"{', '.join(f'{size:,}' for size in sizes)} keys: none out of order")
