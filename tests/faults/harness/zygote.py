"""A process that has imported everything, and forks others from then on.

A new interpreter takes half a second, a fork a few milliseconds. It never opens a
store, so that nothing of SQLite's is inherited. This file is also what it runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from catalyst_seen.backends import sqlite

with suppress(ImportError):  # where there are no extras
    from catalyst_seen.backends import postgres, redis

__all__ = ["Forked", "Zygote", "postgres", "redis", "sqlite"]

_PATIENCE = 120.0
_SET_PTRACER, _ANYBODY = 0x59616D61, 2**64 - 1  # else only a parent may, on Ubuntu


@dataclass
class Forked:
    """A process that was forked, and what it has said so far.

    Attributes:
        pid: Its number, which nobody else gets before ``wait``.
    """

    zygote: Zygote
    pid: int
    said_path: Path

    def said(self) -> list[str]:
        """Read every line that it has written."""
        return self.said_path.read_text().splitlines()

    def wait_for(self, line: str, patience: float = 60) -> None:
        """Wait until it says something that begins so."""
        deadline = time.monotonic() + patience
        while not any(one.startswith(line) for one in self.said()):
            assert time.monotonic() < deadline, f"not said: {line}"
            time.sleep(0.001)

    def let_go(self) -> None:
        """Let it begin, if it was held."""
        self.said_path.with_suffix(".go").touch()

    def freeze(self) -> None:
        """Stop it for good: no thread of it is in a system call afterwards."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + _PATIENCE
        while not all(map(_is_stopped, Path(f"/proc/{self.pid}/task").iterdir())):
            assert time.monotonic() < deadline, "it does not stop"
            time.sleep(0.001)

    def kill(self) -> int:
        """Kill it at once, and see it gone; it may have ended before."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends; return its status, or minus the signal that killed it.

        It is killed if it does not end within two minutes.
        """
        return self.zygote.ask(wait=self.pid)


class Zygote:
    """The one that forks; use it in a ``with`` block, which ends all that it forked."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """Start it.

        Args:
            folder: Where what the others write is kept.
            environment: More variables for it, and for what it forks.
        """
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1, env={**os.environ, **environment},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def fork(
        self, words: Sequence[str], *, is_held: bool = False, **environment: str
    ) -> Forked:
        """Fork a process that runs a command of ``processes``.

        Args:
            words: An interpreter, which is not needed, a script, and its arguments.
            is_held: It waits for ``let_go`` before it begins, and may be traced.
            environment: More variables for it.
        """
        self._count += 1
        said_path = self._folder / f"said-{self._count}"
        said_path.touch()
        pid = self.ask(
            words=words[1:], said=str(said_path), held=is_held, environment=environment
        )
        return Forked(self, pid, said_path)

    def ask(self, **request: Any) -> int:
        """Have it do something, and return the number that it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return int(self._process.stdout.readline())


def _is_stopped(thread: Path) -> bool:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def _serve() -> None:
    """Fork and wait as asked; at the end of the input end what is left."""
    living = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid = request["wait"]
            answer = _wait(pid)
            living.discard(pid)
        else:
            answer = os.fork()
            if answer == 0:
                _be(**request)
            living.add(answer)
        print(answer, flush=True)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _wait(pid: int) -> int:
    deadline = time.monotonic() + _PATIENCE
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline += _PATIENCE
        time.sleep(0.001)


def _be(
    words: list[str], said: str, environment: dict[str, str], *, held: bool
) -> None:
    """Run a script in this new process, and end it."""
    status = 1
    try:
        os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(environment)
        sys.argv = words
        if held:
            ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(_ANYBODY))
            while not Path(said).with_suffix(".go").exists():
                time.sleep(0.001)
        runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as exc:
        status = int(exc.code or 0)
    except BaseException:  # noqa: BLE001 - it must not become a second zygote
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


if __name__ == "__main__":
    _serve()
