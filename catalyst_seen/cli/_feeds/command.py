"""Runs a command for an entry, as ``watch --exec`` does."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import click

from .._output import span
from .deliveries import DeliveryError
from .entries import as_json, data_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalyst_seen import Claim
    from catalyst_seen.feeds import Entry

LATER = 75
"""The exit code that asks for another time (``EX_TEMPFAIL`` of ``sysexits.h``)."""

_GRACE = 5.0
"""Seconds between ``SIGTERM`` and ``SIGKILL``."""

_VARIABLES = ("title", "link", "key", "feed", "source", "published")


def words(text: str) -> list[str]:
    """Return the words of a command, which is run without a shell.

    Raises:
        click.BadParameter: It has none, a quote is open, or there is no such program.
    """
    try:
        found = shlex.split(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: {exc}") from None
    if not found:
        raise click.BadParameter("it is empty: name a program")
    if "\0" in text or shutil.which(found[0]) is None:
        raise click.BadParameter(
            f"there is no program {found[0]!r}; it is run without a shell, so write"
            " sh -c '...' for a line of one"
        )
    return found


class EntryCommand:
    """A command that is run for each entry."""

    def __init__(self, arguments: list[str], timeout: float) -> None:
        """Run ``arguments``, each time for ``timeout`` seconds at most."""
        self._arguments = arguments
        self._timeout = timeout

    async def deliver(self, entry: Entry, claim: Claim) -> None:
        """Run it to its end; a cancellation ends it, with what it has started.

        It has the entry as JSON on standard input, and in variables. The outputs are
        those of the tool.

        Raises:
            DeliveryError: It failed.
        """
        process = await self._started(data_of(entry, claim), claim.attempt)
        try:
            async with asyncio.timeout(self._timeout):
                code = await process.wait()
        except TimeoutError:
            problem = f"not done within {span(self._timeout)}"
            raise DeliveryError(problem) from None
        finally:
            await _end(process)
        if code:
            raise DeliveryError(_problem(code), is_later=code == LATER)

    async def _started(
        self, data: dict[str, Any], attempt: int
    ) -> asyncio.subprocess.Process:
        try:
            with _document(data) as document:
                return await asyncio.create_subprocess_exec(
                    *self._arguments,
                    stdin=document,
                    env=_environment(data, attempt),
                    start_new_session=True,  # what it starts ends with it
                )
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            problem = f"{self._arguments[0]} cannot be run: {reason}"
            raise DeliveryError(problem) from exc


@contextmanager
def _document(data: dict[str, Any]) -> Iterator[IO[bytes]]:
    """Yield a file with an entry: a pipe would wait for a command that reads none."""
    with tempfile.TemporaryFile() as file:
        file.write(f"{as_json(data)}\n".encode(errors="backslashreplace"))
        file.seek(0)
        yield file


def _environment(data: dict[str, Any], attempt: int) -> dict[bytes, bytes]:
    own = {name: data[name] or "" for name in _VARIABLES}
    texts = {**own, "attempt": str(attempt)}
    return {
        **os.environb,
        **{
            f"ENTRY_{name.upper()}".encode(): text.replace("\0", "").encode(
                errors="backslashreplace"
            )
            for name, text in texts.items()
        },
    }


def _problem(code: int) -> str:
    if code >= 0:
        return f"exit code {code}" + (" (later)" if code == LATER else "")
    with suppress(ValueError):  # a signal without a name
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process with those that it has started, if it has not ended itself."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_GRACE):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
