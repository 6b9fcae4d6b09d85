"""Commands of the user, as child processes."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, TYPE_CHECKING

from ._output import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GRACE = 5.0
"""Seconds between ``SIGTERM`` and ``SIGKILL``."""

_PR_SET_PDEATHSIG = 1

_STDERR = 2
_PIECE = 4_096
_KEPT = 2_000
"""Bytes of the end of a child's standard error."""


def missing(word: str) -> OSError | None:
    """Return why the first word of a command cannot be executed; ``None`` if it can.

    ``FileNotFoundError`` is a word that names nothing, ``PermissionError`` a file.
    """
    if shutil.which(word):
        return None
    if os.sep in word and os.path.exists(word):  # noqa: PTH110 - the word as given
        return PermissionError(errno.EACCES, "cannot be executed", word)
    return FileNotFoundError(errno.ENOENT, "command not found", word)


async def start(
    words: Sequence[str | bytes],
    *,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    env: Mapping[bytes, bytes] | None = None,
    is_leader: bool = False,
) -> asyncio.subprocess.Process:
    """Start a command; never through a shell. ``None`` is a file of this process.

    If this process is killed, the child gets ``SIGTERM`` from the system.

    Args:
        words: The command and its arguments.
        stdin: Its input.
        stdout: Its output.
        stderr: Where it reports errors.
        env: Its environment; ``None`` is that of this process.
        is_leader: Has it a process group of its own, to which a Ctrl-C at the terminal
            does not go?

    Raises:
        OSError: It cannot be executed.
    """
    return await asyncio.create_subprocess_exec(
        *words,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        process_group=0 if is_leader else None,
        preexec_fn=partial(_die_with_parent, _libc(), os.getpid()),
    )


class ErrorOutput:
    """Standard error of a child: it may be passed on as it comes; its end is kept.

    Attributes:
        input: What the child gets; to be closed here when the child has it.
    """

    def __init__(self, *, is_shown: bool = True) -> None:
        """Pass on what comes if it ``is_shown``."""
        self._is_shown = is_shown
        self._loop = asyncio.get_running_loop()
        self._source, target = os.pipe()
        self.input: IO[bytes] = os.fdopen(target, "wb", buffering=0)
        self._end = b""
        os.set_blocking(self._source, False)
        self._loop.add_reader(self._source, self._pass_on)

    def drain(self) -> None:
        """Pass on what the child has written until now.

        What it has left running may go on to write, to its own end.
        """
        while self._pass_on():
            pass

    def last_line(self) -> str:
        """Return the last line so far that is not empty."""
        self.drain()
        lines = self._end.decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "").strip()

    def _pass_on(self) -> bool:
        """Pass on what there is; was there anything?"""
        if self._source < 0:
            return False
        try:
            data = os.read(self._source, _PIECE)
        except BlockingIOError:
            return False
        if data:
            self._end = (self._end + data)[-_KEPT:]
            if self._is_shown:
                with suppress(OSError):  # nobody reads it
                    os.write(_STDERR, data)
        else:
            self._loop.remove_reader(self._source)
            os.close(self._source)
            self._source = -1
        return bool(data)


@contextmanager
def input_file(data: bytes) -> Iterator[IO[bytes]]:
    """Yield a file with the input of a command: a pipe would wait for its reader."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


async def finished(process: asyncio.subprocess.Process, timeout: float | None) -> int:
    """Wait for a process that leads a group; return its code.

    A cancellation ends the group.

    Raises:
        TimeoutError: It did not end in time; the group was ended.
    """
    try:
        async with asyncio.timeout(timeout):
            return await process.wait()
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process that leads a group, and the group: politely, then surely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE)


def problem(how_it_ended: str, errors: ErrorOutput) -> str:
    """Return why a child failed: how it ended, and what it said last."""
    return ": ".join(filter(None, [how_it_ended, printable(errors.last_line())]))


def how(code: int) -> str:
    """Return how a process ended, in words, from its return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _libc() -> ctypes.CDLL | None:
    """Load the C library before a fork, after which nothing may be loaded."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl  # noqa: B018 - found now; only Linux has it
        return libc
    return None


def _die_with_parent(libc: ctypes.CDLL | None, parent: int) -> None:
    """Ask the system, in the child, for ``SIGTERM`` when the parent ends."""
    if libc is None:
        return
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGTERM)
