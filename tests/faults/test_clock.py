"""Group G: clocks that jump, stand still, tremble, and disagree."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    LeaseLostError,
    SeenStore,
    SeenStoreConfig,
    Verdict,
)

from ..support.clock import DAY, NOON
from .harness.cancelling import SEED, told
from .harness.checker import History
from .harness.processes import run, stored
from .harness.report import Fault
from .harness.scripts import PATIENCE, figures, script
from .harness.shim import compiled

pytestmark = pytest.mark.timeout(300)  # a hang is what is looked for

HOUR, TTL, LEASE = 3_600.0, 60.0, 30.0


class WrongClock:
    """A clock that errs: it shows the true time and its error."""

    def __init__(self, error: Callable[[], float] = lambda: 0.0) -> None:
        self.true = NOON
        self.error = error

    def __call__(self) -> float:
        """Tell the time."""
        return self.true + self.error()

    def step(self, seconds: float) -> None:
        """Be set forward, or back."""
        self.error = lambda: seconds


def opened(path: Path, clock: WrongClock) -> AsyncSeenStore:
    """A store that asks the database each time, with a clock of its own."""
    config = SeenStoreConfig(path, purge_interval=None, recent_staleness=0)
    return AsyncSeenStore(config, ttl=TTL, clock=clock)


@pytest.mark.parametrize("step", [1, HOUR, DAY], ids=["1 s", "1 h", "1 day"])
async def test_set_back(path: Path, fault: Fault, step: float) -> None:
    """Time stands still until the clock catches up: late by the step, never more."""
    row = fault("G1", f"clock set back by {step:,.0f} s")
    clock, history = WrongClock(), History()
    async with opened(path, clock) as store:
        history.tell("before", told(await store.check_and_mark("before")))
        await store.mark_seen("gone", ts=NOON - TTL)
        history.tell("gone", "new")
        clock.step(-step)
        assert not await store.is_seen("gone")  # nothing comes back
        history.tell("after", told(await store.check_and_mark("after")))
        record = await store.get("after")
        assert record is not None
        assert record.first_seen == NOON
        for late in (0, step / 2, step, step + TTL - 0.001):
            clock.true = NOON + late
            for key in ("before", "after"):
                history.tell(key, told(await store.check_and_mark(key)))
        async with opened(path, clock) as other:  # that knows nothing of the step
            assert await other.is_seen("before")
            clock.true = NOON + step + TTL
            for key in ("before", "after"):
                assert not await other.is_seen(key)
                assert not await store.is_seen(key)
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.note(f"keys expire {step:,.0f} s late, no more")
    assert history.keys("new") == {"before", "gone", "after"}


async def test_set_back_elsewhere(path: Path, fault: Fault) -> None:
    """A store opened after the step lives earlier: two may own a key, one confirms."""
    row = fault("G1", "clock set back by a day, seen by a store that opens then")
    clock, history = WrongClock(), History()
    async with opened(path, clock) as store:
        assert not await store.is_seen("k")  # it knows what time it is
        clock.step(-DAY)
        async with opened(path, clock) as later:
            theirs = await later.claim("k", lease=LEASE, ttl=2 * DAY)
            ours = await store.claim("k", lease=LEASE)
            assert (theirs.verdict, ours.verdict) == (Verdict.NEW, Verdict.RETRY)
            await ours.confirm()
            history.tell("k", "new")
            with pytest.raises(LeaseLostError):
                await theirs.confirm()
            history.tell("k", told(await later.check_and_mark("k")))
            assert history.told[-1] == ("k", "dup")
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.note("both owned the key, as documented; one could confirm")


async def test_set_forward(path: Path, fault: Fault) -> None:
    """Keys expire and leases end early by the step; a confirm is still one."""
    row = fault("G1", "clock set forward by an hour, then right again")
    clock, history = WrongClock(), History()
    async with opened(path, clock) as store, opened(path, clock) as other:
        await store.mark_seen("short")
        await store.mark_seen("long", ttl=2 * HOUR)
        history.tell("long", "new")
        claim = await store.claim("claimed", lease=LEASE, ttl=2 * HOUR)
        clock.step(HOUR)
        assert not await store.is_seen("short")
        history.tell("long", told(await other.check_and_mark("long")))
        async with other.claim("claimed", lease=LEASE) as stolen:
            assert stolen.verdict is Verdict.RETRY
        history.tell("claimed", "new")
        with pytest.raises(LeaseLostError):
            await claim.confirm()
        history.tell("short", told(await other.check_and_mark("short")))
        clock.step(0)
        clock.true = NOON + HOUR + TTL - 0.001
        history.tell("short", told(await store.check_and_mark("short")))
        clock.true = NOON + HOUR + TTL
        assert not await store.is_seen("short")
        history.tell("long", told(await store.check_and_mark("long")))
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.note("keys and leases end an hour early; what came meanwhile, an hour late")


LOOKS: dict[str, Callable[[AsyncSeenStore], Awaitable[object]]] = {
    "is_seen": lambda store: store.is_seen("k"),
    "get": lambda store: store.get("k"),
    "purge": lambda store: store.purge_expired(namespace="other"),
    "count": lambda store: store.count(),
    "stats": lambda store: store.stats(),
    "held": lambda store: store.held(),
}


# count, stats and held go aside since they were given a connection of their own, and do
# not tell the store what time they saw: these three fail.
@pytest.mark.parametrize("look", LOOKS)
async def test_nothing_comes_back(path: Path, fault: Fault, look: str) -> None:
    """What a store has once called gone stays so, when the clock is put right."""
    row = fault("G1", f"clock set forward, looked at by {look}, then put right")
    clock, history = WrongClock(), History()
    async with opened(path, clock) as store:
        history.tell("k", told(await store.check_and_mark("k")))
        clock.step(HOUR)
        await LOOKS[look](store)
        clock.step(0)
        assert not await store.is_seen("k")
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)


async def test_frozen(path: Path, fault: Fault) -> None:
    """By a clock that stands nothing expires, and nothing waits for it either."""
    row = fault("G1", "clock frozen")
    clock, history = WrongClock(), History()
    config = SeenStoreConfig(path, purge_interval=0.01, clock=clock)
    async with AsyncSeenStore(config, ttl=TTL) as store:
        for number in range(200):
            history.tell(f"{number}", told(await store.check_and_mark(f"{number}")))
            history.tell(f"{number}", told(await store.check_and_mark(f"{number}")))
        claim = await store.claim("claimed", lease=LEASE)
        started = time.monotonic()
        waiter = await store.claim("claimed", lease=LEASE, wait=0.05)
        assert waiter.verdict is Verdict.IN_FLIGHT
        assert 0.04 < time.monotonic() - started < PATIENCE
        assert claim.remaining() == LEASE
        async with store.claim("alive", lease=0.03, keep_alive=True):
            runs = (await store.stats()).purge_runs
            while (await store.stats()).purge_runs < runs + 3:
                assert time.monotonic() - started < PATIENCE
        history.tell("alive", "new")
        await claim.confirm()
        history.tell("claimed", "new")
        keys, intact = stored(path)
        row.add(history, keys, intact=intact)
        clock.true += TTL
        assert await store.count() == 0
    row.note("waits, renewals and the purge go by another clock, and go on")


async def test_trembling(path: Path, fault: Fault, *, torture: bool) -> None:
    """By a clock that trembles by 30 s, no key is seen a minute longer or shorter."""
    row = fault("G1", "clock that trembles by 30 s")
    rng, ttl, history = random.Random(SEED), 120.0, History()
    clock = WrongClock(lambda: rng.uniform(-30, 30))
    lasted: list[float] = []
    since: dict[str, float] = {}
    store = AsyncSeenStore(path, ttl=ttl, purge_interval=None, clock=clock)
    await store.open()
    seconds = 5_000 if torture else 1_000
    for second in range(seconds):
        clock.true = NOON + second
        if rng.random() < 0.02:  # another process, which knows no earlier time
            await store.aclose()
            store = AsyncSeenStore(path, ttl=ttl, purge_interval=None, clock=clock)
            await store.open()
        for key in ("a", "b", "c"):
            sighting = await store.check_and_mark(key)
            if second <= ttl - 60:
                history.tell(key, told(sighting))
            if sighting:
                lasted += [second - since[key]] if key in since else []
                since[key] = second
        if second > seconds / 2 and rng.random() < 0.1:
            await store.purge_expired()
    await store.aclose()
    keys, intact = stored(path)
    row.add(history, keys | {*since}, intact=intact)
    row.passed(len(lasted) - 1)
    row.note(f"keys of 120 s were seen for {min(lasted):g} to {max(lasted):g} s")
    assert ttl - 60 <= min(lasted) <= max(lasted) <= ttl + 60 + 1


MOVED = """
    import json
    offset_path = os.environ["CLOCK_OFFSET_FILE"]
    begin, begin_wall = time.monotonic(), time.time()

    def move(seconds):
        with open(offset_path + ".new", "w") as file:
            file.write(str(seconds))
        os.replace(offset_path + ".new", offset_path)
        wall = begin_wall + time.monotonic() - begin + seconds
        assert abs(time.time() - wall) < 30, "the shim does nothing"

    def opened(place=path, **settings):
        return AsyncSeenStore(place, ttl=60, **{"purge_interval": None, **settings})

    async def later(key, *steps):  # marks, then sees whether the key is there
        async with opened() as store:
            move(0)
            await mark(store, key)
            for seconds, is_there in steps:
                move(seconds)
                assert await store.is_seen(key) is is_there, (key, seconds)
                say("cell", 1)

    async def ahead(key):  # marks by a clock that runs ahead, and is then put right
        async with opened() as store:
            move(3600)
            assert not await store.is_seen(key)
            move(0)
            started = time.time()
            await mark(store, key)
            record = await store.get(key)
            assert 3590 < record.first_seen - started < 3610, record
            for seconds, is_there in ((61, True), (3655, True), (3665, False)):
                move(seconds)
                assert await store.is_seen(key) is is_there, (key, seconds)
                say("cell", 1)

    async def intervals():
        async with opened(path + ".purged", purge_interval=0.05) as store:
            runs, begun = (await store.stats()).purge_runs, time.monotonic()
            lag = 0
            for step in range(20):
                move((-1) ** step * 86400)
                started = time.monotonic()
                await asyncio.sleep(0.02)
                lag = max(lag, time.monotonic() - started - 0.02)
            while (await store.stats()).purge_runs < runs + 3:
                await asyncio.sleep(0.01)
            runs = (await store.stats()).purge_runs - runs
            say("purges", runs / (time.monotonic() - begun))
            say("lag", lag)
        move(0)

    async def timeout():
        from catalyst_seen import SeenStoreConfig
        config = SeenStoreConfig(path, timeout=0.2, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            blocker = sqlite3.connect(path, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            call = asyncio.create_task(store.mark_seen("blocked"))
            for step in range(10):
                move((-1) ** step * 86400)
                await asyncio.sleep(0.01)
            try:
                await call
            except StoreError:
                say("timeout", time.monotonic() - started)
            blocker.close()
        move(0)

    for number in range(rounds):
        asyncio.run(later(f"timely-{number}", (55, True), (65, False)))
        asyncio.run(later(f"forward-{number}", (3600, False)))
        asyncio.run(later(f"back-{number}", (-86400, True), (0, True), (65, False)))
        asyncio.run(ahead(f"ahead-{number}"))
        asyncio.run(intervals())
    asyncio.run(timeout())
"""


def shifted(path: Path, seconds: float = 0) -> dict[str, str]:
    """Make an environment in which a file moves the wall clock, and nothing else."""
    library = compiled("clockshift.c")
    offset = path.with_name("offset")
    offset.write_text(str(seconds))
    return {
        **os.environ, "LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset),
    }  # fmt: skip


def test_default_clock(path: Path, fault: Fault, *, torture: bool) -> None:
    """The wall clock decides what has expired; every wait goes by another one."""
    row = fault("G2", "wall clock moved under the default clock, by LD_PRELOAD")
    rounds = 20 if torture else 2
    words = script(MOVED, path, rounds)
    history, done = run(words, 10 * PATIENCE, env=shifted(path))
    assert done.returncode == 0, done.stderr
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    cells = len(figures(done.stdout, "cell"))
    purges, lag = figures(done.stdout, "purges"), figures(done.stdout, "lag")
    (timeout,) = figures(done.stdout, "timeout")
    row.passed(cells - 1)
    row.note(
        f"{cells} looks as documented; amid jumps of two days, purges of every 50 ms:"
        f" {min(purges):.0f} to {max(purges):.0f} a second, sleeps late by"
        f" {max(lag) * 1_000:.0f} ms at most; a timeout of 200 ms took"
        f" {timeout * 1_000:,.0f} ms"
    )
    assert cells == 9 * rounds
    assert max(purges) < 25
    assert 0.19 < timeout < PATIENCE


async def test_skewed_stores(path: Path, fault: Fault, *, torture: bool) -> None:
    """By clocks that differ, a lease is stolen earlier by the difference, no more."""
    row = fault("G3", "leases by two clocks up to 5 s apart")
    rng, history = random.Random(SEED), History()
    mine, theirs = WrongClock(), WrongClock()
    early: list[float] = []
    async with opened(path, mine) as store, opened(path, theirs) as other:
        for number in range(1_000 if torture else 100):
            key, skew = f"key {number}", rng.uniform(-5, 5)
            theirs.step(skew)
            mine.true = theirs.true = begun = NOON + 100 * number
            claim = await store.claim(key, lease=LEASE)
            while not (stolen := await other.claim(key, lease=LEASE)):
                mine.true = theirs.true = theirs.true + rng.uniform(0.1, 2)
            early.append(begun + LEASE - theirs.true)
            assert skew - 2 <= early[-1] + 1e-6
            assert early[-1] <= skew + 1e-6
            first, second = rng.sample([claim, stolen], 2)
            wins = [await ends(one) for one in (first, second)]
            assert wins == [first is stolen, second is stolen]
            history.tell(key, "new")
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(len(early) - 1)
    row.note(f"stolen {max(early):.2f} s early at most, {-min(early):.2f} s late")


async def ends(claim: Claim) -> bool:
    """Confirm a claim, and say whether it was still owned."""
    try:
        await claim.confirm()
    except LeaseLostError:
        return False
    return True


THIEF = """
    async def steal(store, key):
        claim = await store.claim(key, lease=60, wait=60)
        say("won", time.monotonic(), key)
        await claim.confirm()
        say("+", key)
        say("=", key, "new", 0)

    async def main():
        async with AsyncSeenStore(path, purge_interval=None) as store:
            say("open")
            keys = sys.stdin.readline().split()
            await asyncio.gather(*(steal(store, key) for key in keys))

    asyncio.run(main())
"""


def test_skewed_processes(path: Path, fault: Fault, *, torture: bool) -> None:
    """The same between two processes, of which one has a wrong wall clock."""
    for skew in (5.0, -5.0) if torture else (5.0,):
        skewed(path, fault, skew, 3 if torture else 1)


def skewed(path: Path, fault: Fault, skew: float, rounds: int) -> None:
    """Let a process whose clock is wrong wait for the leases of one that is right."""
    row = fault("G3", f"leases by the clocks of two processes, {skew:+g} s apart")
    rng, early = random.Random(SEED), list[float]()
    for number in range(rounds):
        leases = {
            f"{skew:g}:{number}:{place}": max(skew, 0) + rng.uniform(0.3, 1)
            for place in range(20)
        }
        history = race(path, leases, shifted(path, skew), early)
        keys, intact = stored(path)
        row.add(history, keys & {*leases}, intact=intact)
    row.passed(len(early) - row.rounds)
    row.note(f"stolen {max(early):+.2f} s early at most, {min(early):+.2f} s at least")
    assert max(early) <= max(skew, 0) + 0.01
    assert len(early) == 20 * rounds


def race(
    path: Path, leases: dict[str, float], env: dict[str, str], early: list[float]
) -> History:
    """Claim keys, let another process wait for them, and try to confirm them."""
    words = script(THIEF, path, 1)
    with (
        SeenStore(SeenStoreConfig(path, purge_interval=None)) as store,
        subprocess.Popen(
            words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as thief,
    ):
        assert thief.stdin is not None
        assert thief.stdout is not None
        assert thief.stdout.readline() == "open\n"
        ends_at, claims = {}, []
        for key, lease in leases.items():
            ends_at[key] = time.monotonic() + lease
            claims.append(store.claim(key, lease=lease))
            assert claims[-1]
        thief.stdin.write(" ".join(leases) + "\n")
        thief.stdin.flush()
        too_late = threading.Timer(PATIENCE, thief.kill)
        too_late.start()
        said = thief.stdout.read().splitlines()
        too_late.cancel()
        for claim in claims:
            with pytest.raises(LeaseLostError):
                claim.confirm()
    won = [line.split() for line in said if line.startswith("won ")]
    early += [ends_at[key] - float(instant) for _, instant, key in won]
    return History().read(said)
