"""Group D: a disk that reports errors, or is slow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, SeenStore, StoreUnavailableError

from ..support.scripts import complaints
from .harness import child
from .harness.checker import History
from .harness.disks import identity
from .harness.ext4 import Ext4
from .harness.marking import mark, settings
from .harness.processes import command, run, stored, strace
from .harness.report import Fault

Round = tuple[Path, History, subprocess.CompletedProcess[str]]

REFUSED = (
    "catalyst_seen._errors.StoreUnavailableError",
    "catalyst_seen._errors.OutcomeUnknownError",
)
INTERVAL = 1.0
"""Seconds from one checkpoint to the next."""


def two_at_once(injure: Callable[[int], Round], numbers: Iterable[int]) -> list[Round]:
    """Run rounds, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(injure, numbers))


def a_store(path: Path) -> Path:
    """Make an empty one, so that the faults meet marks, not the open."""
    SeenStore(path).close()
    return path


def test_sync_fails(path: Path, fault: Fault, *, torture: bool) -> None:
    """A mark whose commit met EIO is unknown; the store connects anew and goes on."""
    row = fault("D4", "EIO on the N-th fdatasync of each connection, FULL")
    a_store(path)

    def injure(number: int) -> Round:
        place = Path(shutil.copy(path, path.with_name(f"{number}.db")))
        start = strace(f"fdatasync:error=EIO:when={number}")
        words = command(place, count=60, synchronous="FULL")
        return place, *run([*start, *words])

    numbers = range(1, 51) if torture else [3, 8, 30]
    for number, (place, history, done) in zip(
        numbers, two_at_once(injure, numbers), strict=True
    ):
        assert done.returncode == 0
        assert complaints(done.stderr, "connection_reopened") == ""
        outcomes = [outcome for _, outcome in history.told]
        reopened = done.stderr.count("connection_reopened")
        assert reopened >= outcomes.count("unknown")
        if number > 3:  # else the first commit of each connection fails
            assert ("unknown", "unknown") not in pairwise(outcomes)
            assert outcomes.count("new") >= 30
        keys, intact = stored(place)
        row.add(history, keys, intact=intact)
    assert row.unknown


def watch(path: Path, count: int, at_once: int, patience: float = 0) -> list[str]:
    """Word the command of a child that watches itself."""
    settings = {"path": str(path), "purge_interval": None, "recent_keys": 0}
    settings["synchronous"] = "NORMAL" if patience else "FULL"
    words = ["-m", "tests.faults.harness.watcher", json.dumps(settings)]
    return [sys.executable, *words, str(count), str(at_once), str(patience)]


ROOT = Path(child.__file__).parents[3]


def said(done: subprocess.CompletedProcess[str], word: str) -> list[str]:
    """Find the line that begins with a word."""
    for line in done.stdout.splitlines():
        if line.startswith(f"{word} "):
            return line.split(maxsplit=3)[1:]
    raise AssertionError(f"no {word!r} in {done.stdout[-500:]}\n{done.stderr}")


def test_checkpoints_fail(path: Path, fault: Fault, *, torture: bool) -> None:
    """Checkpoints that fail, of which SQLite tells nobody, raise an alarm in time."""
    row = fault("D5", "fdatasync fails from the N-th on, NORMAL")
    for first in (3, 6) if torture else (3,):
        place = a_store(path.with_name(f"{first}.db"))
        log = path.with_name(f"{first}.log")
        start = strace(f"fdatasync:error=EIO:when={first}+", log=str(log))
        words = watch(place, 2_000, 4, patience=60)
        history, done = run([*start, *words], cwd=ROOT)
        when, failures, alarm = said(done, "alarm")
        delay = float(when) - first_failure(log)
        assert delay < 2 * INTERVAL + 10 * float(said(done, "lag")[0])
        assert int(failures)
        keys, intact = stored(place)
        row.add(history, keys, intact=intact)
        row.note(f"alarm {delay:.2f} s after the first EIO: {alarm}")
    assert row.acknowledged == 2_000 * row.rounds


