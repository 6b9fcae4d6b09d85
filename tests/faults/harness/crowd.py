"""Workers by the dozen: forked, stopped, let go, killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import workers
from .zygote import Forked, Zygote

PATIENCE = 120.0


def start(zygote: Zygote, work: Callable[..., None], *arguments: Any) -> Forked:
    """Start a process that does one of the things of ``workers``."""
    words = [workers.__file__, work.__name__, json.dumps(arguments)]
    return zygote.fork([sys.executable, *words])


def is_stopped(one: Forked) -> bool:
    """Does it stand still?"""
    status = Path(f"/proc/{one.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


def go_on(one: Forked) -> None:
    """Let it, if it stands still."""
    os.kill(one.pid, signal.SIGCONT)


def begin_together(some: Sequence[Forked]) -> None:
    """Wait until all stand still, and let them go on at once."""
    until(lambda: all(map(is_stopped, some)))
    for one in some:
        go_on(one)


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)
