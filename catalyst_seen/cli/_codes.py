"""The exit codes, and the errors of the tool."""

from __future__ import annotations

import errno
import signal
from enum import IntEnum

import click

from catalyst_seen import (
    SchemaError,
    SeenError,
    StoreError,
)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""The output could not be written to its end, however right the usage was."""


class Code(IntEnum):
    """The exit codes of every command but ``once``, which passes on the child's."""

    DONE = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 3
    SOME_FAILED = 4
    LATER = 75
    """``once``: another process has the key (``EX_TEMPFAIL`` of ``sysexits.h``)."""
    OWN_ERROR = 125
    """``once``: an error of the tool, not of the command that it runs."""
    NOT_EXECUTABLE = 126
    """``once``: its command cannot be executed."""
    NOT_FOUND = 127
    """``once``: its command is not there."""


class Failure(click.ClickException):
    """An error in one line: what is wrong, and what to do."""

    def __init__(self, message: str, code: Code = Code.USAGE) -> None:
        super().__init__(message)
        self.code: int = code


class Signalled(BaseException):
    """A signal has ended the command, after it has given back what it had.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def code(self) -> int:
        """The exit code, by the convention of shells."""
        return 128 + self.number


def failure_of(exc: Exception) -> Failure:
    """Return what a person and a script are told of an error.

    An error that is neither of the store nor of the system is a fault of this program.
    """
    if isinstance(exc, click.ClickException):
        return exc if isinstance(exc, Failure) else Failure(_usage(exc))
    if isinstance(exc, StoreError | SchemaError):
        return Failure(str(exc), Code.UNAVAILABLE)
    if isinstance(exc, SeenError | ValueError):
        return Failure(str(exc))
    if isinstance(exc, OSError):
        what = f"{exc.filename}: " if exc.filename else ""
        code = Code.SOME_FAILED if exc.errno in _NO_ROOM else Code.USAGE
        return Failure(f"{what}{exc.strerror or exc}", code)
    return Failure(
        f"a fault of catalyst-seen, please report it: {type(exc).__name__}: {exc}"
        " (CATALYST_SEEN_DEBUG=1 shows where)",
        Code.UNAVAILABLE,
    )


def _usage(exc: click.ClickException) -> str:
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    path = context.command_path if context else "catalyst-seen"
    name = path.removeprefix("catalyst-seen").strip()
    where = f"{name}: " if name else ""
    return f"{where}{exc.format_message()} ({path} --help explains it)"
