"""The rows of the table in docs/choose.md, copied literally, under failures and kills.

Each row is run by workers that fail in 30 % of all works and are killed again and
again. It loses and repeats nothing but what the row says.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/choose.md").read_text(encoding="utf-8")
HEADER = "| write | if the work fails, or the process dies during it | use it when |"
ITEMS = 40
KILLS = 8

WORKER = """
import asyncio, os, random, sys
from catalyst_seen import AsyncSeenStore

path, log, items = sys.argv[1], sys.argv[2], sys.argv[3].split()

def record(event, item):
    os.write(out, f"{event} {item}\\n".encode())

class WorkError(Exception):
    pass

async def handle(item):
    record("begun", item)
    await asyncio.sleep(random.uniform(0, 0.004))
    if random.random() < 0.3:
        record("failed", item)
        raise WorkError
    record("done", item)

async def row(store, items, key, work):
ROW

async def main():
    async with AsyncSeenStore(path, ttl="1d") as opened:
        store = opened.namespace("row", lease=0.3)  # of a killed worker
        print("ready", flush=True)
        for _ in range(ROUNDS):
            for key in items:
                async def work(item=key):
                    await handle(item)
                try:
                    await row(store, items, key, work)
                except WorkError:
                    pass
            print("tried all", flush=True)
            await asyncio.sleep(0.05)

out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
asyncio.run(main())
"""


def rows() -> list[str]:
    """Return the code of the rows."""
    table = PAGE.partition(HEADER)[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return [cell.lstrip("| ").replace("`<br>`", "\n").strip("`") for cell in cells]


ROWS = rows()


class Run:
    """Workers that run one row on one store, and what they recorded."""

    def __init__(self, code: str, folder: Path) -> None:
        self.kills = 0
        self.log = folder / "log"
        script = WORKER.replace("ROW", textwrap.indent(code, "    "))
        self._script = script.replace("ROUNDS", "100")
        self._items = [f"item-{number}" for number in range(ITEMS)]
        self._arguments = [str(folder / "seen.db"), str(self.log)]

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """Start a worker; it is killed at the end."""
        items = random.sample(self._items, ITEMS)
        with subprocess.Popen(
            [sys.executable, "-c", self._script, *self._arguments, " ".join(items)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
            process.send_signal(signal.SIGKILL)
            self.kills += 1

    def until(self, lines: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many lines more are recorded, or the worker has ended."""
        target = len(self.lines()) + lines
        while len(self.lines()) < target and process.poll() is None:
            time.sleep(0.002)

    def lines(self) -> list[str]:
        """Return what is recorded; a killed writer leaves no half line."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def count(self, event: str) -> Counter[str]:
        """Count an event by item."""
        events = (line.split() for line in self.lines())
        return Counter(item for name, item in events if name == event)

    def lost(self) -> set[str]:
        """Return the items that were never handled."""
        return set(self._items) - set(self.count("done"))

    def repeats(self) -> int:
        """Count the handlings after the first, of all items."""
        return sum(times - 1 for times in self.count("done").values())


def run(code: str, folder: Path, *, workers: int) -> Run:
    """Run a row, killing its workers in the middle, until everything was tried."""
    made = Run(code, folder)
    for _ in range(KILLS // workers):
        if workers == 1:
            with made.worker() as process:
                made.until(random.randint(1, 12), process)
        else:
            with made.worker() as one, made.worker() as two:
                made.until(random.randint(1, 12), one)
                made.until(random.randint(1, 12), two)
    with made.worker() as process:
        while made.lost() and process.poll() is None:
            if code == ROWS[2] and process.stdout and process.stdout.readline():
                break  # it has tried every item
            time.sleep(0.01)
    return made


def test_table_has_four_rows() -> None:
    """What is tested here is what the page shows."""
    assert [code.split("(")[0] for code in ROWS] == [
        "await store.once",
        "async with store.claim",
        "if await store.check_and_mark",
        "for item in await store.filter_new",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("code", ROWS[:2], ids=["once", "claim"])
def test_at_least_once(code: str, tmp_path: Path) -> None:
    """Two workers lose nothing; only a kill between work and confirm repeats."""
    made = run(code, tmp_path, workers=2)
    assert made.count("failed")
    assert made.lost() == set()
    assert made.repeats() <= made.kills


@pytest.mark.slow
def test_at_most_once(tmp_path: Path) -> None:
    """No work is begun twice; what failed or was killed is lost, nothing else."""
    made = run(ROWS[2], tmp_path, workers=2)
    assert max(made.count("begun").values()) == 1
    done, failed = set(made.count("done")), set(made.count("failed"))
    assert failed
    assert not done & failed
    # Marked, and killed before or during the work: one item for each kill at most.
    assert len(made.lost() - failed) <= made.kills


@pytest.mark.slow
def test_filter_and_mark(tmp_path: Path) -> None:
    """One worker loses nothing; only a kill between work and mark repeats."""
    made = run(ROWS[3], tmp_path, workers=1)
    assert made.lost() == set()
    assert made.repeats() <= made.kills
