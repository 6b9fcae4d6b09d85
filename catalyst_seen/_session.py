"""The life of a store: one backend, open in one event loop and one process."""

from __future__ import annotations

import asyncio
import enum
import os
from typing import TYPE_CHECKING, Any, TypeVar

from ._errors import StoreClosedError
from ._log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ._backend import Backend

T = TypeVar("T")

CLOSE_TIMEOUT = 5.0
"""Seconds that a close waits for what was sent before it leaves without."""


class _State(enum.Enum):
    NEW = "not open yet: use `async with` or `await store.open()`"
    OPENING = "still opening"
    OPEN = "open"
    CLOSING = "closing: make a new store"
    CLOSED = "closed: make a new store"


class Session:
    """Opens a backend, lets one caller at a time have it, and closes it.

    It knows the loop and the process that opened it, because aiosqlite would wait for
    ever in any other.

    Attributes:
        backend: The backend.
        turn: The right to call it.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._state = _State.NEW
        self.turn: asyncio.Lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[Any]] = set()  # asyncio itself may lose them
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    def __str__(self) -> str:
        return f"{self.backend.location!r} {self._state.name.lower()}"

    @property
    def is_leaking(self) -> bool:
        """Would forgetting this session now leave a thread behind in this process?"""
        return self._state is _State.OPEN and os.getpid() == self._pid

    async def open(self) -> None:
        """Open the backend; after a failure or cancellation it may be tried again."""
        if self._state is not _State.NEW:
            location = self.backend.location
            raise StoreClosedError(f"cannot open {location!r}: {self._state.value}")
        self._state = _State.OPENING
        try:
            await self.backend.open()
        except BaseException:
            if self._state is _State.OPENING:
                self._state = _State.NEW
            raise
        if self._state is not _State.OPENING:
            await self.backend.aclose()
            raise StoreClosedError(f"store {self} was closed while it was opening")
        self._state = _State.OPEN
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def run_in_background(
        self, work: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        """Run a task; closing the session cancels and awaits it."""
        task = asyncio.create_task(work, name=f"catalyst-seen {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Call the backend when it is free."""
        self.check_open()
        async with self.turn:
            return await work()

    async def read(self, work: Callable[[], Coroutine[None, None, T]]) -> T:
        """Call what only reads and takes long, beside other calls."""
        self.check_open()
        return await self.see_through(work())

    def see_through(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Run a task that a close waits for."""
        task = asyncio.create_task(work, name="catalyst-seen calls")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    def check_open(self, *, or_closing: bool = False) -> None:
        """Raise ``StoreClosedError`` unless calls can be made here and now."""
        if self._state is not _State.OPEN and not (
            or_closing and self._state is _State.CLOSING
        ):
            raise StoreClosedError(
                f"store {self.backend.location!r} is {self._state.value}"
            )
        if os.getpid() != self._pid:
            raise StoreClosedError(
                f"store {self} was opened before a fork: close it before, and open one"
                " in each process"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise StoreClosedError(
                f"store {self} was opened in another event loop: open one in each"
            )

    async def aclose(self) -> None:
        """Let what was called finish, then close, in at most ``CLOSE_TIMEOUT``."""
        if os.getpid() != self._pid:  # a forked child: what is open is the parent's
            self._state = _State.CLOSED
            return
        if self._closing is None:
            if self._loop not in {None, asyncio.get_running_loop()}:
                self.abandon()
                return
            self._state = _State.CLOSING
            self._closing = asyncio.create_task(
                self._close(), name="catalyst-seen close"
            )
        await asyncio.shield(self._closing)

    def abandon(self) -> None:
        """Close without waiting, from any thread; in a forked child, do nothing."""
        self._state = _State.CLOSED
        if os.getpid() != self._pid:
            return
        self.backend.abandon()
        if self._loop is not None and not self._loop.is_closed():
            for task in list(self._tasks):
                self._loop.call_soon_threadsafe(task.cancel)

    async def _close(self) -> None:
        try:
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
            finishing = asyncio.create_task(self._finish())
            await asyncio.wait({finishing, *tasks}, timeout=CLOSE_TIMEOUT)
            if finishing.done():
                finishing.result()
            else:
                finishing.cancel()
                log("warning", "close_abandoned", location=self.backend.location)
        finally:
            self._state = _State.CLOSED
            self.backend.abandon()  # what is left, if the loop ended or the disk hangs

    async def _finish(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls)
        async with self.turn:  # after all that was called before
            self._state = _State.CLOSED
            await self.backend.aclose()
