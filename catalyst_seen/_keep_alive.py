"""KeepAlive: renews a lease while a block runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ._errors import LeaseLostError, StoreClosedError
from ._log import log

if TYPE_CHECKING:
    from ._lease import Lease

_RENEWALS, _RETRIES = 3, 30
"""How often in a lease it is renewed; and tried, after a failure."""

_SHORTEST = 0.05
"""Seconds between two looks at a clock that may stand still."""


class KeepAlive:
    """Renews a lease while its block runs, and cancels the block if it is lost."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._changed = lease.changed = asyncio.Event()
        self._is_failing = False
        self._renewing: asyncio.Task[None] | None = None
        self._lost: LeaseLostError | None = None

    def start(self) -> None:
        """Begin, for the block that the current task enters."""
        self._lost = None
        self._block = asyncio.current_task()
        self._cancellations = self._block.cancelling() if self._block else 0
        session = self._lease.sender.session
        self._renewing = session.run_in_background(self._run(), "keep alive")

    def stop(self, exc: BaseException | None) -> LeaseLostError | None:
        """End; return the loss if it is what ended the block, as ``exc`` tells."""
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
            except Exception as exc:  # noqa: BLE001 - while nobody takes it, it is ours
                self._report(exc)
                await asyncio.sleep(self._pause())

    async def _until_due(self) -> None:
        """Wait until a part of the lease has run, and there is still one."""
        lease = self._lease
        while True:
            self._changed.clear()
            pause = lease.remaining() - lease.length * (1 - 1 / _RENEWALS)
            if pause <= 0 and not lease.is_settled:
                return
            pause = max(pause, min(_SHORTEST, lease.length / _RETRIES))
            with suppress(TimeoutError):
                async with asyncio.timeout(None if lease.is_settled else pause):
                    await self._changed.wait()

    def _pause(self) -> float:
        """Tell how long to wait after a failure: a part of what is left, if anything.

        The lease may be shorter than the one that was asked for.
        """
        length = left = self._lease.length
        with suppress(Exception):  # it may be the clock that fails
            left = min(self._lease.remaining() or length, length)
        return max(left / _RETRIES, min(_SHORTEST, length / _RETRIES))

    def _report(self, failure: Exception) -> None:
        if not self._is_failing:
            location = self._lease.sender.session.backend.location
            log("warning", "renew_failed", location=location, error=str(failure))
        self._is_failing = True
