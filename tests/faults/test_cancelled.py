"""Group A, first half: calls that are cancelled at every possible moment."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, Claim

from ..support.sqlite_files import a_row, write
from .harness.cancelling import SEED, Nemesis, assert_free, take, told
from .harness.checker import History
from .harness.marking import settings
from .harness.processes import stored
from .harness.report import Fault

pytestmark = pytest.mark.timeout(300)  # a hang is what is looked for


async def test_cancelled_mark_is_unknown(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A cancelled mark is unknown; the calls beside it and after it succeed."""
    row = fault("A1", "marks cancelled after 0 to 6 turns of the loop, or in a hop")
    nemesis, history = Nemesis(), History()
    cancels = 1_000 if torture else 200
    async with AsyncSeenStore(settings(path)) as store:
        await nemesis.measure(store)

        async def mark(key: str) -> None:
            begun = time.monotonic()
            outcome = told(await store.check_and_mark(key))
            history.tell(key, outcome, time.monotonic() - begun)

        for number in range(cancels):
            beside = nemesis.rng.choice([0, 0, 4])
            others = [mark(f"beside {number} {place}") for place in range(beside)]
            among = asyncio.gather(*others)
            key = f"key {number}"
            history.tell(key, told(await nemesis.cancel(store.check_and_mark(key))))
            await among
            await mark(f"next {number}")
            if number % 100 == 0:
                assert_free(path)
        assert_free(path)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(cancels - 1)
    row.note(f"{nemesis}; {cancels:,} of {cancels:,} next marks worked")
    assert nemesis.endings["cancelled"] > cancels / 10
    assert {f"next {number}" for number in range(cancels)} <= history.keys("new")


