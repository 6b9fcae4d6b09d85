"""Claims under kill -9, SIGSTOP and a crowd; long forms by ``nox -s torture``."""

from __future__ import annotations

import asyncio
import json
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
from .targets import Places, Target
from .test_sqlite import read

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1_800)]

WORKERS = 4
LEASE = 1.0

# Claims every key, works on it, confirms it; notes each step before the next one.
WORKER = """
import json, os, random, sys, time
from catalyst_seen import LeaseLostError, SeenStore, SeenStoreConfig

config, journal, keys, lease = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(step, claim):
    os.write(journal, f"{os.getpid()} {step} {claim.key} {claim.token}\\n".encode())

with SeenStore(SeenStoreConfig(**json.loads(config))) as store:
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

    def kill_at_random(
        self, rng: random.Random, most: int, pause: float, journal: Path
    ) -> None:
        """Kill one at work after each pause, until enough were or one is done."""
        while self.kills < most and all(one.poll() is None for one in self.running):
            time.sleep(rng.uniform(0.5, 1.5) * pause)
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
    shared: Target, places: Places, tmp_path: Path, figures: Figures, *, torture: bool
) -> None:
    """Four processes, one killed every second: every key is confirmed, none twice."""
    keys, kills, pause = (5_000, 60, 1.0) if torture else (120, 6, 0.2)
    journal = tmp_path / "journal"
    settings = shared.settings
    where = {
        "path": str(settings.path),
        "url": settings.url,
        "prefix": settings.prefix,
        "schema": settings.schema,
    }
    crowd = Crowd(
        [
            sys.executable,
            "-c",
            WORKER,
            json.dumps(where),
            str(journal),
            str(keys),
            str(LEASE),
        ]
    )
    SeenStore(shared.config()).close()
    try:
        crowd.start(WORKERS)
        crowd.kill_at_random(random.Random(20_261_123), kills, pause, journal)
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
    stored = confirmed_tokens(shared, places)
    unknown = {*steps["worked"]} - {*steps["confirmed"]} - {*steps["lost"]}
    twice = sum(count > 1 for count in confirmed.values())
    lost = keys - len(stored)
    repeated = sum(count > 1 for count in worked.values())
    figures(
        f"{shared.name}: {WORKERS} processes, {keys} keys, {crowd.kills} kills:"
        f" confirmed {len(stored)}, twice {twice}, lost {lost}, unknown {len(unknown)};"
        f" worked on again {repeated}"
    )
    assert (twice, lost) == (0, 0)
    assert crowd.kills >= kills / 2
    # What a process was told to be confirmed is: by its own token, and for good.
    assert {(key, stored[key]) for key in confirmed} == {*steps["confirmed"]}
    assert not {*steps["lost"]} & {*stored.items()}
    # Whatever else is stored was confirmed by one whose end kept it from saying so.
    assert {*stored.items()} - {*steps["confirmed"]} <= unknown
    if shared.name == "file":
        assert read(Path(settings.path), "PRAGMA integrity_check") == [("ok",)]


def confirmed_tokens(target: Target, places: Places) -> dict[str, str]:
    """Read the token by which each key is confirmed, where it is stored."""
    marks = "SELECT id, token FROM {} WHERE lease_until IS NULL"
    if target.name == "file":
        rows = read(Path(target.settings.path), marks.format("seen"))
    elif target.name == "postgres":
        table = f'"{target.settings.schema}".seen'
        (rows,) = places.postgres.execute(marks.format(table))
    else:
        import redis

        nodes = [places.valkey] if target.name == "valkey" else places.cluster.nodes
        rows = []
        for node in nodes:
            with redis.Redis(port=node.port) as client:
                for name in client.scan_iter(f"{target.settings.prefix}:*"):
                    value = client.get(name)
                    assert isinstance(value, bytes)
                    if value[1:2] == b"s":  # then two doubles, and the attempt
                        key, token = name.split(b":")[2], value[20:]
                        rows.append((key.decode(), token.decode()))
    return {str(key): str(token) for key, token in rows}


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
