"""Asks a person on a terminal: before much is lost, and until something is done."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
from contextlib import suppress

from ._codes import Code, Failure
from ._threads import in_thread

_LINE = 1_024


def is_a_person_there() -> bool:
    """Are both the question and its answer on a terminal?"""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def confirmed(question: str, *, has_yes: bool) -> None:
    """Return if a change is wanted; ask where a person can answer.

    Args:
        question: What would be done.
        has_yes: Is ``--yes`` given? It is the answer, without a question.

    Raises:
        Failure: There is no terminal for the question, or the answer is no.
    """
    if has_yes:
        return
    if not is_a_person_there():
        raise Failure(f"{question}: pass --yes to do it, or --dry-run to see it")
    sys.stderr.write(f"catalyst-seen: {question}? [y/N] ")
    sys.stderr.flush()
    if (await _line_of_terminal()).strip().lower() not in {"y", "yes"}:
        raise Failure("nothing was changed", Code.NO)


async def enter_pressed() -> bool:
    """Wait for Enter; false at the end of the input, as by Ctrl-D.

    What was typed before the question is no answer to it.
    """
    with suppress(termios.error):
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    return bool(await in_thread(sys.stdin.readline))


async def _line_of_terminal() -> str:
    """Wait for a line; a signal ends that, which a blocking read would keep off."""
    loop = asyncio.get_running_loop()
    terminal = sys.stdin.fileno()
    answered = asyncio.Event()
    loop.add_reader(terminal, answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(terminal)
    return os.read(terminal, _LINE).decode(errors="replace")
