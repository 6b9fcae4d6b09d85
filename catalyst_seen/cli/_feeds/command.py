"""Runs a command for an entry, as ``watch --exec`` does."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from .._children import (
    ErrorOutput,
    finished,
    how,
    input_file,
    missing,
    problem,
    start,
)
from .._codes import Code
from .._output import span, to_json
from .deliveries import DeliveryError
from .entries import data_of

if TYPE_CHECKING:
    import asyncio

    from catalyst_seen import Claim
    from catalyst_seen.feeds import Entry

_VARIABLES = ("title", "link", "key", "feed", "source", "published")


def words(text: str) -> list[str]:
    """Return the words of a command, which is run without a shell.

    Raises:
        click.BadParameter: It has none, a quote is open, or it names no program.
    """
    try:
        found = shlex.split(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: {exc}") from None
    if not found:
        raise click.BadParameter("it is empty: name a program")
    if "\0" in text:
        raise click.BadParameter(f"{text!r} has a NUL")
    if error := missing(found[0]):
        raise click.BadParameter(
            f"{found[0]}: {error.strerror}; it is run without a shell, so write"
            " sh -c '...' for a line of one"
        )
    return found


class EntryCommand:
    """A command that is run for each entry."""

    def __init__(
        self, arguments: list[str], timeout: float, *, is_quiet: bool = False
    ) -> None:
        """Run ``arguments``, each time for ``timeout`` seconds at most.

        With ``is_quiet`` what it says is shown as the reason of a failure only.
        """
        self._is_quiet = is_quiet
        self._arguments = arguments
        self._timeout = timeout

    async def deliver(self, entry: Entry, claim: Claim) -> None:
        """Run it to its end; a cancellation ends it, with what it has started.

        It has the entry as JSON on standard input, and in variables. The outputs are
        those of the tool; the last line of its errors becomes part of the problem.

        Raises:
            DeliveryError: It failed.
        """
        errors = ErrorOutput(is_shown=not self._is_quiet)
        with errors.input:
            process = await self._started(data_of(entry, claim), claim.attempt, errors)
        try:
            code = await finished(process, self._timeout)
        except TimeoutError:
            late = f"not done within {span(self._timeout)}"
            raise DeliveryError(problem(late, errors)) from None
        finally:
            errors.drain()
        if code:
            is_later = code == Code.LATER
            ended = f"{how(code)} (later)" if is_later else how(code)
            raise DeliveryError(problem(ended, errors), is_later=is_later)

    async def _started(
        self, data: dict[str, Any], attempt: int, errors: ErrorOutput
    ) -> asyncio.subprocess.Process:
        try:
            line = f"{to_json(data)}\n".encode(errors="backslashreplace")
            with input_file(line) as document:
                return await start(
                    self._arguments,
                    stdin=document,
                    stderr=errors.input,
                    env=_environment(data, attempt),
                    is_leader=True,  # what it starts ends with it
                )
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise DeliveryError(
                f"{self._arguments[0]} cannot be run: {reason}"
            ) from exc


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
