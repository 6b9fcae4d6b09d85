"""The event loop thread of a blocking store, and the calls that cross into it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from ._errors import StoreClosedError
from ._fork import Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._store import AsyncSeenStore

T = TypeVar("T")


class LoopThread:
    """A daemon thread whose event loop keeps a store open until ``stop``.

    Other threads submit coroutines and wait for the results. A future of its own for
    each takes half of the time of anyio's ``BlockingPortal``.
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
        self._crossings: dict[Future[Any], asyncio.Task[None] | None] = {}
        self._crossing = threading.Lock()
        self._has_ended = False
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
        """Start a coroutine in the event loop.

        Cancelling the future cancels the coroutine.

        Raises:
            StoreClosedError: The loop has ended, as at the exit of the program.
        """
        future: Future[T] = Future()
        loop = self._loop
        with self._crossing:
            if self._has_ended or loop is None:
                raise StoreClosedError("the store is closed")
            self._crossings[future] = None
            try:
                loop.call_soon_threadsafe(self._start, future, work)
            except RuntimeError as exc:  # the exit of the program has closed the loop
                raise StoreClosedError("the store is closed") from exc
        future.add_done_callback(self._cancel)
        return future

    def _start(self, future: Future[T], work: Callable[[], Awaitable[T]]) -> None:
        task = asyncio.create_task(self._complete(future, work))
        self._crossings[future] = task
        if future.cancelled():
            task.cancel()

    async def _complete(
        self, future: Future[T], work: Callable[[], Awaitable[T]]
    ) -> None:
        try:
            result = await work()
        except asyncio.CancelledError:
            self._fail(future, StoreClosedError("the store was closed meanwhile"))
        except BaseException as exc:  # noqa: BLE001 - the caller gets it
            self._fail(future, exc)
        else:
            with suppress(InvalidStateError):
                future.set_result(result)
        finally:
            del self._crossings[future]

    def _fail(self, future: Future[Any], exc: BaseException) -> None:
        with suppress(InvalidStateError):  # its caller was interrupted
            future.set_exception(exc)

    def _cancel(self, future: Future[Any]) -> None:
        task = self._crossings.get(future)
        if future.cancelled() and task is not None:
            self.post(task.cancel)

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
        finally:
            self._end()

    def _end(self) -> None:
        """Fail the calls that the event loop did not complete, and refuse others."""
        with self._crossing:
            self._has_ended = True
        for future in list(self._crossings):
            self._fail(future, StoreClosedError("the store was closed meanwhile"))

    async def _serve(self, opening: Future[None]) -> None:
        async with self._store:
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
