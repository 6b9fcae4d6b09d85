"""Passes lines on under claims, which are confirmed when the lines have arrived."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from catalyst_seen import AsyncSeenStore, LeaseLostError, SeenError, StoreError

from ..._pause import pause
from .._codes import Code, Failure
from .._outlet import FIRST_BACKOFF, LONGEST_BACKOFF
from .._output import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from types import EllipsisType

    from catalyst_seen import Claim

    from .._outlet import Outlet

LEASE = 10.0
"""Seconds after which the lines of a process that was killed are free; while a line
waits for its reader, its lease is renewed."""

_RENEWAL = LEASE / 3


class Passing:
    """Writes lines to an outlet; one batch at a time.

    Attributes:
        outlet: Where they go.
    """

    def __init__(self, store: AsyncSeenStore, outlet: Outlet) -> None:
        self.outlet = outlet
        self._store = store
        self._waiting: list[Claim] = []
        self._ends: list[int] = []
        self._sent = 0
        self._time = asyncio.get_running_loop().time

    @asynccontextmanager
    async def claimed(
        self, keys: Iterable[str], ttl: float | EllipsisType | None
    ) -> AsyncIterator[list[Claim]]:
        """Claim keys; at the end give back what is not confirmed.

        Raises:
            Failure: The store failed; it says how many lines had passed.
        """
        claims = await self._store.claim_many(keys, lease=LEASE, ttl=ttl)
        try:
            yield claims
        except StoreError as exc:
            raise self._failure(exc) from exc
        except BaseException:
            await self._give_back([claim for claim in claims if claim])
            raise

    async def pass_on(self, owned: Sequence[tuple[Claim, bytes]]) -> int:
        """Write the lines of claims, wait until they arrive, confirm; return how many.

        Raises:
            OSError: The output failed. What had arrived before is confirmed.
            StoreError: The store failed.
        """
        owned = await self._still_owned(owned)
        if not owned:
            return 0
        self._waiting = [claim for claim, _ in owned]
        self._ends = []
        for _, line in owned:
            self._sent += len(line) + 1
            self._ends.append(self._sent)
        writing = self.outlet.start([line for _, line in owned])
        try:
            await self._confirm_what_arrives(writing)
        finally:
            if writing.done() and not writing.cancelled():
                writing.exception()  # it is raised already, or the reader has ended
        return len(owned)

    async def write(self, written: Sequence[bytes]) -> None:
        """Write lines that nothing marks."""
        await self.outlet.start(written)

    async def _confirm_what_arrives(self, writing: asyncio.Future[None]) -> None:
        backoff, renewal = FIRST_BACKOFF, self._time() + _RENEWAL
        while True:
            has_no_reader = self.outlet.has_no_reader()
            if has_no_reader:  # then the write ends now, and all is counted
                await asyncio.wait({writing})
            is_over = writing.done()
            if await self._confirm_arrived():
                backoff = FIRST_BACKOFF
            if not self._waiting:
                return await writing
            if is_over:
                await writing  # raises what it ended with
            if has_no_reader:
                raise BrokenPipeError
            if self._time() > renewal:
                await self._renew(self._waiting)
                renewal = self._time() + _RENEWAL
            await (
                pause(backoff) if is_over else asyncio.wait({writing}, timeout=backoff)
            )
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    async def _confirm_arrived(self) -> bool:
        """Confirm the lines that have arrived; were there any?"""
        arrived = self.outlet.arrived()
        number = sum(end <= arrived for end in self._ends)
        if not number:
            return False
        await self._store.confirm_many(self._waiting[:number])
        del self._waiting[:number], self._ends[:number]
        return True

    async def _still_owned(
        self, owned: Sequence[tuple[Claim, bytes]]
    ) -> Sequence[tuple[Claim, bytes]]:
        """Return those that no other process has taken while this one was stopped."""
        if not owned or min(claim.remaining() for claim, _ in owned) > LEASE / 2:
            return owned
        lost = await self._renew([claim for claim, _ in owned])
        return [(claim, line) for claim, line in owned if claim.key not in lost]

    async def _renew(self, claims: Sequence[Claim]) -> set[str]:
        """Renew leases; return the keys of those that are lost.

        If the store does not answer, its next call says so.
        """
        renewals = (claim.renew() for claim in claims)
        results = await asyncio.gather(*renewals, return_exceptions=True)
        lost: set[str] = set()
        for claim, result in zip(claims, results, strict=True):
            if isinstance(result, LeaseLostError):
                lost.add(claim.key)
            elif result is not None and not isinstance(result, StoreError):
                raise result
        return lost

    async def _give_back(self, claims: Sequence[Claim]) -> None:
        """Confirm what arrived, and release the rest, before an error goes on."""
        await self.outlet.settle()
        with suppress(SeenError):
            await self._confirm_arrived()
            rest = [claim for claim in claims if claim.remaining()]
            await self._store.release_many(rest)

    def _failure(self, exc: StoreError) -> Failure:
        passed = counted(len(self._waiting), "line")
        what = f" {passed} passed and may not be marked: they may pass again."
        return Failure(f"{exc}{what if self._waiting else ''}", Code.UNAVAILABLE)
