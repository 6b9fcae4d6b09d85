"""Lines on standard output, each written whole before the next step is taken."""

from __future__ import annotations

import os
import select
import sys
from functools import partial

from .._standard_files import cut_line
from .._threads import in_thread

_AT_ONCE = 4_096
"""So many bytes go into a pipe that is ready, without a wait (``PIPE_BUF``)."""


class LineOutput:
    """Writes lines to standard output without keeping the event loop from a signal.

    The reader of a pipe may take its time, as a pager does. A write that waits for it
    is made in a daemon thread, so that the process can end meanwhile.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = sys.stdout.fileno()
        self._encoding = sys.stdout.encoding or "utf-8"

    async def write(self, line: str) -> None:
        """Write a line, and return when the system has it.

        Raises:
            OSError: It could not be written whole; ``BrokenPipeError`` if nobody reads.
        """
        data = f"{line}\n".encode(self._encoding, "backslashreplace")
        if len(data) <= _AT_ONCE and self._is_ready():
            self._write(data)
        else:
            await in_thread(partial(self._write, data))

    def _is_ready(self) -> bool:
        poll = select.poll()
        poll.register(self._file, select.POLLOUT)
        return bool(poll.poll(0))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:  # another program made it non-blocking
                select.select([], [self._file], [])
            except OSError:
                cut_line(self._file, data, len(data) - len(rest))
                raise
