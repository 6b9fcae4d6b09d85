"""Runs a command for each line that is new."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from catalyst_seen import AsyncSeenStore, LeaseLostError

from ..._pause import pause
from .._children import ErrorOutput, finished, how, input_file, problem, start
from .._codes import Code, Failure
from .._output import printable, span
from .._settings import talk
from .elsewhere import Elsewhere
from .filtering import fresh_of
from .keys import text_of
from .reading import set_aside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType

    from .._outlet import Outlet
    from .reading import Keyed

_LONGEST_PAUSE = 60.0
_EXAMPLE = 60
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Job:
    """What is done with a line.

    Attributes:
        words: The command; ``{}`` stands for the line.
        takes_stdin: Is the line the input of the command?
        timeout: Seconds after which the command is ended.
        retries: How often it is run again when it fails.
        later: Seconds until a line is tried again whose command ended with 75.
        lease: Seconds for which the line is claimed, again and again.
        ttl: How long it stays seen; ``...`` is the store's own.
    """

    words: Sequence[str]
    takes_stdin: bool
    timeout: float | None
    retries: int
    later: float
    lease: float
    ttl: float | EllipsisType | None

    def words_for(self, line: bytes) -> list[bytes]:
        """Return the command for a line, which is its last word if none has ``{}``."""
        given = list(map(os.fsencode, self.words))
        words = [word.replace(b"{}", line) for word in given]
        has_place = any(b"{}" in word for word in given)
        return words if has_place or self.takes_stdin else [*words, line]


@dataclass
class Jobs:
    """Runs jobs, so many at once, and claims no more lines than it runs.

    Attributes:
        failed: How many lines have failed.
        held: How many are held.
        elsewhere: Those that another process has, and those that are put off.
    """

    store: AsyncSeenStore
    job: Job
    outlet: Outlet
    at_once: int
    group: asyncio.TaskGroup
    failed: int = 0
    held: int = 0
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.at_once)
        self._outlet_lock = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._output_error: OSError | Failure | None = None

    async def take(self, lines: Sequence[Keyed]) -> None:
        """Run the lines that are new; returns when the last one has begun."""
        for key, line in (await fresh_of(self.store, lines)).items():
            await self._slots.acquire()
            task = self.group.create_task(self._handle(key, line))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: self._slots.release())

    async def take_and_wait(self, lines: Sequence[Keyed]) -> None:
        """Run them to their end."""
        await self.take(lines)
        if self._running:
            await asyncio.wait({*self._running})

    async def _handle(self, key: str, line: bytes) -> None:
        """Run the command of a line under a claim, and settle that.

        A command that has ended with 0 has had its effect, whatever becomes of its
        output: the line is marked before an error of the output goes on.
        """
        if self.outlet.has_no_reader():
            raise BrokenPipeError
        error, is_later = await self._settled(key, line)
        if is_later:
            self.elsewhere.keep(key, line, self.job.later)
        elif error:
            self.failed += 1
            talk(f"failed: {_shown(line)}: {error}")
        if self._output_error is not None:
            raise self._output_error

    async def _settled(self, key: str, line: bytes) -> tuple[str, bool]:
        """Settle a line by its command; return why it failed, and whether later."""
        job, error, is_later, is_done = self.job, "", False, False
        claiming = self.store.claim(key, lease=job.lease, ttl=job.ttl, keep_alive=True)
        try:
            async with claiming as claim:
                if claim:
                    error, is_later = await self._attempts(line)
                    is_done = not error
                else:
                    set_aside(self, claim, key, line)
                if error:
                    delay = job.later if is_later else 0.0
                    await claim.release(delay, error=error)
        except LeaseLostError as exc:
            what = "its command ended with 0, but that is not marked: "
            return f"{what if is_done else ''}{exc.problem}", False
        return error, is_later

    async def _attempts(self, line: bytes) -> tuple[str, bool]:
        """Run the command until it succeeds; return why not, and whether later."""
        for attempt in range(self.job.retries + 1):
            if attempt:
                await pause(min(2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE))
            error, is_later = await self._run(line)
            if is_later or not error:
                break
        return error, is_later

    async def _run(self, line: bytes) -> tuple[str, bool]:
        """Run the command once; return why it failed, and whether later."""
        words = self.job.words_for(line.removesuffix(b"\r"))
        with ExitStack() as files:
            out = files.enter_context(tempfile.TemporaryFile())
            stdin: int | IO[bytes] = subprocess.DEVNULL
            if self.job.takes_stdin:
                stdin = files.enter_context(input_file(line + b"\n"))
            errors = ErrorOutput()
            try:
                with errors.input as err:
                    process = await start(
                        words, stdin=stdin, stdout=out, stderr=err, is_leader=True
                    )
            except (OSError, ValueError) as exc:  # too long, or with a NUL
                return getattr(exc, "strerror", None) or str(exc), False
            ended, is_later = "", False
            try:
                if code := await finished(process, self.job.timeout):
                    is_later = code == Code.LATER
                    ended = "put off by its exit code 75" if is_later else how(code)
            except TimeoutError:
                ended = f"ended after {span(self.job.timeout or 0)}"
            finally:
                errors.drain()
            await self._show(out)
        return problem(ended, errors) if ended else "", is_later

    async def _show(self, out: IO[bytes]) -> None:
        """Write the output of a child, not mixed with that of others."""
        out.seek(0)
        try:
            async with self._outlet_lock:
                while chunk := out.read(_CHUNK):
                    await self.outlet.start_pieces([chunk])
        except (OSError, Failure) as exc:
            self._output_error = exc


def _shown(line: bytes) -> str:
    text = text_of(line)
    return printable(text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}...")
