"""Waits on a terminal until a person presses Enter."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress


def is_a_person_there() -> bool:
    """Are both the question and its answer on a terminal?"""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def enter_pressed() -> bool:
    """Wait for Enter; false at the end of the input, as by Ctrl-D.

    The thread that reads is a daemon, so that a signal can end the process. What was
    typed before the question is no answer to it.
    """
    _drop_typed()
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def read() -> None:
        line = sys.stdin.readline()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_resolve, answer, bool(line))

    threading.Thread(target=read, daemon=True, name="catalyst-seen enter").start()
    return await answer


def _resolve(answer: asyncio.Future[bool], value: bool) -> None:  # noqa: FBT001
    if not answer.done():
        answer.set_result(value)


def _drop_typed() -> None:
    try:
        import termios
    except ImportError:  # not on Windows
        return
    with suppress(termios.error):
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
