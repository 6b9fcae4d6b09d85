"""Processes of others: where they run and listen, as whom, and that they end."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from . import guardian

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds in which a server starts, ends when it is asked to, or is found again."""

_PORTS = range(20_000, 32_000)
"""Below those that a system gives to clients: one that tries again and again to reach a
server that is down could be given the server's port, and reach itself."""


class Process:
    """A server's process, and what it starts in its turn; guarded while it runs.

    Attributes:
        folder: A new one, in which it runs.
        log_path: Where its output goes.
    """

    def __init__(self, end: signal.Signals, user: int | None = None) -> None:
        """Make its folder.

        Args:
            end: The signal that ends it in good order.
            user: Who runs it; by default who runs this.
        """
        self.folder = new_folder(user)
        self.log_path = self.folder / "log"
        self._end = end
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of the first process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has said so far."""
        return self.log_path.read_text(errors="replace")

    def start(self, command: Sequence[str], is_ready: Callable[[], bool]) -> None:
        """Start it and wait until it is ready."""
        assert self._process is None, "it is running already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, env={"LC_ALL": "C"},
                **as_user(self._user),
            )  # fmt: skip
        _guardian().tell(f"+ {self.pid} {self._end.value}")
        with ExitStack() as if_it_fails:
            if_it_fails.callback(self.kill)
            deadline = time.monotonic() + PATIENCE
            while not is_ready():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start:\n{self.log}")
                time.sleep(0.005)
            if_it_fails.pop_all()

    def stop(self) -> None:
        """End it in good order, paused or not; if it is not running, do nothing."""
        if self._process is None:
            return
        guardian.send([self.pid], self._end)
        self.resume()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._forget()

    def kill(self) -> None:
        """Kill it and all that it has started, at once."""
        guardian.send([self.pid], signal.SIGSTOP)  # so that it starts no more
        family = guardian.family(self.pid)
        guardian.send(family, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(PATIENCE)
        assert guardian.are_gone(family, PATIENCE)
        self._forget()

    def pause(self) -> None:
        """Let it stand still: connections stay open, nothing is answered."""
        guardian.send([self.pid], signal.SIGSTOP)
        guardian.send(guardian.family(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        guardian.send(reversed(guardian.family(self.pid)), signal.SIGCONT)

    def close(self) -> None:
        """Stop it, and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _forget(self) -> None:
        _guardian().tell(f"- {self.pid}")
        self._process = None


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    for _ in range(100):
        port = random.choice(_PORTS)
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, port))
            return port
    raise RuntimeError("every port is taken")


def package_folder(name: str) -> Path:
    """Where a package is; importing these does more than one asked for."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed: pip install --group servers"
    assert spec.origin is not None
    return Path(spec.origin).parent


class _Guardian:
    """Another process, which learns of the end of this one by the end of a pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", guardian.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def dismiss(self) -> None:
        """Let it end what it guards, and itself."""
        self._process.communicate()


@functools.cache
def _guardian() -> _Guardian:
    made = _Guardian()
    atexit.register(made.dismiss)
    return made


def new_folder(user: int | None) -> Path:
    """Make a folder of a user; it is removed when this process ends, if not before."""
    folder = Path(tempfile.mkdtemp(prefix="catalyst-seen-", dir=_temporary()))
    _guardian().tell(f"/ {folder}")
    give(folder, user)
    return folder


@functools.cache
def _temporary() -> str:
    """Where folders are made that every user can reach."""
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108
        way = [Path(place), *Path(place).parents]
        if Path(place).is_dir() and all(step.stat().st_mode & 0o001 for step in way):
            return place
    return tempfile.gettempdir()


@functools.cache
def other_user() -> int | None:
    """Who runs PostgreSQL, which root must not; ``None`` is whoever runs this."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user.pw_uid for user in pwd.getpwall() if user.pw_uid}
    return users.get("nobody", next(iter(users.values())))


def give(folder: Path, user: int | None) -> None:
    """Make a user the owner of a folder and all that is in it."""
    if user is not None:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, user, -1, follow_symlinks=False)


def as_user(user: int | None) -> dict[str, Any]:
    """Say to ``subprocess`` who runs a process."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}
