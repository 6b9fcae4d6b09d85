"""Standard input, output and error, where a caller has closed one, or stops reading."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from contextlib import suppress

_MODES = (
    (0, "stdin", "r", os.O_WRONLY),
    (1, "stdout", "w", os.O_RDONLY),
    (2, "stderr", "w", os.O_WRONLY),
)
"""Number, name and mode of each, and how it is opened so that using it fails: an error
without a reader is dropped, data are not."""


def keep_closed_files_closed() -> None:
    """Keep the numbers of standard files that are closed from the files of a store.

    Otherwise the output could be written into its database.
    """
    for number, name, mode, flag in _MODES:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flag)  # gets the lowest number that is free
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def is_input_closed() -> bool:
    """Has the caller closed standard input, or given it a file that is only written?"""
    return fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY


def drop_output() -> None:
    """Write what is left of the output, or drop it, so that the exit finds no error."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())


def cut_line(descriptor: int, written: bytes, size: int) -> None:
    """Remove the beginning of a line from the end of a file that has become full.

    The next line would be appended to it, and both would be lost.

    Args:
        descriptor: The file; anything else that is written to is left alone.
        written: What was to be written.
        size: How much of it was.
    """
    begun = size - (written.rfind(b"\n", 0, size) + 1)
    if not begun or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    with suppress(OSError):
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if os.fstat(descriptor).st_size == end:  # no other process wrote after it
            os.ftruncate(descriptor, end - begun)
            os.lseek(descriptor, end - begun, os.SEEK_SET)
