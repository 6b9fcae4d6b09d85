"""Runs of the tool that do not wait for its imports: forks of a process that has them.

A new interpreter takes a third of a second to import the tool, a fork a few
milliseconds. From the fork on it is a process like any other: its words, its standard
files, its environment and its end are its own. This file is also what the process runs,
so it imports nothing of the tests.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_ONE_MESSAGE = 1 << 20
COVERAGE = {
    name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")
}
"""How coverage measures other processes: here these, and those on a terminal."""


class ToolServer:
    """A process that has imported the tool, and forks a process for each run."""

    def __init__(self) -> None:
        """Start it."""
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, env={**os.environ, **COVERAGE},
            )  # fmt: skip

    def close(self) -> None:
        """End it; nothing runs any more."""
        self._control.close()
        self._process.wait()

    def run(
        self,
        words: Sequence[str],
        given: bytes,
        folder: Path,
        variables: Mapping[str, str],
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the tool to its end, as ``subprocess.run`` would."""
        request = {"words": words, "folder": str(folder), "variables": dict(variables)}
        with ExitStack() as files, ThreadPoolExecutor(3) as threads:
            ends = [os.pipe(), os.pipe(), os.pipe()]
            theirs = [ends[0][0], ends[1][1], ends[2][1]]
            feed = files.enter_context(os.fdopen(ends[0][1], "wb", buffering=0))
            out, err = (
                files.enter_context(os.fdopen(end[0], "rb")) for end in ends[1:]
            )
            try:
                message = json.dumps(request).encode()
                socket.send_fds(self._control, [message], theirs)
            finally:
                for end in theirs:
                    os.close(end)
            pid = self._answer(None)
            threads.submit(_feed, feed, given)
            read = [threads.submit(out.read), threads.submit(err.read)]
            try:
                code = self._answer(timeout)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._answer(None)
                raise subprocess.TimeoutExpired(list(words), timeout) from None
            return subprocess.CompletedProcess(
                words, code, read[0].result(), read[1].result()
            )

    def _answer(self, timeout: float | None) -> int:
        self._control.settimeout(timeout)
        return int(self._control.recv(_ONE_MESSAGE))


@functools.cache
def tool_server() -> ToolServer:
    """Return the server of this process, which ends with it."""
    made = ToolServer()
    atexit.register(made.close)
    return made


def _feed(file: Any, given: bytes) -> None:
    """Write what is given, as far as it is read."""
    with file:
        rest = memoryview(given)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BrokenPipeError:
            return


def _serve(number: int) -> None:
    """Fork for each request; return in the processes that were forked."""
    control = socket.socket(fileno=number)
    while True:
        message, files, _, _ = socket.recv_fds(control, _ONE_MESSAGE, 3)
        if not message:
            control.close()
            sys.exit()
        pid = os.fork()
        if pid == 0:
            control.close()
            _become(files, **json.loads(message))
            return
        for file in files:
            os.close(file)
        control.send(b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        control.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(
    files: list[int], words: list[str], folder: str, variables: dict[str, str]
) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    sys.argv = ["catalyst_seen", *words]


def _import_all() -> None:
    """Import what any run could need."""
    import catalyst_seen

    for module in pkgutil.walk_packages(catalyst_seen.__path__, "catalyst_seen."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    _serve(int(sys.argv[1]))
    runpy.run_module("catalyst_seen", run_name="__main__", alter_sys=True)
