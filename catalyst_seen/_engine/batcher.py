"""Group commit: calls that arrive while a batch is in flight form the next batch.

How a batch is formed: ``Batcher._next_batch`` takes the queued calls in order, up to
``max_in_flight`` operations. No timer is involved: an idle store sends a lone call at
once, a busy one sends larger batches.

How long a call waits: every call has a deadline from the moment when it is queued,
``timeout`` later. A call whose deadline passes in the queue fails without an attempt; a
batch waits until the last deadline of its calls, which are close to each other.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Generic

from .._errors import (
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreUnavailableError,
)
from ..backends.base import SupportsReadAside
from ..backends.operations import Get, Result_co
from .lifecycle import no_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.operations import Operation
    from .executor import Executor
    from .lifecycle import Lifecycle


_SPREAD = 0.1
"""How far apart the deadlines of a batch are, as a part of the timeout."""


class PendingCall(Generic[Result_co]):
    """The operations of one caller, from the queue to their results.

    Attributes:
        operations: The operations.
        deadline: When it fails, by the time of the loop.
        results: The future of their results. Cancelling it while the call is queued
            withdraws the call.
    """

    __slots__ = ("_waiter", "deadline", "operations", "results")

    def __init__(
        self, operations: Sequence[Operation[Result_co]], timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self.operations: Sequence[Operation[Result_co]] = operations
        self.deadline: float = loop.time() + timeout
        self.results: asyncio.Future[list[Result_co]] = loop.create_future()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_read_only(self) -> bool:
        """Does the call only read?"""
        return _is_read_only(self.operations)

    async def wait(self) -> list[Result_co]:
        """Wait for the results. Cancelling the waiter does not withdraw the call.

        Unlike ``asyncio.shield``, this resumes the waiter one loop iteration earlier,
        so that the callers of one batch can join the next one.
        """
        if not self.results.done():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.results.result()

    def resolve(self, results: list[Result_co]) -> None:
        """Deliver the results, unless the call was withdrawn."""
        if not self.results.done():
            self.results.set_result(results)
            self._wake()

    def fail(self, exc: BaseException) -> None:
        """Deliver an error, unless the call was withdrawn."""
        if not self.results.done():
            if isinstance(exc, asyncio.CancelledError):
                self.results.cancel()
            else:
                self.results.set_exception(exc)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Batcher:
    """Queues calls and sends them in batches, first in, first out.

    The operations of one call are never divided. If a batch has been in flight for
    ``Tuning.stall_after``, as when another program holds the write lock, read-only
    calls are served beside it.

    Attributes:
        batches: Number of batches sent.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        executor: Executor,
        *,
        limit: int,
        timeout: float,
        stall_after: float,
    ) -> None:
        """Create an empty queue.

        Args:
            lifecycle: Its lock serialises the batches; its close waits for them.
            executor: Executes a batch.
            limit: Maximum number of operations in a batch, unless one call has more.
            timeout: Seconds that a call waits, in the queue and for the database.
            stall_after: Seconds after which a batch counts as blocked.
        """
        self.batches: int = 0
        self._lifecycle = lifecycle
        self._executor = executor
        self._limit = limit
        self._timeout = timeout
        self._stall_after = stall_after
        self._queue: deque[PendingCall[Any]] = deque()
        self._in_flight: list[PendingCall[Any]] = []
        self._watchdog: asyncio.TimerHandle | None = None
        self._is_sending = False
        self._has_one_caller = True

    async def send(self, operations: Sequence[Operation[Result_co]]) -> list[Result_co]:
        """Send the operations of one call, and wait for their results.

        If the previous batch had a single caller and the store is idle, the caller
        sends its batch itself: a task would cost it two loop iterations.
        """
        if (
            not self._has_one_caller
            or self._is_sending
            or self._lifecycle.lock.locked()
        ):
            return await self.submit(operations).results
        async with self._lifecycle.lock:
            self.batches += 1
            # Stays False if this caller is cancelled: the backend may still be busy,
            # so the next caller must queue.
            self._has_one_caller = False
            results = await self._executor.execute(operations, self._timeout)
            self._has_one_caller = True
        failure = _call_failure(operations, results)
        if failure:
            raise failure
        return results

    def submit(
        self, operations: Sequence[Operation[Result_co]]
    ) -> PendingCall[Result_co]:
        """Queue the operations of one call; they are sent without further action."""
        call = PendingCall(operations, self._timeout)
        self._queue.append(call)
        self._start()
        return call

    def _start(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            self._start_watchdog()
            self._lifecycle.track(self._send_all()).add_done_callback(self._restart)

    def _restart(self, _: asyncio.Task[None]) -> None:
        """Start again if calls are queued: the task may be cancelled before it ran."""
        self._is_sending = False
        self._in_flight = []
        if self._watchdog is not None:
            self._watchdog.cancel()
        if any(not call.results.done() for call in self._queue):
            self._start()

    async def _send_all(self) -> None:
        while self._queue:
            async with self._lifecycle.lock:
                self._in_flight = self._next_batch()
                await self._send_batch(self._in_flight)

    def _next_batch(self) -> list[PendingCall[Any]]:
        """Take the queued calls that fit into one batch, in order.

        While the database does not answer, calls of different age queue up. A batch
        takes those of similar age, since its calls wait until the last deadline.
        """
        self._fail_overdue()
        calls: list[PendingCall[Any]] = []
        room = self._limit
        latest = math.inf
        while self._queue:
            call = self._queue[0]
            room -= len(call.operations)
            if calls and (room < 0 or call.deadline > latest):
                break
            self._queue.popleft()
            if call.results.done():
                continue
            if not calls:
                latest = call.deadline + self._timeout * _SPREAD
            calls.append(call)
        self._has_one_caller = len(calls) == 1
        return calls

    def _fail_overdue(self) -> None:
        """Fail the queued calls whose time is over."""
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0].deadline <= now:
            self._queue.popleft().fail(no_turn(self._lifecycle.backend))

    async def _send_batch(self, calls: list[PendingCall[Any]]) -> None:
        if not calls:
            return
        self.batches += 1
        operations = [operation for call in calls for operation in call.operations]
        left = calls[-1].deadline - asyncio.get_running_loop().time()
        try:
            results = await self._executor.execute(operations, max(0.0, left))
        except asyncio.CancelledError as exc:
            _fail_calls(calls, exc)
            raise
        except SeenError as exc:
            await self._retry_reads(calls, exc)
        except Exception as exc:  # noqa: BLE001 - one of the operations is bad
            await self._isolate_failure(calls, exc)
        else:
            _resolve_calls(calls, results)

    async def _retry_reads(self, calls: list[PendingCall[Any]], exc: SeenError) -> None:
        """Fail a batch, but retry its read-only calls without the others."""
        readers = [call for call in calls if call.is_read_only]
        writers = [call for call in calls if not call.is_read_only]
        _fail_calls(writers or readers, exc)
        if writers:
            await self._send_batch(readers)

    async def _isolate_failure(
        self, calls: list[PendingCall[Any]], exc: Exception
    ) -> None:
        """Send the calls one by one, so that a bad operation fails alone."""
        if len(calls) == 1:
            calls[0].fail(exc)
            return
        for sent, call in enumerate(calls, start=1):
            try:
                await self._send_batch([call])
            except asyncio.CancelledError as cancelled:
                _fail_calls(calls[sent:], cancelled)
                raise

    def _start_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        loop = asyncio.get_running_loop()
        self._watchdog = loop.call_later(
            self._stall_after, self._on_timeout, self.batches
        )

    def _on_timeout(self, batches: int) -> None:
        """Serve the reads aside if no batch was sent since the watchdog started."""
        self._fail_overdue()
        if self.batches > batches:
            self._start_watchdog()
            return
        calls = [*self._in_flight, *self._queue]
        readers = [
            call for call in calls if call.is_read_only and not call.results.done()
        ]
        if readers:
            self._lifecycle.track(self._read_aside(readers))
        else:
            self._start_watchdog()

    async def _read_aside(self, calls: list[PendingCall[Any]]) -> None:
        backend = self._lifecycle.backend
        gets = [
            operation
            for call in calls
            for operation in call.operations
            if isinstance(operation, Get)
        ]
        if isinstance(backend, SupportsReadAside):
            with suppress(Exception):  # then the blocked batch reports the error
                results = await backend.read_aside(gets)
                if results is not None:
                    _resolve_calls(calls, results)
        if self._is_sending:
            self._start_watchdog()


