"""Lease: a claim as its owner knows it, from the taking to the end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ._backend import Confirm, Release, Renew
from ._errors import LeaseLostError, StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._backend import TakeClaim
    from ._model import ClaimState
    from ._sender import Sender

RELEASE_TIMEOUT = 5.0
"""Seconds that leaving a block waits for its release, which then goes on without it."""


class Lease:
    """Confirms, releases and renews, and knows what was asked for and became of it.

    Attributes:
        sender: Where the claim was taken.
        taken: How it was taken.
        state: What the store answered.
        until: When the lease ends; if that is not known, the earliest it may be.
        length: Seconds that it has, or is to have, when it begins anew.
        asked: How it is to end, if that was asked for.
        changed: Set when it was renewed or ended, or not after all; for whoever keeps
            it alive.
        is_elsewhere: Was it confirmed in a transaction of the caller's, which decides?
    """

    def __init__(self, sender: Sender, taken: TakeClaim, state: ClaimState) -> None:
        self.sender = sender
        self.taken = taken
        self.state = state
        self.until = state.lease_until
        self.length = taken.lease
        self.asked: Confirm | Release | None = None
        self.changed: asyncio.Event | None = None
        self.is_elsewhere = False
        self._settling: asyncio.Future[list[bool]] | None = None

    @property
    def is_settled(self) -> bool:
        """Is it confirmed or released, or about to be?"""
        settling = self._settling
        if settling is None or not settling.done():
            return settling is not None
        return not settling.cancelled() and settling.exception() is None

    def remaining(self) -> float:
        """Tell how many seconds are left; 0 if it is over, settled or never owned."""
        if self.until is None or not self.state.verdict or self.is_settled:
            return 0.0
        return max(0.0, self.until - self.sender.session.backend.now())

    def confirm(self, ttl: float | None) -> Confirm:
        """Make the operation that ends it as handled."""
        taken = self.taken
        return Confirm(taken.namespace, taken.key, taken.token, ttl)

    def release(self, delay: float = 0.0) -> Release:
        """Make the operation that gives it back."""
        taken = self.taken
        return Release(taken.namespace, taken.key, taken.token, delay, taken.ttl)

    async def renew(self) -> None:
        """Begin it anew, for its length; nothing that ended it before counts then."""
        taken, settling = self.taken, self._settling
        # Whoever is cancelled here does not learn until when it is.
        until = self.sender.session.backend.now() + self.length
        self.until = min(self.until or until, until)
        renew = Renew(
            taken.namespace,
            taken.key,
            taken.token,
            self.length,
            taken.ttl,
            taken.on_abandoned,
        )
        try:
            renewed_until = await self.sender.send(renew)
        finally:
            self._tell()
        if renewed_until is None:
            raise self.lost()
        self.until = renewed_until
        if self._settling is settling:  # and nothing was asked for meanwhile
            self.asked = self._settling = None

    async def end(self, operation: Confirm | Release) -> bool:
        """Confirm or release it; true if it was still owned."""
        (is_done,) = await settle(self.sender, [self], [operation])
        if not is_done and isinstance(operation, Confirm):
            raise self.lost()
        return is_done

    async def confirm_within(self, transaction: object, ttl: float | None) -> None:
        """Confirm it in a transaction of the caller's: what becomes of that counts."""
        self.sender.session.check_open()
        backend, confirm = self.sender.session.backend, self.confirm(ttl)
        if not await backend.confirm_within(transaction, confirm):
            raise self.lost()
        self.is_elsewhere = True

    async def end_block(self, exc: BaseException | None) -> None:
        """Do what was asked for, or else what the end of the block asks for."""
        if self.is_elsewhere and exc is None:
            return
        patience = None if exc is None else RELEASE_TIMEOUT
        if self._settling:  # its caller may not have waited for it
            await asyncio.wait({self._settling}, timeout=patience)
        if not self.state.verdict or self.is_settled:
            return
        if exc is None:
            await self.end(self.asked or self.confirm(self.taken.ttl))
            return
        with suppress(StoreClosedError):  # then it ends by itself
            self._settling = self.sender.post([self.asked or self.release()])
            await asyncio.wait({self._settling}, timeout=patience)

    def settle_by(
        self, settling: asyncio.Future[list[bool]], operation: Confirm | Release
    ) -> None:
        """Take note that a task is about to confirm or release it."""
        self.asked, self._settling = operation, settling
        if self.changed:
            settling.add_done_callback(self._tell)

    def _tell(self, _: object = None) -> None:
        if self.changed:
            self.changed.set()

    def lost(self) -> LeaseLostError:
        """Make the error that says why it is not owned."""
        if self.state.verdict:
            problem = (
                "it is lost: another owner has claimed the key since the lease ended,"
                " or it was confirmed, marked, forgotten or resolved. Nothing was"
                " changed; if the lease was too short, take a longer one, or a block"
                " with keep_alive"
            )
        else:
            problem = (
                f"it was never owned, its verdict is {self.state.verdict}. Nothing was"
                " changed; handle an item only `if claim:`"
            )
        taken = self.taken
        return LeaseLostError(taken.key, taken.namespace, self.state.attempt, problem)


async def settle(
    sender: Sender, leases: Sequence[Lease], operations: Sequence[Confirm | Release]
) -> list[bool]:
    """Confirm or release; it is done even if the caller is cancelled meanwhile."""
    call = sender.see_through(operations)
    for lease, operation in zip(leases, operations, strict=True):
        lease.settle_by(call.answered, operation)
    try:
        return await call.wait()
    except asyncio.CancelledError:
        sender.leave(call.answered, operations)
        raise
