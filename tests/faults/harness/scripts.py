"""Scripts that open a store in another process and print what they did."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

PATIENCE = 60.0
"""Seconds after which a process counts as hanging, on however busy a machine."""

BEGIN = """
import asyncio, os, signal, sqlite3, sys, threading, time
from catalyst_seen import AsyncSeenStore, SeenStore, StoreClosedError
from catalyst_seen import StoreUnavailableError

path, rounds = sys.argv[1], int(sys.argv[2])

def say(*words):
    os.write(1, f"{' '.join(map(str, words))}\\n".encode())

async def mark(store, key):
    say("+", key)
    started = time.monotonic()
    outcome = "new" if await store.check_and_mark(key) else "dup"
    say("=", key, outcome, time.monotonic() - started)
"""


def script(text: str, path: Path, rounds: int, *options: str) -> list[str]:
    """Return the command that runs a script after the common beginning."""
    code = BEGIN + textwrap.dedent(text)
    return [sys.executable, *options, "-c", code, str(path), str(rounds)]


def figures(output: str, name: str) -> list[float]:
    """Return the figures that a script printed under a name."""
    lines = [line.split() for line in output.splitlines()]
    return [float(words[1]) for words in lines if words[0] == name]
