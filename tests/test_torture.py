"""Claims under kill -9, SIGSTOP and a crowd; long forms by ``nox -s torture``."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, Verdict

from .conftest import Figures
from .test_sqlite import read

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1_800)]

WORKERS = 8
LEASE = 1.0

# Claims every key, works on it, confirms it; notes each step before the next one.
WORKER = """
import os, random, sys, time
from catalyst_seen import LeaseLostError, SeenStore

path, journal, keys, lease = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(step, claim):
    os.write(journal, f"{os.getpid()} {step} {claim.key} {claim.token}\\n".encode())

with SeenStore(path) as store:
    left = store.filter_new(map(str, range(keys)))
    while left:
        random.shuffle(left)
        for key in left:
            claim = store.claim(key, lease=float(lease))
            if not claim:
                continue
            time.sleep(random.random() * 0.05)
            note("worked", claim)
            time.sleep(random.random() * 0.05)
            try:
                claim.confirm()
            except LeaseLostError:
                note("lost", claim)
            else:
                note("confirmed", claim)
        left = store.filter_new(left)
"""

# Claims the key it is told, and confirms it when it is told to.
HOLDER = """
import sys
from catalyst_seen import LeaseLostError, SeenStore

with SeenStore(sys.argv[1]) as store:
    for line in sys.stdin:
        claim = store.claim(line.strip(), lease=float(sys.argv[2]))
        print(claim.verdict, flush=True)
        sys.stdin.readline()
        try:
            claim.confirm()
            print("confirmed", flush=True)
        except LeaseLostError as exc:
            print("lost", exc.attempt, flush=True)
"""


@dataclass
class Crowd:
    """Processes that are started anew whenever one is killed."""

    command: list[str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0

    def start(self, count: int) -> None:
        """Start more of them."""
        self.running += [subprocess.Popen(self.command) for _ in range(count)]

    def kill_at_random(self, rng: random.Random, most: int, journal: Path) -> None:
        """Kill those at work at any moment, until enough were or one is done."""
        while self.kills < most and all(one.poll() is None for one in self.running):
            time.sleep(rng.uniform(0.05, 0.25))
            at_work = {line.split()[0] for line in lines(journal)}
            victims = [one for one in self.running if str(one.pid) in at_work]
            if victims:
                victim = rng.choice(victims)
                victim.kill()
                self.kills += victim.wait() == -signal.SIGKILL
                self.running.remove(victim)
                self.start(1)

    def wait(self) -> None:
        """Wait for all of them to end well."""
        assert [one.wait(300) for one in self.running] == [0] * len(self.running)

    def end(self) -> None:
        """Kill what is left, when a test has failed."""
        for one in self.running:
            one.kill()
            one.wait()


def lines(journal: Path) -> list[str]:
    """Read what is noted so far."""
    return journal.read_text().splitlines() if journal.exists() else []


def test_killed_at_random(
    path: Path, tmp_path: Path, figures: Figures, *, torture: bool
) -> None:
    """Eight processes, killed at random: every key is confirmed, none twice."""
    keys, kills = (3_000, 100) if torture else (300, 12)
    journal = tmp_path / "journal"
    crowd = Crowd(
        [sys.executable, "-c", WORKER, str(path), str(journal), str(keys), str(LEASE)]
    )
    SeenStore(path).close()
    try:
        crowd.start(WORKERS)
        crowd.kill_at_random(random.Random(20_261_123), kills, journal)
        crowd.wait()
    finally:
        crowd.end()
    steps: dict[str, list[tuple[str, str]]] = {
        "worked": [],
        "confirmed": [],
        "lost": [],
    }
    for line in lines(journal):
        _, step, key, token = line.split()
        steps[step].append((key, token))
    confirmed = Counter(key for key, _ in steps["confirmed"])
    worked = Counter(key for key, _ in steps["worked"])
    (taken_over,) = read(path, "SELECT count(*) FROM seen WHERE attempt > 1")[0]
    marks = "SELECT id, token FROM seen WHERE lease_until IS NULL"
    stored = {str(key): str(token) for key, token in read(path, marks)}
    unknown = {*steps["worked"]} - {*steps["confirmed"]} - {*steps["lost"]}
    twice = sum(count > 1 for count in confirmed.values())
    lost = keys - len(stored)
    repeated = sum(count > 1 for count in worked.values())
    figures(
        f"{WORKERS} processes, {keys} keys, {crowd.kills} kills: confirmed"
        f" {len(stored)}, twice {twice}, lost {lost}, unknown {len(unknown)}; taken"
        f" over when a lease ended {taken_over}, worked on again {repeated}"
    )
    assert (twice, lost) == (0, 0)
    assert taken_over
    assert crowd.kills >= kills / 2
    assert read(path, "PRAGMA integrity_check") == [("ok",)]
    # What a process was told to be confirmed is: by its own token, and for good.
    assert {(key, stored[key]) for key in confirmed} == {*steps["confirmed"]}
    assert not {*steps["lost"]} & {*stored.items()}
    # Whatever else is stored was confirmed by one whose end kept it from saying so.
    assert {*stored.items()} - {*steps["confirmed"]} <= unknown


def test_stopped_holder(path: Path, figures: Figures, *, torture: bool) -> None:
    """A holder that slept for 1.5 leases cannot confirm what another has claimed."""
    rounds, lease = (100, 1.0) if torture else (6, 0.4)
    endings: Counter[str] = Counter()
    with (
        SeenStore(path) as store,
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), str(lease)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as holder,
    ):  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None

        def tell(line: str) -> None:
            print(line, file=holder.stdin, flush=True)

        for number in range(rounds):
            key = f"key {number}"
            tell(key)
            assert holder.stdout.readline() == "new\n"
            holder.send_signal(signal.SIGSTOP)
            tell("go on, when you can")
            time.sleep(1.5 * lease)
            is_taken, is_done = number % 3 != 0, number % 3 == 1
            if is_taken:
                claim = store.claim(key)
                assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)
                if is_done:
                    claim.confirm()
            holder.send_signal(signal.SIGCONT)
            answer = holder.stdout.readline()
            assert answer == ("lost 1\n" if is_taken else "confirmed\n")
            if is_taken:
                claim.confirm()
                (token,) = read(path, f"SELECT token FROM seen WHERE id = '{key}'")[0]
                assert token == claim.token
            endings[answer.split()[0]] += 1
        holder.stdin.close()
    figures(
        f"stopped for 1.5 leases {rounds} times: late confirms refused"
        f" {endings['lost']} of {endings['lost']} whose key was claimed again, twice 0;"
        f" {endings['confirmed']} fine that nobody else had claimed"
    )


@pytest.mark.parametrize("end", ["confirm", "leave"])
async def test_crowd_of_tasks(
    path: Path, figures: Figures, end: str, *, torture: bool
) -> None:
    """Of 64 tasks that claim the same keys, exactly one gets each."""
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
    assert sorted(won) == sorted(keys)
    assert verdicts[Verdict.NEW] == len(keys)
    assert verdicts[Verdict.RETRY] == 0
    assert verdicts.total() == 64 * len(keys)
    assert (stats.keys if end == "confirm" else stats.claimed) == len(keys)
    figures(
        f"64 tasks x {len(keys)} keys, owners {end}: true verdicts {len(won)},"
        f" twice {len(won) - len(set(won))}, others {verdicts.total() - len(won)}"
    )
