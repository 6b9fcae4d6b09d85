"""Asks a person before much is lost."""

from __future__ import annotations

import asyncio
import os
import sys

from .._codes import Code, Failure

_LINE = 1_024


async def confirmed(question: str, *, has_yes: bool) -> None:
    """Return if a change is wanted; ask where a person can answer.

    Args:
        question: What would be done.
        has_yes: Is ``--yes`` given, so that nobody is asked?

    Raises:
        Failure: Nobody can be asked, or the answer is no.
    """
    if has_yes:
        return
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise Failure(f"{question}: pass --yes to do it, or --dry-run to see it")
    sys.stderr.write(f"catalyst-seen: {question}? [y/N] ")
    sys.stderr.flush()
    if (await _line_of_terminal()).strip().lower() not in {"y", "yes"}:
        raise Failure("nothing was changed", Code.NO)


def _is_terminal(stream: object) -> bool:
    return getattr(stream, "isatty", lambda: False)()


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
