"""Calls of the system that may wait for another program, beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function in a daemon thread, which does not keep the process from its end.

    A thread of ``asyncio.to_thread`` does. A call that is cancelled goes on, without
    effect.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(action: Callable[[], None]) -> None:
        if not outcome.done():
            action()

    def run() -> None:
        try:
            action = partial(outcome.set_result, function())
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            action = partial(outcome.set_exception, exc)
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, action)

    threading.Thread(target=run, name="catalyst-seen-wait", daemon=True).start()
    return await outcome
