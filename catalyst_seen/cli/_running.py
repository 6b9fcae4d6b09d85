"""Runs the coroutine of a command, and ends it in good order on a signal."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ._codes import Signalled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Handle = Callable[[signal.Signals], None]

P = ParamSpec("P")
T = TypeVar("T")

_handlers: ContextVar[list[Handle]] = ContextVar("handlers")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def asynchronous(
    function: Callable[P, Coroutine[None, None, T]],
) -> Callable[P, T]:
    """Make a coroutine function the callback of a command.

    The first ``SIGINT``, ``SIGTERM`` or ``SIGHUP`` cancels it, so that it gives back
    what it has claimed; a second one ends the process at once.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        received: list[int] = []
        handlers: list[Handle] = []
        _handlers.set(handlers)
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(function(*args, **kwargs))

            def end(number: signal.Signals) -> None:
                if handlers:
                    handlers[-1](number)
                    return
                received.append(number)
                for each in _handled:
                    loop.remove_signal_handler(each)
                task.cancel()

            _handled = [each for each in _SIGNALS if not _is_ignored(each)]
            for each in _handled:
                loop.add_signal_handler(each, end, each)
            return _result(loop, task, received)

    return run


def _result(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[T], received: list[int]
) -> T:
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        if not received:
            raise
        raise Signalled(received[0]) from None
    except BrokenPipeError:  # click would exit with 1
        raise Signalled(signal.SIGPIPE) from None


@contextmanager
def signals_to(handle: Handle) -> Iterator[None]:
    """Give the signals to a function, instead of cancelling the command."""
    handlers = _handlers.get()
    handlers.append(handle)
    try:
        yield
    finally:
        handlers.remove(handle)


def _is_ignored(number: signal.Signals) -> bool:
    """Was it ignored when this process began, as ``SIGHUP`` is under nohup?"""
    return signal.getsignal(number) is signal.SIG_IGN
