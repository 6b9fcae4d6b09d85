"""Calls that complete although their caller is cancelled: the only place, the contract.

A claim must be confirmed or released even if the task that handles its item is
cancelled at that moment; otherwise the key stays in flight until its lease ends, or a
handled item is handled again. Every other call is attached to its caller: a call that
is cancelled while it is queued is withdrawn.

The contract of a detached call:

1. **Submitted means sent.** ``submit`` queues the operations at once, before its first
   ``await``. Cancelling a caller that waits for the result withdraws nothing.
2. **A closing store still accepts it**, and a close waits for it, as for every call, at
   most for ``Tuning.close_timeout``. A closed store refuses it with
   ``StoreClosedError``; the lease then ends by itself.
3. **Order is kept.** The calls of one store are sent in the order of their submission,
   so that a release cannot overtake the claim that it gives back.
4. **A failure is never silent.** It is raised for the caller that waits. If the caller
   is cancelled, it is logged as ``confirm_failed``, ``release_failed`` and so on.
5. **A caller that cannot retry gets one retry.** The end of a block that is left by an
   exception, and a claim that is cancelled before its caller got it, submit with
   ``submit_with_retry``: after a ``StoreError`` the call is sent once more.

Below the engine the same holds for the request itself: a cancelled caller neither stops
SQLite's worker thread nor a request to a server (``backends._retry``).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._errors import StoreError
from .._logging import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.operations import Operation, Result_co
    from .batcher import Batcher
    from .calls import PendingCall
    from .lifecycle import Lifecycle


class DetachedCalls:
    """Submits operations that complete although their caller is cancelled."""

    def __init__(self, lifecycle: Lifecycle, batcher: Batcher) -> None:
        self._lifecycle = lifecycle
        self._batcher = batcher

    def submit(
        self, operations: Sequence[Operation[Result_co]]
    ) -> PendingCall[Result_co]:
        """Submit operations; ``wait`` returns their results.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._lifecycle.check_open(or_closing=True)
        return self._batcher.submit(operations)

    async def wait(self, call: PendingCall[Result_co]) -> list[Result_co]:
        """Wait for a submitted call, without withdrawing it when cancelled."""
        try:
            return await call.wait()
        except asyncio.CancelledError:
            self._log_failure(call.results, call.operations)
            raise

    def submit_with_retry(
        self, operations: Sequence[Operation[Result_co]]
    ) -> asyncio.Task[list[Result_co]]:
        """Submit operations for a caller that cannot retry; a failure is logged.

        Raises:
            StoreClosedError: The store is closed.
        """
        first = self.submit(operations)

        async def retry_once() -> list[Result_co]:
            try:
                return await first.results
            except StoreError:
                return await self.submit(operations).results

        task = self._lifecycle.track(retry_once())
        self._log_failure(task, operations)
        return task

    def _log_failure(
        self,
        results: asyncio.Future[list[Result_co]],
        operations: Sequence[Operation[Result_co]],
    ) -> None:
        def log_failure(results: asyncio.Future[list[Result_co]]) -> None:
            error = None if results.cancelled() else results.exception()
            if error is not None:
                verbs, keys = zip(*(one.count() for one in operations), strict=True)
                log(
                    "warning",
                    f"{verbs[0]}_failed",
                    location=self._lifecycle.backend.location,
                    keys=sum(keys),
                    error=str(error),
                )

        results.add_done_callback(log_failure)
