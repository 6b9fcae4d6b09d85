"""The event loop thread of a blocking store, and the calls that cross into it.

An interrupt (Ctrl-C) may be raised inside every function in Python that the main thread
runs. So the threads share nothing but locks of C, which an interrupt leaves either
acquired or not: ``concurrent.futures.Future`` has a condition whose lock would stay
locked, and the event loop would wait for it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from ._errors import StoreClosedError
from ._fork import Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._store import AsyncSeenStore

T = TypeVar("T")


class LoopThread:
    """A daemon thread whose event loop keeps a store open until ``stop``.

    Other threads submit coroutines and wait for the results.
    """

    def __init__(self, store: AsyncSeenStore, close_timeout: float) -> None:
        """Start the thread, and wait until the store is open.

        Args:
            store: The store that the thread opens and closes.
            close_timeout: Seconds that ``stop`` waits for the end of the thread.
        """
        self._opening = _Outcome[None]()
        self._store = store
        self._close_timeout = close_timeout
        self._owner = Owner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._crossings: set[_Crossing[Any]] = set()
        self._has_ended = False
        self._thread = threading.Thread(
            target=self._run, name="catalyst-seen loop", daemon=True
        )
        self._thread.start()
        try:
            self._opening.wait()
        except BaseException:
            # On Ctrl-C the thread continues to open the store, and has to close it.
            self._opening.call_when_set(self.stop)
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

        crossing = _Crossing(run)
        try:
            self._submit(crossing)
            return crossing.wait()
        except BaseException:
            if not crossing.is_set:
                crossing.is_cancelled = True
                self._crossings.discard(crossing)
                self.post(crossing.cancel)
            for result in handover.withdraw():
                if compensate:
                    self._submit(_Crossing(partial(compensate, result)))
            raise

    def _submit(self, crossing: _Crossing[Any]) -> None:
        """Start a coroutine in the event loop.

        Raises:
            StoreClosedError: The loop has ended, as at the exit of the program.
        """
        loop = self._loop
        self._crossings.add(crossing)  # before ``_has_ended`` is read; see ``_end``
        if loop is None or self._has_ended:
            raise StoreClosedError("the store is closed")
        try:
            loop.call_soon_threadsafe(crossing.start, self._crossings)
        except RuntimeError as exc:  # the exit of the program has closed the loop
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

    def _run(self) -> None:
        try:
            anyio.run(self._serve)
        except BaseException as exc:
            if self._opening.is_set:
                raise
            self._opening.set_error(exc)
        finally:
            self._end()

    def _end(self) -> None:
        """Fail the calls that the event loop did not complete, and refuse others."""
        self._has_ended = True
        for crossing in list(self._crossings):
            if not crossing.is_set:
                crossing.set_error(StoreClosedError("the store was closed meanwhile"))

    async def _serve(self) -> None:
        async with self._store:
            self._stopping = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            self._opening.set_result(None)
            await self._stopping.wait()
            await self._store.aclose()


class _Outcome(Generic[T]):
    """A result or an error that one thread sets, once, and another one waits for.

    Attributes:
        is_set: Whether it is there.
    """

    def __init__(self) -> None:
        self.is_set: bool = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._callback: Callable[[], object] | None = None
        self._unset = threading.Lock()
        self._unset.acquire()

    def set_result(self, result: T) -> None:
        """Set the result."""
        self._result = result
        self._set()

    def set_error(self, error: BaseException) -> None:
        """Set an error, which ``wait`` raises."""
        self._error = error
        self._set()

    def call_when_set(self, callback: Callable[[], object]) -> None:
        """Call a function when it is set; perhaps twice."""
        self._callback = callback
        if self.is_set:
            callback()

    def wait(self) -> T:
        """Wait for the result, and return it; only one thread may."""
        self._unset.acquire()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this frame
        return cast("T", self._result)

    def _set(self) -> None:
        self.is_set = True
        self._unset.release()
        if self._callback is not None:
            self._callback()


class _Crossing(_Outcome[T]):
    """A call on its way into the event loop, and its outcome on the way back.

    Attributes:
        is_cancelled: Set by a caller that does not wait any more.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        super().__init__()
        self.is_cancelled: bool = False
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self, crossings: set[_Crossing[Any]]) -> None:
        """Start its task, in the event loop; at the end it leaves the given set."""
        if self.is_cancelled:
            crossings.discard(self)
            return
        self._task = asyncio.create_task(self._run(crossings))

    def cancel(self) -> None:
        """Cancel its task, in the event loop."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, crossings: set[_Crossing[Any]]) -> None:
        try:
            result = await self._work()
        except asyncio.CancelledError:
            self.set_error(StoreClosedError("the store was closed meanwhile"))
        except BaseException as exc:  # noqa: BLE001 - the caller gets it
            self.set_error(exc)
        else:
            self.set_result(result)
        finally:
            crossings.discard(self)


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
