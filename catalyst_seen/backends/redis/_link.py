"""How long a client of the store's own lives: no longer than the store, or its loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from .cluster import Nodes


class Link:
    """Nodes that are connected, and a task that disconnects them in the end.

    It does so when it is told to, and when ``asyncio.run`` cancels what is left.
    """

    def __init__(self, nodes: Nodes, *, is_own: bool) -> None:
        """Begin to keep them, in the running loop.

        Args:
            nodes: What is connected, or will be.
            is_own: Is the client the store's own? Another one is left as it is.
        """
        self.nodes = nodes
        self._is_own = is_own
        self._is_over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._keeping = asyncio.create_task(
            self._keep(), name="catalyst-seen connections"
        )

    async def _keep(self) -> None:
        try:
            await self._is_over.wait()
        finally:
            if self._is_own:
                with suppress(RedisError, OSError):
                    await self.nodes.aclose()

    async def aclose(self) -> None:
        """Disconnect; twice is once."""
        self._is_over.set()
        await asyncio.wait({self._keeping})

    def abandon(self) -> None:
        """Disconnect without waiting, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and so have they
            self._loop.call_soon_threadsafe(self._is_over.set)