def _call_failure(
    operations: Sequence[Operation[Any]], results: Sequence[object]
) -> SeenError | None:
    """Return the error of a call of which some operations failed alone.

    If the others may have changed their keys, that is an ``OutcomeUnknownError``.
    """
    failures = [result for result in results if isinstance(result, SeenError)]
    if not failures:
        return None
    for failure in failures:
        if isinstance(failure, OutcomeUnknownError):
            return failure
    first = failures[0]
    is_partial = len(failures) < len(results) and not _is_read_only(operations)
    if not is_partial or not isinstance(first, StoreUnavailableError | SchemaError):
        return first
    cause = f"{len(failures)} of {len(results)} keys failed: {first.cause}"
    return OutcomeUnknownError(first.location, cause, first.advice)


def _resolve_calls(calls: Sequence[PendingCall[Any]], results: Sequence[Any]) -> None:
    """Deliver to each call its part of the results of a batch."""
    end = 0
    for call in calls:
        start, end = end, end + len(call.operations)
        own = [*results[start:end]]
        failure = _call_failure(call.operations, own)
        if failure:
            call.fail(failure)
        else:
            call.resolve(own)


def _fail_calls(calls: Sequence[PendingCall[Any]], exc: BaseException) -> None:
    """Deliver an error to each call.

    Each call gets a copy: one exception raised in many tasks mixes up their tracebacks.
    """
    for call in calls:
        own = copy(exc).with_traceback(exc.__traceback__)
        own.__cause__ = exc.__cause__
        call.fail(own)


def _is_read_only(operations: Sequence[Operation[Any]]) -> bool:
    return all(isinstance(operation, Get) for operation in operations)
