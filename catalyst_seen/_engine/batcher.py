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
from typing import TYPE_CHECKING, Any

from .._errors import SeenError
from .._pause import pause
from ..backends.base import KeysLockedError
from .calls import PendingCall, call_failure, fail_calls
from .lifecycle import no_turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from .._tuning import Tuning
    from ..backends.operations import Operation, Result_co
    from .executor import Executor
    from .lifecycle import Lifecycle


_PAGE = 250
"""Keys whose callers resume in one iteration of the event loop."""

_SPREAD = 0.1
"""How far apart the deadlines of a batch are, as a part of the timeout."""


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
        tuning: Tuning,
    ) -> None:
        """Create an empty queue.

        Args:
            lifecycle: Its lock serialises the batches; its close waits for them.
            executor: Executes a batch.
            limit: Maximum number of operations in a batch, unless one call has more.
            timeout: Seconds that a call waits, in the queue and for the database.
            tuning: Internal limits.
        """
        self.batches: int = 0
        self._lifecycle = lifecycle
        self._failures = lifecycle.failures
        self._executor = executor
        self._limit = limit
        self._timeout = timeout
        self._stall_after = tuning.stall_after
        self._locked_pause = tuning.locked_pause
        self._queue: deque[PendingCall[Any]] = deque()
        self._in_flight: list[PendingCall[Any]] = []
        self._watchdog: asyncio.TimerHandle | None = None
        self._is_sending = False
        self._has_one_caller = True

    def send(
        self, operations: Sequence[Operation[Result_co]]
    ) -> Awaitable[list[Result_co]]:
        """Send the operations of one call; await the results.

        If the previous batch had a single caller and the store is idle, the caller
        sends its batch itself: a task would cost it two loop iterations.
        """
        if self._has_one_caller and not (
            self._is_sending or self._lifecycle.lock.locked()
        ):
            return self._send_own(operations)
        return self.submit(operations).results

    async def _send_own(
        self, operations: Sequence[Operation[Result_co]]
    ) -> list[Result_co]:
        time = asyncio.get_running_loop().time
        deadline = time() + self._timeout
        try:
            async with self._lifecycle.lock:
                self.batches += 1
                # Stays False if this caller is cancelled: the backend may still be
                # busy, so the next caller must queue.
                self._has_one_caller = False
                results = await self._executor.execute(
                    operations, self._timeout, waited=0.0
                )
                self._has_one_caller = True
        except KeysLockedError as exc:
            call = PendingCall(operations, deadline - time())
            self._set_aside([call], exc)
            return await call.results
        except Exception as exc:
            self._failures.record_failed_call(operations, exc)
            raise
        return self._checked(operations, results)

    def submit(
        self, operations: Sequence[Operation[Result_co]]
    ) -> PendingCall[Result_co]:
        """Queue the operations of one call; they are sent without further action."""
        call = PendingCall(operations, self._timeout)
        self._queue.append(call)
        if not self._is_sending:
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
            room -= call.size
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
            call = self._queue.popleft()
            self._fail([call], call.refusal or no_turn(self._lifecycle.backend))

    async def _send_batch(self, calls: list[PendingCall[Any]]) -> None:
        if not calls:
            return
        self.batches += 1
        operations = [operation for call in calls for operation in call.operations]
        now = asyncio.get_running_loop().time()
        left = max(0.0, calls[-1].deadline - now)
        waited = now + self._timeout - calls[0].deadline
        try:
            results = await self._executor.execute(operations, left, waited=waited)
        except asyncio.CancelledError as exc:
            self._fail(calls, exc)
            raise
        except KeysLockedError as exc:
            self._set_aside([call for call in calls if call.has_any(exc.ids)], exc)
            await self._send_batch([call for call in calls if call.refusal is not exc])
        except SeenError as exc:
            await self._retry_reads(calls, exc)
        except Exception as exc:  # noqa: BLE001 - one of the operations is bad
            await self._isolate_failure(calls, exc)
        else:
            self._resolve(calls, results)

    def _set_aside(
        self, calls: Sequence[PendingCall[Any]], refusal: KeysLockedError
    ) -> None:
        """Send calls on locked keys again after a pause, without delaying others."""
        for call in calls:
            call.refusal = refusal
        self._lifecycle.track(self._queue_later(calls))

    async def _queue_later(self, calls: Sequence[PendingCall[Any]]) -> None:
        try:
            await pause(self._locked_pause)
        except asyncio.CancelledError as exc:
            fail_calls(calls, exc)
            raise
        self._queue.extendleft(reversed(calls))
        self._start()

    async def _retry_reads(self, calls: list[PendingCall[Any]], exc: SeenError) -> None:
        """Fail a batch, but retry its read-only calls without the others."""
        readers = [call for call in calls if call.is_read_only]
        writers = [call for call in calls if not call.is_read_only]
        self._fail(writers or readers, exc)
        if writers:
            await self._send_batch(readers)

    async def _isolate_failure(
        self, calls: list[PendingCall[Any]], exc: Exception
    ) -> None:
        """Send the calls one by one, so that a bad operation fails alone."""
        if len(calls) == 1:
            self._fail(calls, exc)
            return
        for sent, call in enumerate(calls, start=1):
            try:
                await self._send_batch([call])
            except asyncio.CancelledError as cancelled:
                self._fail(calls[sent:], cancelled)
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
        reads = [operation for call in calls for operation in call.operations]
        with suppress(Exception):  # then the blocked batch reports the error
            results = await self._executor.read_aside(reads)
            if results is not None:
                self._resolve(calls, results)
        if self._is_sending:
            self._start_watchdog()

    def _resolve(self, calls: Sequence[PendingCall[Any]], results: list[Any]) -> None:
        """Deliver to each call its part of the results of a batch.

        The callers of many keys resume in several iterations of the event loop, so that
        other tasks run between.
        """
        end = keys = 0
        for index, call in enumerate(calls):
            if keys >= _PAGE:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._resolve, calls[index:], results[end:])
                return
            keys += call.size
            start, end = end, end + len(call.operations)
            try:
                call.resolve(self._checked(call.operations, results[start:end]))
            except SeenError as exc:
                call.fail(exc)

    def _fail(self, calls: Sequence[PendingCall[Any]], exc: BaseException) -> None:
        """Deliver an error to each call, and record it."""
        if isinstance(exc, Exception):
            for call in calls:
                self._failures.record_failed_call(call.operations, exc)
        fail_calls(calls, exc)

    def _checked(
        self, operations: Sequence[Operation[Any]], results: list[Any]
    ) -> list[Any]:
        """Return the results of a call, or raise its error, and record which."""
        failure = call_failure(operations, results)
        if failure is not None:
            self._failures.record_failed_call(operations, failure)
            raise failure
        self._failures.record_results(operations, results)
        return results
