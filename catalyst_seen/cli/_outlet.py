"""Standard output, which knows how much of it has arrived."""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import select
import stat
import struct
import termios
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from .._pause import pause
from ._codes import Code, Failure
from ._standard_files import cut_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_PIECE = 4096
"""Bytes of whole lines that are written at once to a pipe: ``PIPE_BUF``, up to which a
write is not mixed with those of others, and happens as a whole."""

_LARGE_PIECE = 1 << 20


FIRST_BACKOFF, LONGEST_BACKOFF = 0.001, 0.05
"""Seconds between two checks of what has arrived."""


_MOMENT = 0.2
"""Seconds for a thread of a busy machine to go on."""


class Outlet:
    """Writes lines in a daemon thread, because a write to a pipe may take for ever.

    What has arrived depends on what the output is:

    - a pipe: what its reader has read;
    - a socket: what the other side has read (or, over a network, what its system has
      acknowledged);
    - a file: what is on the disk (``fdatasync``): a mark may survive a power loss, so
      the line must as well;
    - a terminal: what has been transmitted;
    - anything else: what has been written.
    """

    def __init__(self, descriptor: int = 1) -> None:
        """Write to a file that is open.

        Raises:
            Failure: It is closed; nothing should be claimed for it.
        """
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise Failure("standard output is closed", Code.SOME_FAILED)
        self._descriptor = descriptor
        mode = os.fstat(descriptor).st_mode
        self._is_file = stat.S_ISREG(mode)
        self._has_reader = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._is_terminal = os.isatty(descriptor)
        self._is_pipe = stat.S_ISFIFO(mode)
        self._piece = _PIECE if self._is_pipe else _LARGE_PIECE
        self._begun = self._written = self._settled = 0
        self._jobs: queue.SimpleQueue[tuple[list[bytes], asyncio.Future[None]]] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)

    def start(self, lines: Sequence[bytes]) -> asyncio.Future[None]:
        """Begin to write lines, each with a line feed; done when all are written.

        Its exception is ``BrokenPipeError`` if there is no reader, else a ``Failure``.
        """
        return self.start_pieces(self._pieces(lines))

    def start_pieces(self, pieces: list[bytes]) -> asyncio.Future[None]:
        """Begin to write bytes as they are."""
        if not self._thread.is_alive():
            self._thread.start()
        done: asyncio.Future[None] = self._loop.create_future()
        self._begun += sum(map(len, pieces))
        self._jobs.put((pieces, done))
        return done

    async def deliver(self, data: bytes) -> None:
        """Write data, and return when they have arrived.

        Raises:
            OSError: ``BrokenPipeError``, if there is no reader.
            Failure: They cannot be written.
        """
        backoff = FIRST_BACKOFF
        await self.start_pieces([data])
        while not self.has_arrived():
            if self.has_no_reader():
                raise BrokenPipeError
            await pause(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    async def settle(self) -> None:
        """Let the thread count what it has just written; at most for a moment.

        A reader may have the end of a write, and send a signal, before the thread that
        wrote it goes on.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT):
                while self._written < self._begun:
                    await pause(FIRST_BACKOFF)

    def has_arrived(self) -> bool:
        """Has all arrived that was ever begun to be written?"""
        return self.arrived() >= self._begun

    def arrived(self) -> int:
        """Return how many of all bytes have arrived; may be too few, never too many."""
        if not self._has_reader:
            return self._settled
        written = self._written  # before the question
        return max(0, written - self._unread())

    def has_no_reader(self) -> bool:
        """Has the reader of a pipe or socket ended?"""
        if not self._has_reader:
            return False
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return bool(poll.poll(0))

    def _unread(self) -> int:
        question = termios.FIONREAD if self._is_pipe else termios.TIOCOUTQ
        answer = fcntl.ioctl(self._descriptor, question, bytes(4))
        unread: int = struct.unpack("i", answer)[0]
        return unread

    def _pieces(self, lines: Sequence[bytes]) -> list[bytes]:
        """Join lines to pieces that are written at once."""
        pieces: list[bytes] = []
        start = size = 0
        for index, line in enumerate(lines):
            if size and size + len(line) >= self._piece:
                pieces.append(b"\n".join([*lines[start:index], b""]))
                start, size = index, 0
            size += len(line) + 1
        return [*pieces, b"\n".join([*lines[start:], b""])]

    def _work(self) -> None:
        while True:
            pieces, done = self._jobs.get()
            error: OSError | None = None
            try:
                self._write_all(pieces)
            except OSError as exc:
                error = exc
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_end, done, error)

    def _write_all(self, pieces: list[bytes]) -> None:
        try:
            for piece in pieces:
                self._write(piece)
        finally:
            if self._is_file:
                os.fdatasync(self._descriptor)
            self._settled = self._written
        if self._is_terminal:
            termios.tcdrain(self._descriptor)

    def _write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                try:
                    size = os.write(self._descriptor, rest)
                except BlockingIOError:  # another program has set the pipe so
                    select.select([], [self._descriptor], [])
                    continue
                rest = rest[size:]
                self._written += size
        except OSError:
            cut_line(self._descriptor, piece, len(piece) - len(rest))
            raise


def _end(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return  # it was cancelled
    if error is None:
        done.set_result(None)
    elif isinstance(error, BrokenPipeError):
        done.set_exception(error)
    else:
        done.set_exception(
            Failure(
                f"standard output: {error.strerror}; what is not written is not marked",
                Code.SOME_FAILED,
            )
        )
