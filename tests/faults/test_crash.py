"""Group C: processes killed at random moments, and what is there afterwards."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from .harness.checker import History
from .harness.killing import add_round, look
from .harness.processes import command
from .harness.report import Fault
from .harness.zygote import Zygote

SEED = 20_261_125
_A_FILE = 20  # rounds on one file, before it is a fresh one's turn


@pytest.mark.parametrize(("synchronous", "long"), [("NORMAL", 1_000), ("FULL", 200)])
def test_killed_while_marking(
    path: Path,
    fault: Fault,
    zygote: Zygote,
    synchronous: str,
    long: int,
    *,
    torture: bool,
) -> None:
    """Every mark that was acknowledged before a ``kill -9`` is there.

    The next process opens what the one before left, as it left it.
    """
    row = fault("C1", f"kill -9 while marking, {synchronous}")
    rng = random.Random(SEED)
    before: set[str] = set()
    for number in range(long if torture else 2 * _A_FILE):
        if number % _A_FILE == 0:
            place, before = path.with_name(f"{number}.db"), set()
        words = command(place, first=number * 10_000, count=10_000, at_once=8,
                        synchronous=synchronous)  # fmt: skip
        child = zygote.fork(words)
        if number % 2:  # else it may die while it opens the store
            child.wait_for("=")
        time.sleep(rng.uniform(0, 0.05))
        assert child.kill() == -9
        history = History().read(child.said())
        keys, intact = look(place)
        assert before <= keys, "lost from an earlier round"
        row.add(history, keys - before, intact=intact)
        before = keys
    assert row.acknowledged > row.rounds / 2
    row.note(f"a fresh file every {_A_FILE} rounds")


def test_one_of_three_killed(
    path: Path, fault: Fault, zygote: Zygote, *, torture: bool
) -> None:
    """Of three processes that mark the same keys one is killed: the others go on.

    Each key is new to one of them, and nobody meets an error.
    """
    row = fault("C6", "three processes mark the same keys, one is killed")
    rng = random.Random(SEED)
    went_on = 0
    for number in range(100 if torture else 6):
        place = path.with_name(f"{number}.db")
        words = command(place, count=400, at_once=4, recent_staleness=0)
        children = [zygote.fork(words) for _ in range(3)]
        victim = children.pop(rng.randrange(3))
        victim.wait_for("=")
        time.sleep(rng.uniform(0, 0.05))
        is_killed = victim.kill() == -9
        lines = sum(len(child.said()) for child in children)
        history = History().read(victim.said())
        for child in children:
            assert child.wait() == 0
            assert not [line for line in child.said() if line.startswith("!")]
            history.read(child.said())
        went_on += is_killed and lines < sum(len(one.said()) for one in children)
        add_round(row, zygote, place, history)
    assert row.acknowledged <= row.rounds * 400
    assert went_on
    row.note(f"killed in the middle of the others' work {went_on} times")
