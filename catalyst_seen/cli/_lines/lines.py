"""The lines of standard input, as they come."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from contextlib import suppress

from .._codes import Failure

BLOCK = 256 * 1024
"""Bytes that are read at once, if they are there."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line that is handled: memory is bounded."""

_EXAMPLE = 60


class Lines:
    """Reads lines: all that are there at once, without waiting for a full block.

    A daemon thread reads, because a read of a pipe cannot be cancelled; it is at most
    one block ahead.

    Attributes:
        too_long: How many lines were longer than ``MAX_LINE``; they are skipped.
        first_too_long: How the first one of them begins.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self.too_long = 0
        self.first_too_long = b""
        self._descriptor = descriptor
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._is_skipping = False
        self._has_ended = False
        self._queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._may_read = threading.Semaphore(2)
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="lines", daemon=True).start()

    async def next(self, timeout: float | None = None) -> list[bytes] | None:
        """Return the next lines, without their line feed; ``None`` is the end.

        Args:
            timeout: Seconds after which it returns no lines; ``None`` waits for ever.

        Raises:
            Failure: The input cannot be read.
        """
        if self._has_ended:
            return None
        try:
            data = await asyncio.wait_for(self._queue.get(), timeout)
        except TimeoutError:
            return []
        self._may_read.release()
        if isinstance(data, OSError):
            raise Failure(f"standard input: {data.strerror}")
        if data:
            return self._split(data)
        self._has_ended = True
        return self._split(b"\n") if self._rest_size or self._is_skipping else None

    def _read(self) -> None:
        data: bytes | OSError = b"?"
        while data and isinstance(data, bytes):
            self._may_read.acquire()
            try:
                data = self._read_block()
            except OSError as exc:
                data = exc
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._queue.put_nowait, data)

    def _read_block(self) -> bytes:
        while True:
            try:
                return os.read(self._descriptor, BLOCK)
            except BlockingIOError:  # another program has set the pipe so
                select.select([self._descriptor], [], [])

    def _split(self, data: bytes) -> list[bytes]:
        first, is_end, rest = data.partition(b"\n")
        if not is_end:
            self._keep(data)
            return []
        lines = rest.split(b"\n")
        last = lines.pop()
        self._keep(first)
        if not self._is_skipping:
            lines.insert(0, b"".join(self._rest))
        self._rest, self._rest_size, self._is_skipping = [], 0, False
        self._keep(last)
        return lines

    def _keep(self, part: bytes) -> None:
        """Keep a part of a line whose end is not there yet."""
        if self._is_skipping or not part:
            return
        self._rest.append(part)
        self._rest_size += len(part)
        if self._rest_size > MAX_LINE:
            self.first_too_long = self.first_too_long or self._rest[0][:_EXAMPLE]
            self.too_long += 1
            self._rest, self._rest_size, self._is_skipping = [], 0, True


def hint_at_terminal() -> str:
    """Return what a person should know who has given no input; mostly nothing."""
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    return "reads lines from this terminal; Ctrl-D ends them" if is_terminal else ""
