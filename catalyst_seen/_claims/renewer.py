"""Renews a lease while a block runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from .._errors import LeaseLostError, StoreClosedError
from .._logging import log
from .._pause import pause

if TYPE_CHECKING:
    from .lease import Lease

_RENEWALS = 3
"""Renewals per lease."""

_RETRIES = 30
"""Retries per lease, after a renewal failed."""

_MIN_PAUSE = 0.05
"""Seconds between two reads of a clock that may stand still."""


class LeaseRenewer:
    """Renews a lease while its block runs, and cancels the block if it is lost."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._changed = lease.changed = asyncio.Event()
        self._is_failing = False
        self._renewing: asyncio.Task[None] | None = None
        self._lost: LeaseLostError | None = None

    def start(self) -> None:
        """Start to renew, for the block that the current task enters."""
        self._lost = None
        self._block = asyncio.current_task()
        self._cancellations = self._block.cancelling() if self._block else 0
        lifecycle = self._lease.dispatcher.lifecycle
        self._renewing = lifecycle.run_in_background(self._run(), "keep alive")

    def stop(self, exc: BaseException | None) -> LeaseLostError | None:
        """Stop; return the loss if it ended the block, according to ``exc``."""
        if self._renewing:
            self._renewing.cancel()
        if self._lost is None or self._block is None:
            return None
        is_ours = self._block.uncancel() <= self._cancellations
        is_cancelled = isinstance(exc, asyncio.CancelledError)
        return self._lost if is_ours and is_cancelled else None

    async def _run(self) -> None:
        while self._lost is None:
            try:
                await self._until_due()
                await self._lease.renew()
                self._is_failing = False
            except StoreClosedError:
                return
            except LeaseLostError as exc:
                self._lost = exc
                if self._block:
                    self._block.cancel()
            except Exception as exc:  # noqa: BLE001 - until another caller claims it
                self._report(exc)
                await pause(self._pause())

    async def _until_due(self) -> None:
        """Wait until a part of the lease has passed, and it is not finished."""
        lease = self._lease
        while True:
            self._changed.clear()
            pause = lease.remaining() - lease.length * (1 - 1 / _RENEWALS)
            if pause <= 0 and not lease.is_finished:
                return
            pause = max(pause, min(_MIN_PAUSE, lease.length / _RETRIES))
            with suppress(TimeoutError):
                async with asyncio.timeout(None if lease.is_finished else pause):
                    await self._changed.wait()

    def _pause(self) -> float:
        """Return the pause after a failure: a part of the rest of the lease.

        The lease may be shorter than the length that was requested.
        """
        length = left = self._lease.length
        with suppress(Exception):  # the clock itself may fail
            left = min(self._lease.remaining() or length, length)
        return max(left / _RETRIES, min(_MIN_PAUSE, length / _RETRIES))

    def _report(self, failure: Exception) -> None:
        if not self._is_failing:
            location = self._lease.dispatcher.lifecycle.backend.location
            log("warning", "renew_failed", location=location, error=str(failure))
        self._is_failing = True