async def test_cancelled_claim_frees_its_key(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A cancelled claim is released: the key is free in a second."""
    row = fault("A2", "claims cancelled while they are taken")
    nemesis, history = Nemesis(), History()
    claims, at_once = 500 if torture else 100, 0
    async with AsyncSeenStore(settings(path)) as store:
        await nemesis.measure(store)
        for number in range(claims):
            key = f"key {number}"
            busy = asyncio.create_task(store.check_and_mark(f"beside {number}"))
            await asyncio.sleep(0)
            claim = await nemesis.cancel(take(store, key))
            history.tell(f"beside {number}", told(await busy))
            if claim is None:
                claim = await store.claim(key, lease=60)
                at_once += bool(claim)
                begun = time.monotonic()
                claim = claim or await store.claim(key, lease=60, wait=30)
                history.worst = max(history.worst, time.monotonic() - begun)
            assert claim
            await claim.confirm()
            history.tell(key, "new")
        assert_free(path)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(claims - 1)
    cancelled = nemesis.endings["cancelled"]
    row.note(f"{nemesis}; {at_once:,} of {cancelled:,} keys free at once")
    assert cancelled > claims / 10
    assert history.worst < 30


@pytest.mark.parametrize("verb", ["confirm", "release"])
async def test_cancelled_confirm_or_release_completes(
    path: Path, fault: Fault, verb: str, *, torture: bool
) -> None:
    """A confirm or release that has begun completes, though it is cancelled."""
    row = fault("A2", f"{verb}s cancelled")
    nemesis, history, ends = Nemesis(), History(), 200 if torture else 50
    async with AsyncSeenStore(settings(path)) as store:
        await nemesis.measure(store)
        for number in range(ends):
            key = f"key {number}"
            claim = await store.claim(key, lease=600)
            end: Coroutine[None, None, object] = getattr(claim, verb)()
            busy = asyncio.create_task(store.check_and_mark(f"beside {number}"))
            await asyncio.sleep(0)
            await nemesis.cancel(end, least=1)
            history.tell(f"beside {number}", told(await busy))
            await ended(store, claim, verb)
            history.tell(key, "new")
        assert_free(path)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(ends - 1)
    row.note(str(nemesis))


async def ended(store: AsyncSeenStore, claim: Claim, verb: str) -> None:
    """See that the key is seen; or that it is free, and mark it."""
    if verb == "confirm":
        assert await store.is_seen(claim.key), claim
        await claim.confirm()  # again, as a caller would who knows nothing
    else:
        assert await store.check_and_mark(claim.key), claim


async def test_cancelled_large_batch_is_atomic(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A batch of 1,000 that is cancelled is stored whole or not at all."""
    row = fault("A2", "batches of 1,000 cancelled")
    nemesis, history, batches = Nemesis(), History(), 100 if torture else 15
    sizes: Counter[int] = Counter()
    async with AsyncSeenStore(settings(path)) as store:
        nemesis.hop = 0.02
        for number in range(batches):
            keys = [f"{number} {place}" for place in range(1_000)]
            answers = await nemesis.cancel(store.check_and_mark_many(keys))
            for place, key in enumerate(keys):
                history.tell(key, told(answers[place] if answers else None))
            sizes[1_000 - len(await store.filter_new(keys))] += 1
        assert_free(path)
    stored_keys, intact = stored(path)
    row.add(history, stored_keys, intact=intact)
    row.passed(batches - 1)
    row.note(f"{nemesis}; half batches: {sizes.total() - sizes[0] - sizes[1_000]}")
    assert set(sizes) <= {0, 1_000}
    assert min(nemesis.endings["cancelled"], sizes[1_000]) > 0


async def test_cancelled_purge_removes_no_live_key(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A purge that is cancelled removes no live key; the next one continues."""
    row = fault("A2", "purges cancelled")
    nemesis, history, purges = Nemesis(), History(), 50 if torture else 10
    removed = 0
    async with AsyncSeenStore(settings(path)) as store:
        nemesis.hop = 0.02
        for number in range(purges):
            await store.mark_many((f"old {place}" for place in range(3_000)), ts=1e9)
            key = f"key {number}"
            history.tell(key, told(await store.check_and_mark(key)))
            await nemesis.cancel(store.purge_expired())
            history.tell(key, told(await store.check_and_mark(key)))
            removed += await store.purge_expired()
        assert_free(path)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(purges - 1)
    row.note(f"{nemesis}; {removed:,} rows were left for the next purges")
    assert nemesis.endings["cancelled"] > 0


@pytest.mark.usefixtures("nothing_left")
async def test_cancelled_detached_reads_leak_nothing(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """Detached reads that are cancelled leave no thread and no descriptor."""
    row = fault("A2", "counts, stats, checks and copies cancelled")
    nemesis, history = Nemesis(), History()
    copy, threads = path.with_name("copy.db"), threading.active_count()
    async with AsyncSeenStore(settings(path)) as store:
        nemesis.hop = 0.01
        looks: list[Callable[[], Coroutine[None, None, object]]] = [
            store.count, store.stats, store.held, store.check,
            lambda: store.backup(copy),
        ]  # fmt: skip
        for number in range(50 if torture else 10):
            for look in looks:
                copy.unlink(missing_ok=True)
                await nemesis.cancel(look())
            key = f"key {number}"
            history.tell(key, told(await store.check_and_mark(key)))
    async with asyncio.timeout(60):  # test_endings is about a loop that does not wait
        while threading.active_count() > threads:
            await asyncio.sleep(0.01)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(nemesis.endings.total() - 1)
    row.note(f"{nemesis}; threads and descriptors left: 0")
    assert nemesis.endings["cancelled"] > nemesis.endings.total() / 10


async def test_cancelled_result_pins_no_snapshot(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A call cancelled between its result and its caller pins nothing.

    A cursor left open would pin a snapshot; after another process's commit, every write
    would fail with SQLITE_BUSY_SNAPSHOT, whatever the timeout.
    """
    row = fault("A3", "cancelled between the answer and its caller")
    rng, history, kept = random.Random(SEED), History(), []
    calls = 200 if torture else 30
    async with AsyncSeenStore(settings(path)) as store:
        for number in range(calls):
            key = f"key {number}"
            call = asyncio.create_task(store.check_and_mark(key))
            await asyncio.sleep(0)
            time.sleep(0.01)  # noqa: ASYNC251 - the answer is posted, nobody took it
            for _ in range(rng.randrange(2)):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            history.tell(key, "unknown")
            kept.append(caught)
            write(path, *a_row("", f"other {number}"))
            history.tell(f"other {number}", "new")
            for place in range(3):
                key = f"next {number} {place}"
                history.tell(key, told(await store.check_and_mark(key)))
                assert (key, "new") == history.told[-1]
            assert_free(path)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(calls - 1)
    row.note(f"of {len(kept):,} cancelled calls none pinned a snapshot")


async def test_timed_out_mark_is_unknown(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A mark that timed out is unknown, and a repetition is right either way."""
    row = fault("A4", "timeouts of 1 ms while the worker is busy")
    history, already, busy = History(), 0, 1.0 if torture else 0.1
    async with AsyncSeenStore(settings(path)) as store:
        for number in range(10 if torture else 4):
            keys = [f"{number} {place}" for place in range(20)]
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                for key in keys:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(store.check_and_mark(key), 0.001)
                    history.tell(key, "unknown")
                await asyncio.sleep(busy)
                other.execute("ROLLBACK")
            for _ in range(2):
                for key in keys:
                    history.tell(key, told(await store.check_and_mark(key)))
            already += 20 - len(history.keys("new") & set(keys))
        assert_free(path)
    stored_keys, intact = stored(path)
    row.add(history, stored_keys, intact=intact)
    row.passed(len(history.keys("unknown")) - 1)
    timeouts = len(history.keys("unknown"))
    row.note(f"{already:,} of {timeouts:,} had marked when they were asked again")
    assert history.keys("new", "unknown") == stored_keys
