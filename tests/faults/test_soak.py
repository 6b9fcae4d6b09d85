"""Group C: what grows when a store runs for long."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from .harness.checker import History
from .harness.processes import stored
from .harness.report import Fault
from .harness.zygote import Zygote

SETTINGS = {"purge_interval": 0.5, "recent_keys": 2_000}


def test_soak(path: Path, fault: Fault, zygote: Zygote, *, torture: bool) -> None:
    """Under load, purges and kills, log, memory and open files level off."""
    seconds = 180 if torture else 4
    row = fault("C9", f"{seconds} seconds of load, purges and kills on one file")
    history = History()
    steady = zygote.fork(soaker(path, "steady", seconds))
    steady.wait_for("open")
    kills, log = kill_others(zygote, path, seconds - 1, history)
    assert steady.wait() == 0
    history.read(steady.said())
    keys, intact = stored(path)
    kept = {key for key in keys if key.startswith("kept")}
    row.add(history, kept, intact=intact)
    grown = [line.split()[1:] for line in steady.said() if line.startswith("#")]
    memory = [int(resident) / 1e6 for resident, _ in grown]
    files = [int(count) for _, count in grown]
    row.note(f"{kills} kills; log at most {log / 1e6:.1f} MB")
    row.note(f"file {path.stat().st_size / 1e6:.1f} MB in the end")
    row.note(f"open files {files[0]} to {max(files)}")
    row.note(f"memory {memory[len(memory) // 3]:.1f} to {memory[-1]:.1f} MB")
    assert kills
    assert log < 40e6
    assert max(files) <= files[0] + 3
    assert memory[-1] - memory[len(memory) // 3] < 15


def kill_others(
    zygote: Zygote, path: Path, seconds: float, history: History
) -> tuple[int, int]:
    """Kill one process after the other; return how many, and the largest log."""
    rng, kills, largest = random.Random(20_261_125), 0, 0
    log = path.with_name(f"{path.name}-wal")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        victim = zygote.fork(soaker(path, f"other-{kills}", 600))
        ends = time.monotonic() + rng.uniform(0.1, 1.5)
        while time.monotonic() < ends:
            largest = max(largest, log.stat().st_size)
            time.sleep(0.02)
        assert victim.kill() == -9
        history.read(victim.said())
        kills += 1
    return kills, largest


def soaker(path: Path, name: str, seconds: float) -> list[str]:
    """Word the command that marks keys for so long, each with a name in it."""
    script = Path(__file__).parent / "harness" / "soaker.py"
    settings = json.dumps({"path": str(path), **SETTINGS})
    return [sys.executable, str(script), settings, name, str(seconds)]
