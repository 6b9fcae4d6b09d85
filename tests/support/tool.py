"""The tool as a person runs it: a process, with pipes or on a terminal.

A run to its end is a fork of a process that has imported the tool. What is started, and
what runs in a shell or on a terminal, is a new interpreter.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect

from .tool_server import COVERAGE, tool_server

PYTHON = [sys.executable, "-W", "error", "-m", "catalyst_seen"]
SMALL_FILES = "export PYTHONDONTWRITEBYTECODE=1; trap '' XFSZ; ulimit -f 8"
"""A line of a shell after which no file gets more than 8 KiB, as on a full disk; the
files of compiled modules would be cut as well."""

_PATIENCE = 120.0


@dataclass(frozen=True)
class Done:
    """What a run of the tool came to.

    Attributes:
        code: Its exit code; negative is a signal.
        out: What it wrote to standard output.
        err: What it wrote to standard error, without the address of the store.
    """

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON Lines on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Tool:
    """Runs the tool in a folder, on one store.

    Attributes:
        folder: The working directory of every run.
        store: The path or URL of the store, for ``SEEN_STORE_URL``.
        environment: Further variables of every run.
    """

    folder: Path
    store: str
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a run."""
        name = "SEEN_STORE_URL" if "://" in self.store else "SEEN_DB_PATH"
        own = {name: self.store, "COLUMNS": "200", "TZ": "UTC"}
        return {**os.environ, **own, **self.environment, **(extra or {})}

    def run(
        self,
        *arguments: str,
        given: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = _PATIENCE,
    ) -> Done:
        """Run it to its end.

        Args:
            arguments: The words of the command line.
            given: Its standard input.
            env: Further variables.
            timeout: Seconds after which it hangs.
        """
        written = given.encode() if isinstance(given, str) else given
        variables = self.variables(env)
        if _for_python(variables) != _for_python(os.environ):  # too late after a fork
            done = subprocess.run(
                [*PYTHON, *arguments], input=written, capture_output=True, check=False,
                cwd=self.folder, env=variables, timeout=timeout,
            )  # fmt: skip
        else:
            done = tool_server().run(
                arguments, written, self.folder, variables, timeout
            )
        return Done(done.returncode, done.stdout.decode(), talk(done.stderr.decode()))

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start it with pipes; ``settings`` are further arguments of ``Popen``."""
        settings = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **settings,
        }
        env = self.variables(settings.pop("env", None))
        return subprocess.Popen(
            [*PYTHON, *arguments], cwd=self.folder, env=env, **settings
        )

    def shell(self, line: str, timeout: float = _PATIENCE) -> Done:
        """Run a line of a shell, in which ``catalyst-seen`` is the tool."""
        done = subprocess.run(
            ["/bin/bash", "-c", self.script(line)],
            capture_output=True, check=False, cwd=self.folder,
            env=self.variables(), timeout=timeout,
        )  # fmt: skip
        return Done(done.returncode, done.stdout.decode(), talk(done.stderr.decode()))

    def script(self, line: str) -> str:
        """Return a script of a shell with such a line."""
        return f'catalyst-seen() {{ {shlex.join(PYTHON)} "$@"; }}\n{line}'

    def terminal(
        self, *arguments: str, size: tuple[int, int] = (24, 100)
    ) -> pexpect.spawn[str]:
        """Start it on a terminal of its own, of so many rows and columns."""
        env = self.variables({"TERM": "xterm", **COVERAGE})
        del env["COLUMNS"]
        return pexpect.spawn(
            PYTHON[0], [*PYTHON[1:], *arguments], cwd=str(self.folder), env=env,
            dimensions=size, encoding="utf-8", timeout=_PATIENCE,
        )  # fmt: skip


def _for_python(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what an interpreter reads when it starts."""
    return {name: variables[name] for name in variables if name.startswith("PYTHON")}


def is_gone(pid: int) -> bool:
    """Has a process ended, or is it about to be reaped?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended; fail after a minute."""
    deadline = time.monotonic() + 60
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.01)


def pid_in(tool: Tool) -> int:
    """Wait for the number of a process, which a command writes to the file ``pid``."""
    path = tool.folder / "pid"
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text().strip():
        assert time.monotonic() < deadline, "no command has begun"
        time.sleep(0.01)
    return int(path.read_text())


def talk(stderr: str) -> str:
    """Return what was said, without where the store is and that it was made."""
    skipped = ("catalyst-seen: store: ", "catalyst-seen: store_created ")
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(skipped))
