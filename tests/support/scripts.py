"""Scripts that run in a new interpreter."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

NO_FORK_WARNING = ("-W", "ignore::DeprecationWarning")
"""Python 3.12 and later warn about a fork of a process with threads."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def complaints(stderr: str, *events: str) -> str:
    """Return what a process wrote to standard error, without lines of these events."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if line.partition(" ")[0] not in events)


@pytest.fixture
def run_script(tmp_path: Path) -> Run:
    """Run a script in a new interpreter; a script that hangs fails the test.

    The event of a new file, which has tests of its own, is left out.
    """

    def run(
        script: str, *args: str, options: tuple[str, ...] = (), timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *options, "-c", textwrap.dedent(script), *args],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            text=True,
            timeout=timeout,
        )
        done.stderr = complaints(done.stderr, "store_created")
        return done

    return run
