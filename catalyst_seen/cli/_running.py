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
        handlers: list[Handle] = []
        _handlers.set(handlers)
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(function(*args, **kwargs))
            signals = _Signals(loop, task, handlers)
            try:
                return loop.run_until_complete(task)
            except BrokenPipeError:  # click would make it an exit code of its own
                raise Signalled(signal.SIGPIPE) from None
            except asyncio.CancelledError:
                if signals.first is None:
                    raise
                raise Signalled(signals.first) from None

    return run


class _Signals:
    """Gives a signal to the last handler; without one, the first cancels the task.

    Attributes:
        first: The signal that has cancelled the task.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[T],
        handlers: list[Handle],
    ) -> None:
        self.first: signal.Signals | None = None
        self._loop = loop
        self._cancel = task.cancel
        self._handlers = handlers
        self._caught = [number for number in _SIGNALS if not _is_ignored(number)]
        for number in self._caught:
            loop.add_signal_handler(number, self._receive, number)

    def _receive(self, number: signal.Signals) -> None:
        if self._handlers:
            self._handlers[-1](number)
            return
        self.first = number
        for each in self._caught:
            self._loop.remove_signal_handler(each)
        self._cancel()


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
