"""A thread with an event loop, for a store that is used from blocking code."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from ._errors import StoreClosedError
from ._fork import Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._store import AsyncSeenStore

T = TypeVar("T")


class LoopThread:
    """A daemon thread with an event loop, in which a store is open until ``stop``."""

    def __init__(self, store: AsyncSeenStore, close_timeout: float) -> None:
        opening: Future[None] = Future()
        self._store = store
        self._close_timeout = close_timeout
        self._owner = Owner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._run, args=(opening,), name="catalyst-seen loop", daemon=True
        )
        self._thread.start()
        try:
            opening.result()
        except BaseException:
            # Also Ctrl-C, while the thread goes on opening.
            opening.add_done_callback(lambda _: self.stop())
            raise

    def call(
        self,
        work: Callable[[], Awaitable[T]],
        give_back: Callable[[T], Awaitable[object]] | None = None,
    ) -> T:
        """Run a coroutine function in the loop and wait for its result.

        A caller that is interrupted, by Ctrl-C, cancels it. If it comes to a result all
        the same, nobody learns of it: that is what ``give_back`` is for.
        """
        handover = _Handover[T]()

        async def run() -> T:
            result = await work()
            if not handover.offer(result) and give_back:
                await give_back(result)
            return result

        future: Future[T] | None = None
        try:
            future = self._start(run)
            return future.result()
        except BaseException:
            if future is not None:
                future.cancel()
            for result in handover.withdraw():
                if give_back:
                    self._start(partial(give_back, result))
            raise

    def _start(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        try:
            return self._portal.start_task_soon(work)
        except RuntimeError as exc:  # the program is ending, and it was closed
            raise StoreClosedError("the store is closed") from exc

    def post(self, function: Callable[[], object]) -> None:
        """Call a short function in the loop, some time soon."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Close the store and end the thread; wait for it, but not for ever.

        It may be called from any thread: at the end of the program, or by the garbage
        collector in the middle of anything.
        """
        if not self._owner.is_current or self._loop is None:
            return
        self.post(self._stopping.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(self._close_timeout)

    def _run(self, opening: Future[None]) -> None:
        try:
            anyio.run(self._serve, opening)
        except BaseException as exc:
            if opening.done():
                raise
            opening.set_exception(exc)

    async def _serve(self, opening: Future[None]) -> None:
        async with self._store, BlockingPortal() as self._portal:
            self._stopping = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            opening.set_result(None)
            await self._stopping.wait()
            await self._store.aclose()


class _Handover(Generic[T]):
    """A result on its way to a caller who may have been interrupted meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_wanted = True
        self._offered: list[T] = []

    def offer(self, result: T) -> bool:
        """Leave a result for the caller; false if there is none any more."""
        with self._lock:
            if self._is_wanted:
                self._offered.append(result)
            return self._is_wanted

    def withdraw(self) -> list[T]:
        """Want it no more, and get what was left so far."""
        with self._lock:
            self._is_wanted = False
            return self._offered
