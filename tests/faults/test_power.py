"""Group C: the power fails, and only what was synced is there afterwards."""

from __future__ import annotations

import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import SeenStore, SeenStoreConfig

from .harness import child, claimer, plain
from .harness.checker import History, check
from .harness.ext4 import Ext4
from .harness.killing import LATER, add_round, copied, look
from .harness.processes import command, stored
from .harness.report import Fault, Row
from .harness.shim import compiled
from .harness.zygote import Forked, Zygote

MODES = ["NORMAL", "FULL"]
SEED = 20_261_125
CHANCE = random.Random(SEED)


@dataclass(frozen=True)
class Failure:
    """A power failure: what was said before, and what is left.

    Attributes:
        said: The lines of the process that ran.
        path: The database, when the power is back.
        zygote: Who forks those that look at it.
    """

    said: list[str]
    path: Path
    zygote: Zygote


def sometime(running: Forked, number: int) -> None:
    """Wait until it is at work, or only just opens its store."""
    if number % 3:
        running.wait_for("=")
    time.sleep(1.5 if number % 10 == 5 else CHANCE.uniform(0, 0.25))


def resting(running: Forked, _: int) -> None:
    """Wait until it has marked its keys, and rested for a while."""
    running.wait_for("= 49 ")
    time.sleep(2.5)


def lose_power(
    path: Path,
    rounds: int,
    script: Path,
    plain: Zygote,
    moment: Callable[[Forked, int], None] = sometime,
    **settings: Any,
) -> Iterator[Failure]:
    """Run a script on a new disk again and again; end each run by a power failure.

    Half of the disks keep a new or removed name only once its folder was synced, the
    others at once. Half keep no sector that was not synced, the others every second one
    of them, by chance.
    """
    library = compiled("powerloss.c")
    with Zygote(path.with_name("said"), LD_PRELOAD=str(library)) as zygote:
        for number in range(rounds):
            live = path.with_name(f"live-{number}")
            kept = path.with_name(f"kept-{number}")
            live.mkdir()
            kept.mkdir()
            running = zygote.fork(
                words(script, live / path.name, **settings),
                POWERLOSS_DISK=str(live), POWERLOSS_KEPT=str(kept),
                POWERLOSS_LUCK="50" if number % 2 else "0",
            )  # fmt: skip
            moment(running, number)
            assert running.kill() == -9
            left = restored(live, kept, only_synced=number % 4 < 2)
            yield Failure(running.said(), left / path.name, plain)
            for folder in (live, kept, left):
                shutil.rmtree(folder)


def words(script: Path, path: Path, **settings: Any) -> list[str]:
    """Word the command that marks or claims keys, one after the other, for ever."""
    _, _, told, *rest = command(path, **{"count": 10**6, **settings})
    return [sys.executable, str(script), told, *rest]


def restored(live: Path, kept: Path, *, only_synced: bool) -> Path:
    """Make a folder as it is when the power is back.

    Args:
        live: The folder as the process saw it.
        kept: What ``powerloss.c`` has kept of it.
        only_synced: Do names count that were made or removed since its last sync?
    """
    names = {file.name: file.stat().st_ino for file in live.iterdir()}
    if only_synced:
        synced = kept / "names"
        lines = synced.read_text().splitlines() if synced.exists() else []
        names = {name: int(inode) for inode, name in map(str.split, lines)}
    left = live.with_name(f"{live.name}-left")
    left.mkdir()
    for name, inode in names.items():
        source = kept / str(inode)
        if source.exists():
            shutil.copy(source, left / name)
        else:  # killed as it was made: nothing was written to it yet
            (left / name).touch()
    for shared_memory in left.glob("*-shm"):
        shared_memory.unlink()
    return left


def look_at(failure: Failure, row: Row) -> int:
    """Add a round in which keys were marked in order; return how many are lost."""
    history = History().read(failure.said)
    if "open" in failure.said:
        with closing(sqlite3.connect(copied(failure.path))) as db:
            assert db.execute("SELECT count(*) FROM seen").fetchone()
    add_round(row, failure.zygote, failure.path, history)
    keys = stored(failure.path)[0] - {str(LATER)}
    assert keys == {str(number) for number in range(len(keys))}, "a gap"
    return len(check(history, keys).lost)


@pytest.mark.parametrize("synchronous", MODES)
def test_only_synced_bytes(
    path: Path, fault: Fault, zygote: Zygote, synchronous: str, *, torture: bool
) -> None:
    """FULL keeps every mark at a power failure; NORMAL all up to one of them.

    The schema is there as soon as the store is open.
    """
    row = fault("C4", f"power failure, unsynced bytes are gone, {synchronous}",
                may_lose=synchronous == "NORMAL")  # fmt: skip
    worst = 0
    script = Path(child.__file__)
    rounds = 100 if torture else 6
    for failure in lose_power(path, rounds, script, zygote, synchronous=synchronous):
        worst = max(worst, look_at(failure, row))
    assert row.acknowledged >= row.rounds / 2
    row.note(f"at worst {worst:,} marks lost in a round, always the newest")


