"""Shares the iterations of the event loop between calls that the cache answers."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets callers through until they had so many keys; the others wait in order.

    A call that the cache answers never waits for anything else, so that hundreds of
    tasks that ask at once would all run in one iteration of the event loop, and nothing
    else meanwhile.
    """

    def __init__(self, page: int) -> None:
        """Begin with a whole page.

        Args:
            page: Keys for each iteration of the event loop.
        """
        self._page = page
        self._left = page
        self._is_scheduled = False
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, keys: int) -> None:
        """Count keys; if this iteration has no room, wait for one that has."""
        if not self.spend(keys):
            await self.wait(keys)

    def spend(self, keys: int) -> bool:
        """Count keys for this iteration; false if the caller has to ``wait``."""
        self._left -= keys
        if not self._is_scheduled:
            self._schedule()
        return self._left >= 0

    async def wait(self, keys: int) -> None:
        """Wait for an iteration that has room; it counts the keys again."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, turn))
        await turn

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._left, self._is_scheduled = self._page, False
        while self._waiting and self._left > 0:
            keys, turn = self._waiting.popleft()
            if not turn.done():  # it may be cancelled
                turn.set_result(None)
                self._left -= keys
        if self._waiting:
            self._schedule()
