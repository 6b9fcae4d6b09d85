"""Starting the child, alone or under a tool that injects a fault."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ...support.scripts import complaints
from . import child
from .checker import History


def command(
    path: Path,
    *,
    first: int = 0,
    count: int = 200,
    at_once: int = 1,
    pause: int = 0,
    rest: int = 0,
    **settings: Any,
) -> list[str]:
    """Word the command that marks ``count`` keys, from the number ``first`` on."""
    told = json.dumps({"path": str(path), "purge_interval": None, **settings})
    numbers = map(str, (first, count, at_once, pause, rest))
    return [sys.executable, child.__file__, told, *numbers]


def run(
    words: Sequence[str], timeout: float = 240, **options: Any
) -> tuple[History, subprocess.CompletedProcess[str]]:
    """Run a child to its end, whatever that is; return what it was told."""
    done = subprocess.run(
        words, capture_output=True, check=False, text=True, timeout=timeout, **options
    )
    done.stderr = complaints(done.stderr, "store_created")
    return History().read(done.stdout.splitlines()), done


def strace(*injections: str, log: str = os.devnull) -> list[str]:
    """Word the beginning of a command whose system calls fail, stall or kill.

    Skips the test where there is no strace, or it may not trace.

    Args:
        injections: As in ``strace -e inject=``: ``fdatasync:error=EIO:when=3``. Each
            thread counts its own calls, and so does each connection of a store.
        log: Where these calls are written down, with the time of each.
    """
    tool = shutil.which("strace")
    if tool is None:
        pytest.skip("no strace on this machine")
    follow = [tool, "-f", "--seccomp-bpf"]  # other calls are as fast as ever
    tried = subprocess.run([*follow, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("strace may not trace on this machine")
    traced = ",".join(dict.fromkeys(one.split(":")[0] for one in injections))
    words = [*follow, "-ttt", "--quiet=all", "-o", log, "-e", f"trace={traced}"]
    for one in injections:
        words += ["-e", f"inject={one}"]
    return words


def stored(path: Path) -> tuple[set[str], bool]:
    """Read which keys are stored, and whether the file is intact; by plain sqlite3."""
    with closing(sqlite3.connect(path)) as db:
        keys = {key for (key,) in db.execute("SELECT key FROM seen")}
        return keys, db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