def test_after_two_seconds(
    path: Path, fault: Fault, zygote: Zygote, *, torture: bool
) -> None:
    """What was marked two seconds before the power fails is there, also under NORMAL.

    Whether anything is marked afterwards or not.
    """
    row = fault("C4", "power failure 2.5 s after the last mark, NORMAL")
    script = Path(child.__file__)
    rounds = 20 if torture else 2
    slowly = {"count": 50, "at_once": 10, "pause": 300, "rest": 60_000}
    for failure in lose_power(path, rounds, script, zygote, resting, **slowly):
        look_at(failure, row)
    assert row.acknowledged == 50 * rounds


@pytest.mark.parametrize("synchronous", MODES)
def test_confirms_after_a_power_failure(
    path: Path, fault: Fault, zygote: Zygote, synchronous: str, *, torture: bool
) -> None:
    """After a power failure a confirmed key may be claimable again under NORMAL.

    Under FULL it never is. While the power is on, nothing is confirmed twice.
    """
    row = fault("C7", f"power failure with claims, {synchronous}",
                may_lose=synchronous == "NORMAL")  # fmt: skip
    script = Path(claimer.__file__)
    rounds = 50 if torture else 4
    for failure in lose_power(path, rounds, script, zygote, synchronous=synchronous):
        history = History().read(failure.said)
        confirmed, intact = confirmed_keys(failure.path)
        row.add(history, confirmed, intact=intact)
        claim_again(failure.path, history.keys("new", "unknown"), confirmed)
    row.note(f"{row.lost:,} of {row.acknowledged:,} confirmed keys claimable again")


def confirmed_keys(path: Path) -> tuple[set[str], bool]:
    """Read which keys are confirmed, of what a power failure left."""
    keys, intact = look(path)
    if not keys:
        return set(), intact
    with closing(sqlite3.connect(copied(path))) as db:
        marks = "SELECT key FROM seen WHERE lease_until IS NULL"
        return {key for (key,) in db.execute(marks)}, intact


def claim_again(path: Path, keys: set[str], confirmed: set[str]) -> None:
    """Claim every key when all leases are over, twice: confirmed once is for good."""
    config = SeenStoreConfig(
        path, clock=lambda: time.time() + 3_600, purge_interval=None, recent_staleness=0
    )
    with SeenStore(config) as store:
        claims = store.claim_many(sorted(keys), lease=600)
        claimed = [claim for claim in claims if claim]
        assert {claim.key for claim in claimed} == keys - confirmed
        store.confirm_many(claimed)
        assert not any(store.claim_many(sorted(keys), lease=600))


@pytest.mark.parametrize("synchronous", MODES)
def test_file_system_shut_down(
    path: Path, fault: Fault, zygote: Zygote, synchronous: str, *, torture: bool
) -> None:
    """The same promises on ext4, which is shut down as by a power failure.

    A plain writer beside the store shows that the fault is that of a power failure:
    under FULL it loses nothing. Under NORMAL it does, in one of many rounds at least.
    """
    row = fault("C5", f"ext4 shut down under the store, {synchronous}",
                may_lose=synchronous == "NORMAL")  # fmt: skip
    rng, worst, rows, lost = random.Random(SEED), 0, 0, 0
    with Ext4(path.with_name("ext4")) as disk:
        for number in range(20 if torture else 2):
            place = disk.folder / f"{number}.db"
            control = disk.folder / f"{number}-plain.db"
            marking = zygote.fork(command(place, count=10**6, synchronous=synchronous))
            writing = zygote.fork(
                [sys.executable, plain.__file__, str(control), synchronous]
            )
            marking.wait_for("=")
            writing.wait_for("= 9")
            time.sleep(rng.uniform(0.02, 0.6))
            for running in (marking, writing):
                running.freeze()
            disk.lose_power()
            for running in (marking, writing):
                running.kill()
            disk.mount_again()
            worst = max(worst, look_at(Failure(marking.said(), place, zygote), row))
            rows += len(writing.said())
            lost += plain.lost(control, writing.said())
    if synchronous == "FULL":
        assert not lost
    elif torture:
        assert lost
    row.note(f"at worst {worst:,} marks lost in a round, always the newest")
    row.note(f"a plain sqlite3 writer beside the store lost {lost:,} of {rows:,} rows")
