"""Group B: leases, and owners that are killed, asleep, or late."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, LeaseLostError, SeenStore, Verdict

from ..support.clock import Clock
from ..support.sqlite_files import read
from ..support.targets import Places, Target
from .harness import workers
from .harness.crowd import go_on, is_stopped, start, until
from .harness.places import is_intact, seen_tokens, settings_of
from .harness.report import Fault, Row
from .harness.zygote import Forked, Zygote

WORKERS = 12
LEASE = 1.0

Step = tuple[str, str]
"""Key and token."""


@dataclass
class Crowd:
    """Workers that are started anew whenever one is killed."""

    zygote: Zygote
    arguments: tuple[Any, ...]
    running: list[Forked] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    kills: int = 0

    def start(self, count: int) -> None:
        """Start more of them."""
        for _ in range(count):
            self.running.append(start(self.zygote, workers.handle, *self.arguments))

    def kill_at_random(self, rng: random.Random, most: int, pause: float) -> None:
        """Kill one at work after each pause, until enough were or one is done."""
        is_done = False
        while self.kills < most and not is_done:
            time.sleep(rng.uniform(0.5, 1.5) * pause)
            victims = [one for one in self.running if one.said()]
            if victims:
                victim = rng.choice(victims)
                code = victim.kill()
                assert code in {0, -signal.SIGKILL}
                is_done = code == 0
                self.kills += not is_done
                self.lines += victim.said()
                self.running.remove(victim)
                self.start(1)

    def wait(self) -> None:
        """Wait for all of them to end well."""
        assert [one.wait() for one in self.running] == [0] * len(self.running)
        for one in self.running:
            self.lines += one.said()


def test_killed_at_random(
    shared: Target,
    places: Places,
    zygote: Zygote,
    fault: Fault,
    *,
    torture: bool,
) -> None:
    """Twelve processes, three killed a second: every key is confirmed, none twice."""
    row = fault("B6", f"kill -9 of owners of claims, {shared.name}")
    keys, kills, pause = (4_000, 60, 0.27) if torture else (160, 6, 0.1)
    SeenStore(shared.config()).close()
    crowd = Crowd(zygote, (settings_of(shared), keys, LEASE))
    crowd.start(WORKERS)
    crowd.kill_at_random(random.Random(20_261_123), kills, pause)
    crowd.wait()
    assert crowd.kills >= kills / 2
    compare(crowd.lines, seen_tokens(shared, places), keys, row)
    assert is_intact(shared)
    row.passed(crowd.kills)


def compare(lines: list[str], stored: dict[str, str], keys: int, row: Row) -> None:
    """Compare what workers noted with what is stored; fill the line."""
    steps: dict[str, list[Step]] = {"worked": [], "confirmed": [], "lost": []}
    for line in lines:
        step, key, token = line.split()
        steps[step].append((key, token))
    confirmed = Counter(key for key, _ in steps["confirmed"])
    worked = Counter(key for key, _ in steps["worked"])
    unknown = {*steps["worked"]} - {*steps["confirmed"]} - {*steps["lost"]}
    row.acknowledged += len(steps["confirmed"])
    row.doubled += sum(count > 1 for count in confirmed.values())
    row.lost += keys - len(stored)
    row.unknown += len(unknown)
    row.stored += len(unknown & {*stored.items()})
    repeated = sum(count > 1 for count in worked.values())
    row.note(f"{keys:,} keys, {WORKERS} processes, {repeated} worked on again")
    assert (row.doubled, row.lost) == (0, 0)
    # What a process was told to be confirmed is: by its own token, and for good.
    assert {(key, stored[key]) for key in confirmed} == {*steps["confirmed"]}
    assert not {*steps["lost"]} & {*stored.items()}
    # Whatever else is stored was confirmed by one whose end kept it from saying so.
    assert {*stored.items()} - {*steps["confirmed"]} <= unknown


def test_stopped_holder(
    path: Path, zygote: Zygote, fault: Fault, *, torture: bool
) -> None:
    """A holder that slept for 1.5 leases cannot confirm what another has claimed."""
    row = fault("B5", "owner stopped for 1.5 leases")
    holders, rounds, lease = (10, 10, 1.0) if torture else (3, 3, 0.4)
    endings: Counter[str] = Counter()
    with SeenStore(path) as store:
        stopped = [
            start(
                zygote,
                workers.hold,
                {"path": str(path)},
                [f"{one}-{number}" for number in range(rounds)],
                lease,
            )
            for one in range(holders)
        ]
        for number in range(rounds):
            until(lambda: all(map(is_stopped, stopped)))
            assert all(one.said()[-1].endswith(" new") for one in stopped)
            time.sleep(1.5 * lease)
            for one, holder in enumerate(stopped):
                ending = wake(store, path, holder, f"{one}-{number}", one % 3)
                endings[ending] += 1
                row.passed()
        assert [one.wait() for one in stopped] == [0] * holders
    row.acknowledged = rounds * holders
    row.note(
        f"late confirms refused {endings['lost']} of {endings['lost']} whose key was"
        f" claimed again, confirmed twice 0; {endings['confirmed']} fine that nobody"
        " else had claimed"
    )
    assert endings["lost"]
    assert endings["confirmed"]


def wake(store: SeenStore, path: Path, holder: Forked, key: str, way: int) -> str:
    """Let a late owner confirm, whose key somebody else has taken, or even confirmed.

    Args:
        store: Somebody else's.
        path: Its file.
        holder: The owner; it stands still.
        key: What it has claimed.
        way: 0 to leave the key alone, 1 to confirm it first, 2 to confirm it after.

    Returns:
        What the owner was told.
    """
    said = len(holder.said())
    if way:
        claim = store.claim(key)
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)
        if way == 1:
            claim.confirm()
    go_on(holder)
    until(lambda: len(holder.said()) > said)
    answer = holder.said()[said]
    assert answer == (f"{key} lost 1" if way else f"{key} confirmed")
    if way:
        claim.confirm()
        (token,) = read(path, f"SELECT token FROM seen WHERE key = '{key}'")[0]
        assert token == claim.token
    return answer.split()[1]


@pytest.mark.parametrize("end", ["confirm", "leave"])
async def test_crowd_of_tasks(
    path: Path, fault: Fault, end: str, *, torture: bool
) -> None:
    """Of 64 tasks that claim the same keys, exactly one gets each."""
    row = fault("B1", f"64 tasks claim the same keys, owners {end}")
    keys = [str(number) for number in range(10_000 if torture else 60)]
    verdicts: Counter[Verdict] = Counter()
    won: list[str] = []
    async with AsyncSeenStore(path) as store:

        async def work(seed: int) -> None:
            for key in random.Random(seed).sample(keys, len(keys)):
                claim = await store.claim(key, lease=3_600)
                verdicts[claim.verdict] += 1
                if claim:
                    won.append(key)
                    if end == "confirm":
                        await claim.confirm()

        await asyncio.gather(*(work(seed) for seed in range(64)))
        stats = await store.stats()
    row.acknowledged = len(won)
    row.doubled = len(won) - len(set(won))
    row.note(f"{verdicts.total():,} claims of {len(keys):,} keys")
    assert sorted(won) == sorted(keys)
    assert verdicts[Verdict.NEW] == len(keys)
    assert verdicts[Verdict.RETRY] == 0
    assert verdicts.total() == 64 * len(keys)
    assert (stats.keys if end == "confirm" else stats.claimed) == len(keys)
    row.passed()


async def test_late_and_foreign_calls(
    target: Target, clock: Clock, fault: Fault
) -> None:
    """An old token, or one that has done its work, changes nothing and is told so."""
    number = "H6" if target.is_server else "B7"
    row = fault(number, f"late, repeated and foreign calls, {target.name}")
    config = target.config(purge_interval=None, recent_staleness=0)
    async with AsyncSeenStore(config, ttl=3_600) as store:
        for state in ("taken", "released", "confirmed", "marked", "forgotten"):
            for call in ("confirm", "renew", "release"):
                await late_call(store, clock, state, call)
                row.passed()
        for first in ("confirm", "release"):
            for second in ("confirm", "renew", "release"):
                await second_call(store, first, second)
                row.passed()
    row.note("every one of the 21 pairs of state and call")


async def late_call(store: AsyncSeenStore, clock: Clock, state: str, call: str) -> None:
    """Let the lease end, others go on, and the first owner make a call after that."""
    key = f"{state} {call}"
    late = await store.claim(key, lease=10)
    clock.advance(11)
    if state == "forgotten":
        await store.forget(key)
    elif state == "marked":
        await store.mark_seen(key)
    else:
        claim = await store.claim(key, lease=100)
        assert claim.attempt == 2
        if state == "released":
            await claim.release()
        elif state == "confirmed":
            await claim.confirm()
    await refused(late, call)
    verdict = (await store.claim(key, lease=100)).verdict
    assert (
        verdict
        is {
            "taken": Verdict.IN_FLIGHT,
            "released": Verdict.RETRY,
            "confirmed": Verdict.DUPLICATE,
            "marked": Verdict.DUPLICATE,
            "forgotten": Verdict.NEW,
        }[state]
    )
    if state == "taken":
        await claim.confirm()
        assert await store.is_seen(key)


async def second_call(store: AsyncSeenStore, first: str, second: str) -> None:
    """Let an owner end its claim, and make another call."""
    key = f"{first} and {second}"
    claim = await store.claim(key, lease=100)
    await getattr(claim, first)()
    if first == "release":  # it ends the right of the token
        if second == "release":
            assert await claim.release()
        else:
            await refused(claim, second)
        assert (await store.claim(key, lease=100)).attempt == 2
        await refused(claim, second)
        assert (await store.claim(key)).verdict is Verdict.IN_FLIGHT
        return
    if second == "confirm":
        await claim.confirm()
    else:
        await refused(claim, second)
    assert await store.is_seen(key)


async def refused(claim: Any, call: str) -> None:
    """Make a call of an owner that is none any more."""
    if call == "release":
        assert await claim.release() is False
        return
    with pytest.raises(LeaseLostError):
        await getattr(claim, call)()
