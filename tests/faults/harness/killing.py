"""Killing a process at one exact system call, and looking at what it left."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .checker import History
from .processes import command, stored, strace
from .report import Row
from .zygote import Forked, Zygote

CALLS = {
    "write": "pwrite64",
    "sync": "?fdatasync,?fsync",
    "truncate": "ftruncate",
    "open": "openat",
    "unlink": "?unlink,?unlinkat",
}
"""What changes files, and what else comes between; system calls differ by machine."""

LATER = 10**9
"""A key that nobody marks but who looks afterwards."""


def killed_at(
    zygote: Zygote, words: Sequence[str], call: str, number: int, *filters: str
) -> tuple[Forked, bool]:
    """Run a command that is killed at its n-th system call of a kind, if it gets there.

    Args:
        zygote: Who forks it.
        words: The command.
        call: One of ``CALLS``.
        number: Which, counted from 1.
        filters: More options of strace.

    Returns:
        The process, which has ended, and whether it was killed.
    """
    tracer = strace(f"{CALLS[call]}:signal=SIGKILL:when={number}")
    child = zygote.fork(words, is_held=True)
    with subprocess.Popen(
        [*tracer, *filters, "-p", str(child.pid)], stderr=subprocess.PIPE, text=True
    ) as tracing:
        while not _is_traced(child.pid):
            if tracing.poll() is not None:
                assert tracing.stderr is not None
                pytest.skip(f"strace may not attach: {tracing.stderr.read().strip()}")
            time.sleep(0.001)
        child.let_go()
        status = child.wait()
    assert status in {0, -9}, child.said()
    return child, status != 0


def sweep(
    zygote: Zygote, words: Sequence[str], place: Path, call: str, step: int
) -> Iterator[Forked]:
    """Run a command once for each of its system calls of a kind, and kill it there.

    Args:
        zygote: Who forks it.
        words: The command.
        place: The database; it is as it is now before each run.
        call: One of ``CALLS``.
        step: 1 sweeps all calls; 5 every fifth.
    """
    before = place.read_bytes() if place.exists() else None
    number, was_killed = 1, True
    while was_killed:
        for file in place.parent.glob(f"{place.name}*"):
            file.unlink()
        if before is not None:
            place.write_bytes(before)
        child, was_killed = killed_at(zygote, words, call, number)
        yield child
        number += step


def add_round(row: Row, zygote: Zygote, path: Path, history: History) -> None:
    """Add a round of a database that a crash left: a store opens it, and marks."""
    opened = zygote.fork(command(path, first=LATER, count=1, recent_staleness=0))
    assert opened.wait() == 0
    assert any(line.startswith(f"= {LATER} new") for line in opened.said())
    keys, intact = stored(path)
    row.add(history, keys - {str(LATER)}, intact=intact)


def copied(path: Path) -> Path:
    """Copy a database as a crash left it: who looks at the copy mends nothing."""
    folder = path.with_name("copied")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for end in ("", "-wal", "-journal"):
        part = path.with_name(path.name + end)
        if part.exists():
            shutil.copy(part, folder)
    return folder / path.name


def look(path: Path) -> tuple[set[str], bool]:
    """Read what a crash left, without mending it; that may be no table yet."""
    if not path.exists():
        return set(), True
    try:
        return stored(copied(path))
    except sqlite3.OperationalError as exc:
        if "no such table" not in str(exc):
            raise
        return set(), True


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status
