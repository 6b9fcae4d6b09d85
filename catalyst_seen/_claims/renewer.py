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

_LATE_TIMEOUT = 1.0
"""Seconds for a renewal that begins when the lease is over, as after a suspension of
the machine. If it succeeds, nobody has claimed the key meanwhile."""


class LeaseRenewer:
    """Renews a lease while its block runs, and cancels the block if it is lost.

    A lease that is over by the store's clock counts as lost, unless a renewal that
    begins only then succeeds: another owner may have the key.
    """

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
        """Stop; return the loss, unless the block ended for another reason, ``exc``.

        A thread cannot be cancelled, and a task may swallow it: then the normal end of
        the block reports the loss.
        """
        if self._renewing:
            self._renewing.cancel()
        if self._lost is None or self._block is None:
            return None
        is_ours = self._block.uncancel() <= self._cancellations
        is_expected = exc is None or isinstance(exc, asyncio.CancelledError)
        return self._lost if is_ours and is_expected else None

    async def _run(self) -> None:
        try:
            while True:
                await self._until_due()
                await self._renew_in_time()
        except StoreClosedError:
            return
        except LeaseLostError as exc:
            self._lost = exc
            if self._block:
                self._block.cancel()

    async def _until_due(self) -> None:
        """Wait until a part of the lease has passed, and it is not finished."""
        lease = self._lease
        while True:
            self._changed.clear()
            pause = self._left() - lease.length * (1 - 1 / _RENEWALS)
            if pause <= 0 and lease.needs_renewal:
                return
            pause = max(pause, min(_MIN_PAUSE, lease.length / _RETRIES))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if lease.needs_renewal else None):
                    await self._changed.wait()

    async def _renew_in_time(self) -> None:
        """Renew the lease, with retries, before it is over.

        Raises:
            LeaseLostError: Another caller has the key, or may have it.
        """
        lease, time = self._lease, asyncio.get_running_loop().time
        deadline = time() + (self._left() or _LATE_TIMEOUT)
        while lease.needs_renewal and not await self._renew(deadline):
            left = self._left()
            if time() < deadline:
                await pause(min(self._pause(left), deadline - time()))
            elif left or not lease.needs_renewal:
                return  # it was renewed by hand, or the clock stands still
            else:
                raise lease.expired()

    async def _renew(self, deadline: float) -> bool:
        """Make one attempt until ``deadline``; true if it succeeded or is pointless."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._lease.renew()
        except StoreClosedError:
            raise
        except LeaseLostError:
            if self._lease.needs_renewal:
                raise
        except Exception as exc:  # noqa: BLE001 - retried until the lease is over
            self._report(exc)
            return False
        else:
            self._is_failing = False
        return True

    def _left(self) -> float:
        """Return the seconds left of the lease; its length if the clock fails."""
        try:
            return self._lease.remaining()
        except Exception as exc:  # noqa: BLE001 - the clock may be the caller's
            self._report(exc)
            return self._lease.length

    def _pause(self, left: float) -> float:
        """Return the pause after a failure: a part of the rest of the lease.

        The lease may be shorter than the length that was requested.
        """
        length = self._lease.length
        left = min(left or length, length)
        return max(left / _RETRIES, min(_MIN_PAUSE, length / _RETRIES))

    def _report(self, failure: Exception) -> None:
        if not self._is_failing:
            location = self._lease.dispatcher.lifecycle.backend.location
            error = str(failure) or "no answer before the end of the lease"
            log("warning", "renew_failed", location=location, error=error)
        self._is_failing = True
