"""The lifecycle of a store: one backend, open in one event loop and one process."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import StoreClosedError, StoreUnavailableError
from .._fork import Owner
from .._logging import log
from ..backends._urls import url_errors
from ..backends.base import SupportsCounters
from .failures import Failures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ..backends.base import Backend

T = TypeVar("T")


class _State(enum.Enum):
    NEW = "not open yet: use `async with` or `await store.open()`"
    OPENING = "still opening"
    OPEN = "open"
    CLOSING = "closing: make a new store"
    CLOSED = "closed: make a new store"


def no_turn(backend: Backend) -> StoreUnavailableError:
    """Return the error of a call whose time is over before it was sent."""
    failing = None
    if isinstance(backend, SupportsCounters):
        failing = backend.counters().failing
    why = f": {failing}" if failing else ", or this event loop was blocked"
    return StoreUnavailableError(
        backend.location,
        f"no turn in {backend.config.timeout_seconds:g} seconds: the database does not"
        f" answer the calls before it{why}",
        "Find out what blocks the database or the event loop, or raise timeout",
    )


class Lifecycle:
    """Opens a backend, serialises the calls to it, and closes it.

    The event loop and the process that opened the store are recorded, because aiosqlite
    would wait for ever in any other.

    Attributes:
        backend: The backend.
        lock: The store's ``asyncio.Lock``; its holder may call the backend.
        failures: What fails in the open store.
    """

    def __init__(self, backend: Backend, close_timeout: float) -> None:
        self.backend = backend
        self.lock: asyncio.Lock = asyncio.Lock()
        self.failures: Failures = Failures()
        self._close_timeout = close_timeout
        self._state = _State.NEW
        self._owner = Owner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[Any]] = set()  # asyncio keeps weak references
        self._closing: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"{self.backend.location!r} {self._state.name.lower()}"

    @property
    def is_open_here(self) -> bool:
        """Is it open, and this the process that has opened it?"""
        return self._state is _State.OPEN and self._owner.is_current

    @property
    def is_leaking(self) -> bool:
        """Would dropping this store now leave a thread behind in this process?"""
        return self.is_open_here

    async def open(self) -> None:
        """Open the backend; after a failure or cancellation it may be tried again."""
        if self._state is not _State.NEW:
            location, state = self.backend.location, self._state.value
            advice = ""
            if self._state is _State.OPEN:
                advice = (
                    " already. `async with` opens a store by itself; one that open()"
                    " has opened is closed by aclose(), or contextlib.aclosing(store)"
                )
            raise StoreClosedError(f"cannot open {location!r}: it is {state}{advice}")
        loop = self._running_loop()
        self._state = _State.OPENING
        try:
            with url_errors(self.backend.config):
                await self.backend.open()
        except BaseException:
            if self._state is _State.OPENING:
                self._state = _State.NEW
            raise
        if self._state is not _State.OPENING:
            await self.backend.aclose()
            raise StoreClosedError(f"store {self} was closed while it was opening")
        self._state = _State.OPEN
        self._loop = loop
        self._owner = Owner()

    def check_open(self, *, or_closing: bool = False) -> None:
        """Raise ``StoreClosedError`` unless calls are allowed here and now."""
        if self._state is not _State.OPEN and not (
            or_closing and self._state is _State.CLOSING
        ):
            raise StoreClosedError(
                f"store {self.backend.location!r} is {self._state.value}"
            )
        if not self._owner.is_current:
            self._owner.check(f"store {self.backend.location!r}")
        if self._running_loop() is not self._loop:
            raise StoreClosedError(
                f"store {self.backend.location!r} was opened in another event loop:"
                " open one in each, or use SeenStore, which any thread may call; in"
                " pytest-asyncio, give the fixture and its tests the same loop, by"
                ' loop_scope="session"'
            )

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError as exc:
            raise StoreClosedError(
                f"store {self.backend.location!r} needs a running event loop of"
                ' asyncio: with trio, use anyio.run(main, backend="asyncio"); without'
                " any event loop, use SeenStore"
            ) from exc

    async def call(self, work: Callable[[float], Awaitable[T]]) -> T:
        """Call the backend under the lock.

        Args:
            work: The call; its argument is the rest of the store's ``timeout``.

        Raises:
            StoreUnavailableError: Other calls held the lock for the whole timeout.
        """
        self.check_open()
        timeout = self.backend.config.timeout_seconds
        time = asyncio.get_running_loop().time
        deadline = time() + timeout
        try:
            async with asyncio.timeout(timeout):
                await self.lock.acquire()
        except TimeoutError:
            raise no_turn(self.backend) from None
        try:
            return await work(max(0.0, deadline - time()))
        finally:
            self.lock.release()

    async def run_beside(self, work: Callable[[], Coroutine[None, None, T]]) -> T:
        """Run something long beside other calls."""
        self.check_open()
        return await self.track(work())

    async def read(self, verb: str, work: Callable[[], Coroutine[None, None, T]]) -> T:
        """Run a long read beside other calls, and record whether it failed."""
        try:
            result = await self.run_beside(work)
        except Exception as exc:
            self.failures.record_failure("read", verb, exc)
            raise
        self.failures.record_success("read")
        return result

    def track(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Start a task that a close waits for."""
        task = asyncio.create_task(work, name="catalyst-seen calls")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    def run_in_background(
        self, work: Coroutine[None, None, None], name: str, *, is_lasting: bool = False
    ) -> asyncio.Task[None]:
        """Start a task that a close cancels and awaits.

        An alarm says that it died: by an exception, or, if it has to last as long as
        the store, in any other way.
        """
        task = asyncio.create_task(work, name=f"catalyst-seen {name}")
        self._background.add(task)

        def report_end(task: asyncio.Task[None]) -> None:
            self._background.discard(task)
            error = None if task.cancelled() else task.exception()
            if error or (is_lasting and self._state is _State.OPEN):
                self._report_death(name, error)

        task.add_done_callback(report_end)
        return task

    async def aclose(self) -> None:
        """Complete the calls under way, then close, within ``close_timeout``."""
        if not self._owner.is_current:
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
        if not self._owner.is_current:
            return
        self.backend.abandon()
        if self._loop is not None and not self._loop.is_closed():
            for task in list(self._background):
                self._loop.call_soon_threadsafe(task.cancel)

    def _report_death(self, name: str, error: BaseException | None) -> None:
        cause = repr(error) if error else "another program part has cancelled it"
        alarm = f"the background task {name!r} has ended: {cause}; open a new store"
        self.failures.begin_alarm(f"end of {name}", alarm)
        if error:
            log(
                "error",
                "background_task_died",
                location=self.backend.location,
                task=name,
                error=cause,
            )

    async def _close(self) -> None:
        try:
            background = set(self._background)
            for task in background:
                task.cancel()
            completing = asyncio.create_task(self._complete())
            await asyncio.wait({completing, *background}, timeout=self._close_timeout)
            if completing.done():
                completing.result()
            else:
                completing.cancel()
                log("warning", "close_abandoned", location=self.backend.location)
        finally:
            self._state = _State.CLOSED
            self.backend.abandon()  # the rest, if the loop ended or the disk hangs

    async def _complete(self) -> None:
        """Close the backend after every call, detached calls made meanwhile included.

        The loop ends in the state in which no call is under way, without an ``await``
        in between: a lone caller holds the lock without a tracked task, and the end of
        a claim's block may queue behind that lock.
        """
        while self._calls or self.lock.locked():
            if self._calls:
                await asyncio.wait(self._calls)
            else:
                async with self.lock:
                    pass
        self._state = _State.CLOSED
        async with self.lock:
            await self.backend.aclose()
