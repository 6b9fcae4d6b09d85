"""The event loop thread of a blocking store, and the portal into its event loop."""

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
    """A daemon thread whose event loop keeps a store open until ``stop``.

    Other threads submit coroutines through an anyio portal and wait for the results.
    """

    def __init__(self, store: AsyncSeenStore, close_timeout: float) -> None:
        """Start the thread, and wait until the store is open.

        Args:
            store: The store that the thread opens and closes.
            close_timeout: Seconds that ``stop`` waits for the end of the thread.
        """
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
            # On Ctrl-C the thread continues to open the store, and has to close it.
            opening.add_done_callback(lambda _: self.stop())
            raise

    def call(
        self,
        work: Callable[[], Awaitable[T]],
        compensate: Callable[[T], Awaitable[object]] | None = None,
    ) -> T:
        """Run a coroutine function in the event loop, and wait for its result.

        An interrupt of the caller (Ctrl-C) cancels the coroutine. The coroutine may
        complete nevertheless, with a result that no caller receives; ``compensate``
        then undoes its effect, as a release undoes a claim.
        """
        handover = _Handover[T]()

        async def run() -> T:
            result = await work()
            if not handover.offer(result) and compensate:
                await compensate(result)
            return result

        future: Future[T] | None = None
        try:
            future = self._submit(run)
            return future.result()
        except BaseException:
            if future is not None:
                future.cancel()
            for result in handover.withdraw():
                if compensate:
                    self._submit(partial(compensate, result))
            raise

    def _submit(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        try:
            return self._portal.start_task_soon(work)
        except RuntimeError as exc:  # the exit of the program has closed the portal
            raise StoreClosedError("the store is closed") from exc

    def post(self, function: Callable[[], object]) -> None:
        """Schedule a short function in the event loop, without waiting for it."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop was closed meanwhile
                self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Close the store and wait for the end of the thread, for a limited time.

        Every thread may call this method: at the exit of the program, and in a garbage
        collection at any point of any code.
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
    """The hand-over of one result from the event loop thread to its caller.

    An interrupt may end the caller's wait at any moment. The lock ensures that exactly
    one side owns the result then: ``offer`` returns False, or ``withdraw`` returns it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_awaited = True
        self._offered: list[T] = []

    def offer(self, result: T) -> bool:
        """Deliver the result; False if the caller no longer waits for it."""
        with self._lock:
            if self._is_awaited:
                self._offered.append(result)
            return self._is_awaited

    def withdraw(self) -> list[T]:
        """Stop waiting, and return the result if it was delivered before."""
        with self._lock:
            self._is_awaited = False
            return self._offered
