"""The workers of the demo: processes that are killed and replaced."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._children import end, how, start
from .._codes import Code, Failure

if TYPE_CHECKING:
    from pathlib import Path

_SETTLED = 1.0
_MODULE = f"{__package__}.worker"


@dataclass(eq=False)
class Member:
    """A worker that was started.

    Attributes:
        number: Its number.
        process: Its process.
        counts: What it has reported last.
        began: When it had something in flight first, on the monotonic clock.
    """

    number: int
    process: asyncio.subprocess.Process
    counts: Counter[str] = field(default_factory=Counter)
    began: float | None = None

    def receive(self, counts: Counter[str]) -> None:
        """Take over what it reports."""
        self.counts = counts
        if self.began is None and counts["in_flight"]:
            self.began = time.monotonic()

    def may_be_killed(self) -> bool:
        """Does it deliver, and no longer all at once, as at its beginning?"""
        is_running = self.process.returncode is None
        is_settled = self.began is not None and time.monotonic() - self.began > _SETTLED
        return is_running and is_settled and self.counts["in_flight"] > 0


class Crew:
    """Keeps the places of the workers filled, and kills one now and then.

    Attributes:
        running: The workers that run now.
        killed: When the killed ones were sent a signal, on the monotonic clock.
        kills: Number of processes that this has ended.
    """

    def __init__(self, folder: Path, port: int, callers: int) -> None:
        """Start nothing yet.

        Args:
            folder: Where the database is, and what the workers say.
            port: The port of the site.
            callers: Number of callers in each worker.
        """
        self.running: list[Member] = []
        self.killed: dict[int, float] = {}
        self.kills = 0
        self.database = folder / "seen.db"
        self._folder = folder
        self._port = port
        self._callers = callers
        self._started = 0
        self._ended: Counter[str] = Counter()
        self._has_begun = asyncio.Event()

    @property
    def counts(self) -> Counter[str]:
        """The counts of all workers.

        What a worker did in the last tenth of a second before it was killed is missing.
        """
        return sum((member.counts for member in self.running), self._ended)

    async def begun(self) -> None:
        """Wait until a worker works."""
        await self._has_begun.wait()

    async def staff(self) -> None:
        """Fill a place until a worker has found everything delivered.

        Raises:
            Failure: A worker has failed by itself.
        """
        while True:
            member = await self._start()
            try:
                await self._follow(member)
                code = await member.process.wait()
            finally:
                self.running.remove(member)
                member.counts.pop("in_flight", None)
                self._ended += member.counts
                await end(member.process)
            if code == 0:
                return
            if member.number not in self.killed or code != -signal.SIGKILL:
                raise Failure(self._problem(member, code), Code.UNAVAILABLE)
            self.kills += 1

    def kill(self) -> bool:
        """Kill a worker that delivers, once all of them work; return whether one was.

        So a machine on which a start takes long has fewer kills.
        """
        if not all(one.counts for one in self.running):
            return False
        busy = [one for one in self.running if one.may_be_killed()]
        if not busy:
            return False
        member = random.choice(busy)
        self.killed[member.number] = time.monotonic()
        member.process.send_signal(signal.SIGKILL)
        return True

    async def _start(self) -> Member:
        self._started += 1
        number = self._started
        words = [str(self.database), str(self._port), str(number), str(self._callers)]
        with self._log(number).open("wb") as log:
            process = await start(
                [sys.executable, "-m", _MODULE, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                is_leader=True,
            )
        member = Member(number, process)
        self.running.append(member)
        return member

    async def _follow(self, member: Member) -> None:
        """Read what a worker reports, to its end; a kill may cut the last line."""
        assert member.process.stdout is not None  # noqa: S101 - for the type
        async for line in member.process.stdout:
            if line.endswith(b"\n"):
                member.receive(Counter(json.loads(line)))
                self._has_begun.set()

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"

    def _problem(self, member: Member, code: int) -> str:
        said = self._log(member.number).read_text(errors="replace").splitlines()
        return f"a worker of the demo ended with {how(code)}: {(said or ['-'])[-1]}"
