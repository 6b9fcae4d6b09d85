"""Ends servers when the process that started them ends, however that comes.

A script of its own: it reads what to guard from its standard input, and acts when that
ends. A process that is killed has no other way to clean up.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PATIENCE = 2.0
"""Seconds between asking a server to end and killing it."""


def family(pid: int) -> list[int]:
    """A process and all that it has started, and these, and so on."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        parent = _parent(int(folder.name))
        if parent is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def is_running(pid: int) -> bool:
    """Is it there, and not only waiting to be buried?"""
    return _parent(pid) is not None


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to all that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def are_gone(pids: Iterable[int], patience: float) -> bool:
    """Wait for processes to end."""
    deadline = time.monotonic() + patience
    while any(map(is_running, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def main() -> None:
    """Read "+", "-" for processes and "/" for folders; at the end, end them."""
    guarded: dict[int, int] = {}
    folders: set[str] = set()
    for line in sys.stdin:
        what, *rest = line.rstrip("\n").split(" ", 2)
        if what == "+":
            guarded[int(rest[0])] = int(rest[1])
        elif what == "-":
            guarded.pop(int(rest[0]), None)
        else:
            folders.add(" ".join(rest))
    families = {pid: family(pid) for pid in guarded}
    for pid, number in guarded.items():
        send([pid], number)
        send(families[pid], signal.SIGCONT)
    everybody = [pid for one in families.values() for pid in one]
    if not are_gone(everybody, PATIENCE):
        send(everybody, signal.SIGKILL)
        are_gone(everybody, PATIENCE)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
