"""Politeness to each host: how many requests, how fast, and none while it rests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_AT_ONCE = 4
"""Requests to one host at the same time: a slow source does not delay the others of
its host."""

_BURST = 10
"""Requests to one host that need no pause between them."""

_MINUTE = 60.0


class HeldError(Exception):
    """The host wants no request now.

    Attributes:
        until: When it wants the next one, in seconds since 1970.
    """

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until


class Hosts:
    """The turns of requests, by host.

    Requests wait for their own host first, and then for one of all slots: those of a
    busy host take no slot from the others while they wait.
    """

    def __init__(
        self, *, per_minute: float, at_once: int, now: Callable[[], float]
    ) -> None:
        """Allow so many requests to a host in a minute, and so many at once in all."""
        self._per_minute = per_minute
        self._now = now
        self._slots = asyncio.Semaphore(at_once)
        self._hosts: dict[str, tuple[asyncio.Semaphore, AsyncLimiter]] = {}
        self._held: dict[str, float] = {}

    def hold(self, host: str, until: float) -> None:
        """Send a host no request before that instant."""
        self._held[host] = max(until, self._held.get(host, 0.0))

    def release(self, host: str) -> None:
        """Forget that a host is held."""
        self._held.pop(host, None)

    def check(self, host: str) -> None:
        """Raise ``HeldError`` if the host wants no request now."""
        until = self._held.get(host)
        if until is None:
            return
        if until > self._now():
            raise HeldError(until)
        del self._held[host]

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait for a turn at a host, and keep it for the length of the block.

        Raises:
            HeldError: The host wants no request now, or when the turn comes.
        """
        self.check(host)
        at_once, limiter = self._of(host)
        async with at_once:
            await limiter.acquire()
            async with self._slots:
                self.check(host)
                yield

    def _of(self, host: str) -> tuple[asyncio.Semaphore, AsyncLimiter]:
        known = self._hosts.get(host)
        if known is None:
            burst = max(1.0, min(_BURST, self._per_minute))
            limiter = AsyncLimiter(burst, _MINUTE * burst / self._per_minute)
            known = self._hosts[host] = asyncio.Semaphore(_AT_ONCE), limiter
        return known
