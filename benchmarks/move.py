"""A million keys from SQLite to Valkey, to PostgreSQL, and to SQLite, by the tool.

    python -m benchmarks.move [--keys N]

While the first command of each step copies, a process marks a hundred new keys a second
in its source. It is stopped for the second, which copies the rest and compares every
row. Prints what each command takes, and what it says; fails if a count differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from catalyst_seen import SeenStore
from catalyst_seen.cli._stores import configuration

from .machine import machine
from .servers import Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_CHUNK = 5_000  # keys of one call
_OTHERS = 1_000  # keys of each other kind
_A_SECOND = 100
_MARK = "--mark"


def main(keys: int) -> None:
    """Make the first store, and move it round."""
    say(", ".join(machine().values()))
    with tempfile.TemporaryDirectory() as name, Servers(Path(name)) as servers:
        folder = Path(name)
        first = str(folder / "first.db")
        _timed(f"{keys:,} keys", lambda: _fill(first, keys))
        for source, target in (
            (first, servers.valkey.url),
            (servers.valkey.url, servers.postgres.url),
            (servers.postgres.url, str(folder / "last.db")),
        ):
            _move(source, target)


def say(line: str) -> None:
    """Write a line without buffering."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fill(store: str, keys: int) -> None:
    """Mark keys, and make some of each other kind."""
    with SeenStore(configuration(store, create=True), ttl="30d") as made:
        for start in range(0, keys, _CHUNK):
            end = min(start + _CHUNK, keys)
            made.check_and_mark_many(
                [f"https://example.org/{n}" for n in range(start, end)]
            )
        others = range(_OTHERS)
        made.claim_many([f"claimed {n}" for n in others], lease="1d", note="a note")
        released = made.claim_many([f"released {n}" for n in others])
        for claim in released:
            claim.release(delay=60, error="an error")
        feed = made.namespace("feed", first="all")
        feed.observe(
            [f"entry {n}" for n in others], key=str, note=lambda key: f"note of {key}"
        )


def _move(source: str, target: str) -> None:
    """Move a store while it is written to, then the rest; check the count of keys."""
    say(f"\n{_kind(source)} to {_kind(target)}, load {os.getloadavg()[0]:.1f}")
    with _marking(source):
        _timed("copied", lambda: _tool("move", source, target))
    done = _timed("the rest", lambda: _tool("move", "--stopped", source, target))
    say("  " + ", ".join(f"{n} {what}" for what, n in _counts(done.stdout)))
    _timed("compared again", lambda: _tool("move", "--verify", source, target))
    counts = _count(source), _count(target)
    say(f"  seen keys: {counts[0]:,} and {counts[1]:,}")
    if done.returncode or counts[0] != counts[1]:
        raise SystemExit("the stores are not equal")


def _counts(lines: str) -> Iterator[tuple[str, int]]:
    for line in lines.splitlines():
        row = json.loads(line)
        yield row["what"], row["count"]


def _count(store: str) -> int:
    with SeenStore(configuration(store, create=False), purge_interval=None) as opened:
        return opened.count()


@contextmanager
def _marking(store: str) -> Iterator[None]:
    """Let a process mark keys; print how many it was."""
    command = [sys.executable, "-m", "benchmarks.move", _MARK, store]
    with subprocess.Popen(  # noqa: S603 - this module
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        yield
        process.send_signal(signal.SIGTERM)
        marked, _ = process.communicate()
    say(f"  {marked.strip()} keys were marked meanwhile")


def _mark(store: str) -> None:
    """Mark so many new keys a second, until this process is to end."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    marked, started = 0, time.monotonic()
    with SeenStore(configuration(store, create=False), ttl="30d") as opened:
        while not ending:
            opened.mark_seen(f"{os.getpid()} {marked}")
            marked += 1
            time.sleep(max(0.0, started + marked / _A_SECOND - time.monotonic()))
    say(f"{marked:,}")


def _tool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the tool; show what it says."""
    done = subprocess.run(  # noqa: S603 - the tool
        [sys.executable, "-m", "catalyst_seen", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in done.stderr.splitlines():
        say(f"    {line.removeprefix('catalyst-seen: ')}")
    return done


def _timed(what: str, work: Callable[[], T]) -> T:
    started = time.monotonic()
    result = work()
    say(f"  {what}: {time.monotonic() - started:.1f} s")
    return result


def _kind(store: str) -> str:
    return store.partition(":")[0].partition("+")[0] if "://" in store else "SQLite"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument(_MARK, metavar="STORE", help="be the process that marks")
    arguments = parser.parse_args()
    if arguments.mark:
        _mark(arguments.mark)
    else:
        main(arguments.keys)
