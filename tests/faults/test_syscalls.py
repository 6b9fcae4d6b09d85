"""Group C: killed at exactly one system call, for each of them in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalyst_seen import SeenStore

from .harness.checker import History
from .harness.killing import CALLS, add_round, killed_at, sweep
from .harness.processes import command
from .harness.report import Fault
from .harness.zygote import Zygote

_QUICK = {"write": 11, "sync": 7, "truncate": 2, "open": 5, "unlink": 2}


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_each_call(
    path: Path, fault: Fault, zygote: Zygote, call: str, *, torture: bool
) -> None:
    """A process that is killed at any write or sync leaves a file that opens.

    It is killed between a fresh file and the close, after 200 marks and a purge; what
    was acknowledged is there.
    """
    row = fault("C2", f"killed at each {call}, from a fresh file to its close")
    words = command(path, at_once=4 if torture else 20, synchronous="FULL")
    step = 1 if torture else _QUICK[call]
    for child in sweep(zygote, words, path, call, step):
        add_round(row, zygote, path, History().read(child.said()))
    assert row.rounds > 2
    assert row.acknowledged >= 200
    row.note(f"each {step}. of {(row.rounds - 1) * step} calls")


@pytest.mark.parametrize("call", ["write", "sync", "truncate"])
def test_killed_in_purge(
    path: Path, fault: Fault, zygote: Zygote, call: str, *, torture: bool
) -> None:
    """A purge, its vacuum and a checkpoint may die anywhere: no key is lost."""
    row = fault("C3", f"killed at each {call} of a purge, vacuum and checkpoint")
    history = fill(path, expired=4_000, kept=200)
    words = command(path, count=0, synchronous="FULL")
    step = {"write": 9, "sync": 5, "truncate": 1}[call]
    before = after = path.stat().st_size
    for _ in sweep(zygote, words, path, call, 1 if torture else step):
        after = path.stat().st_size
        add_round(row, zygote, path, history)
    assert row.rounds > 2
    assert row.unknown > row.stored, "nothing was purged"
    row.note(f"{before:,} bytes before, {after:,} after the last round")


def test_killed_in_checkpoint(
    path: Path, fault: Fault, zygote: Zygote, *, torture: bool
) -> None:
    """A checkpoint that dies at any of its writes is done again by the next opener."""
    row = fault("C3", "killed at each write of a checkpoint to the database file")
    words = command(path, count=2_000, at_once=100)
    number, was_killed = 1, True
    while was_killed:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        # Under this path only a checkpoint writes, but for the schema's journal.
        filters = ("-P", str(path))
        child, was_killed = killed_at(zygote, words, "write", number, *filters)
        add_round(row, zygote, path, History().read(child.said()))
        number += 1 if torture else 6
    assert row.rounds > 3


def fill(path: Path, *, expired: int, kept: int) -> History:
    """Make a database with rows that may go, and rows that must not."""
    history = History()
    with SeenStore(path) as store:
        for number in range(kept):
            history.tell(str(number), "new")
        store.mark_many(map(str, range(kept)))
        names = [f"expired {number}" for number in range(expired)]
        store.mark_many(names, ttl=0.001)
    for name in names:
        history.tell(name, "unknown")
    return history