def first_failure(log: Path) -> float:
    """Read from a trace when the first call failed."""
    for line in log.read_text().splitlines():
        if "EIO" in line:
            return float(line.split()[1])
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("injection", ["EIO:when={}", "ENOSPC:when={}+"])
def test_write_fails(
    path: Path, fault: Fault, injection: str, *, torture: bool
) -> None:
    """A write that fails, from a fresh file on, is an error in our words, and no end.

    That is so of the open as well; nothing that was acknowledged is lost.
    """
    row = fault("D6", f"pwrite64: {injection.format('N')}, from a fresh file on")

    def injure(number: int) -> Round:
        place = path.with_name(f"{number}.db")
        start = strace(f"pwrite64:error={injection.format(number)}")
        return place, *run([*start, *command(place, count=90)])

    numbers = range(1, 201) if torture else [5, 30, 60, 121]
    refused = 0
    for place, history, done in two_at_once(injure, numbers):
        if done.returncode:
            refused += 1
            assert done.stderr.splitlines()[-1].startswith(REFUSED), done.stderr
        else:
            assert done.stdout.endswith("closed\n")
        for line in done.stdout.splitlines():
            assert not line.startswith("!") or "(SQLITE_" in line, line
        with SeenStore(place) as store:
            history.tell("after", "new" if store.check_and_mark("after") else "dup")
        keys, intact = stored(place)
        row.add(history, keys, intact=intact)
    assert refused
    row.note(f"refused at open: {refused}")


def test_slow_disk(path: Path, fault: Fault, *, torture: bool) -> None:
    """While the disk takes 200 ms for each sync, the event loop does not wait for it.

    A loop that waits is late once in each batch; one on a busy machine now and then.
    """
    row = fault("D7", "each fdatasync takes 200 ms")
    lags, shares = [], []
    for number in range(5):
        place = a_store(path.with_name(f"{number}.db"))
        start = strace("fdatasync:delay_exit=200000")
        words = watch(place, 1_000 if torture else 200, 50 if torture else 10)
        history, done = run([*start, *words], cwd=ROOT)
        worst, late = map(float, said(done, "lag"))
        lags.append(worst)
        shares.append(late / int(said(done, "batches")[0]))
        keys, intact = stored(place)
        row.add(history, keys, intact=intact)
        if not torture and shares[-1] < 0.5:
            break
    assert row.seconds >= 0.2
    assert min(shares) < 0.5
    row.note(f"lag of the event loop at most {max(lags) * 1_000:.1f} ms")


async def test_shut_down(path: Path, fault: Fault, *, torture: bool) -> None:
    """A file system that dies under a store is an error per call, and no new file."""
    row = fault("D8", "file system shut down under an open store, FULL")
    named: set[str] = set()
    for number in range(20 if torture else 1):
        history = History()
        with Ext4(path.with_name(str(number))) as disk:
            place = disk.folder / "seen.db"
            named |= await until_it_dies(place, history, disk)
            disk.mount_again()
            async with AsyncSeenStore(settings(place)) as store:
                assert not await mark(store, history, "after")
            keys, intact = stored(place)
        row.add(history, keys, intact=intact)
    row.note(f"named: {', '.join(sorted(named))}")


async def until_it_dies(path: Path, history: History, disk: Ext4) -> set[str]:
    """Mark keys, shut the file system down, and mark more; name the errors."""
    named = set()
    with capture_logs():
        async with AsyncSeenStore(settings(path, synchronous="FULL")) as store:
            for key in range(100):
                assert not await mark(store, history, str(key))
            file = identity(path)
            disk.lose_power()
            for key in range(20):
                error = await mark(store, history, f"dead {key}")
                assert error
                named |= {*re.findall(r"SQLITE_\w+", error)}
                with pytest.raises(StoreUnavailableError):
                    await store.count()
    assert identity(path) == file
    return named
