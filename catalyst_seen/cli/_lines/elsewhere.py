"""The lines that another process has: kept, and tried again until they are free."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from ..._pause import pause
from .._output import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.05, 1.0
"""Seconds between two attempts to claim a key that is in flight."""

_PARTS = 20
"""A key whose lease is long is tried at least so often before its end."""

_LONGEST_WAIT = 60.0
"""Seconds for which leases are waited for at the end of the input."""

_SLACK = 0.5
"""Seconds after the end of a lease: the time of a server is known to a round trip."""

_ROOM = 10_000
"""Lines that are kept before no more input is read."""


class _Kept(NamedTuple):
    line: bytes
    due: float
    until: float


class Elsewhere:
    """The lines whose keys are in flight: another process has claimed them.

    If it confirms them, they are seen; if it releases them, or is killed and its lease
    ends, they are ours.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._backoffs: dict[str, float] = {}
        self._time = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def is_full(self) -> bool:
        """Are there so many that no more input should be read?"""
        return len(self._kept) >= _ROOM

    def keep(self, key: str, line: bytes, retry_after: float | None) -> None:
        """Keep a line whose key is in flight for so many seconds, unless it is kept."""
        if key in self._kept:
            return
        now, left = self._time(), retry_after or 0.0
        backoff = self._backoffs.get(key, _FIRST_BACKOFF)
        self._backoffs[key] = min(2 * backoff, _LONGEST_BACKOFF)
        backoff = min(max(backoff, left / _PARTS), left)
        self._kept[key] = _Kept(line, now + backoff, now + left)

    def pause(self) -> float | None:
        """Return the seconds until the next one is to be tried; ``None`` is never."""
        if not self._kept:
            return None
        return max(0.0, min(kept.due for kept in self._kept.values()) - self._time())

    def due(self) -> list[tuple[str, bytes]]:
        """Return the keys and lines to try now; they are not kept any more."""
        now = self._time()
        keys = [key for key, kept in self._kept.items() if kept.due <= now]
        if not self._kept:
            self._backoffs.clear()
        return [(key, self._kept.pop(key).line) for key in keys]

    async def try_to_the_end(
        self,
        take: Callable[[list[tuple[str, bytes]]], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        """Try them until none is left, or the leases of now should be over.

        What is put off for more than a minute is not waited for. A lease that was
        renewed meanwhile has a live owner, which handles the line.
        """
        await take(self.due())
        if not self._kept:
            return
        latest = self._time() + _LONGEST_WAIT
        near = [kept.until for kept in self._kept.values() if kept.until <= latest]
        end = max(near, default=0.0) + _SLACK
        if near:
            wait = max(1.0, end - self._time())
            say(f"waits up to {wait:.0f}s for {counted(len(near), 'line')} in flight")
        while self._kept and self._time() < end:
            await pause(self.pause() or 0.0)
            await take(self.due())
