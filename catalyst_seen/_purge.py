"""Removing many rows in steps so small that callers hardly notice."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from ._errors import StoreClosedError
from ._log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._backend import Chunk, Place
    from ._recent import Recent
    from ._session import Session

_CHUNK = 1_000  # rows a step looks at: about 10 ms in the worker
_PATIENCE = 0.25  # seconds that a background purge waits for another writer


class Purge:
    """Purges expired rows, by call or in the background, and counts what it did."""

    def __init__(self, session: Session, recent: Recent) -> None:
        self._session = session
        self._recent = recent
        self._is_failing = False
        self.runs = 0
        self.rows = 0
        self.failures = 0
        self.last: float | None = None

    def alarms(self) -> list[str]:
        """Say what somebody should look at."""
        if not self._is_failing:
            return []
        return ["purges fail, so that the database grows: the log says why"]

    async def every(self, interval: float) -> None:
        """Purge now and after each interval. A failed round is logged, not the end.

        It gives way: a round that finds the database locked leaves it to the next.
        """
        while True:
            try:
                await self.expired(None, patience=_PATIENCE)
            except StoreClosedError:
                return
            except Exception as exc:  # noqa: BLE001 - whatever it was, the next round comes
                if not self._is_failing:
                    log(
                        "warning",
                        "purge_failed",
                        location=self._session.backend.location,
                        error=str(exc),
                        next_round_in=interval,
                    )
                self._is_failing = True
            else:
                self._is_failing = False
            await asyncio.sleep(interval)

    async def expired(
        self, namespace: str | None, patience: float | None = None
    ) -> int:
        """Remove the expired rows of one namespace, or of all."""
        backend = self._session.backend

        async def step(resume: Place | None) -> Chunk:
            chunk = await backend.purge(
                namespace=namespace, limit=_CHUNK, resume=resume, patience=patience
            )
            self.rows += chunk.removed
            return chunk

        try:
            removed = await self._in_steps(step)
        except Exception:
            self.failures += 1
            raise
        self.runs += 1
        self.last = backend.now()
        return removed

    async def older_than(self, age: float, namespace: str | None) -> int:
        """Remove the rows last marked over ``age`` seconds ago."""
        backend = self._session.backend

        async def step(resume: Place | None) -> Chunk:
            try:
                return await backend.cleanup(
                    age, namespace=namespace, limit=_CHUNK, resume=resume
                )
            finally:
                self._recent.clear()

        return await self._in_steps(step)

    async def _in_steps(self, step: Callable[[Place | None], Awaitable[Chunk]]) -> int:
        """Take steps until one says that it was the last.

        After each it rests as long as it worked: SQLite's waiting writers poll for the
        lock, and would never find it free.
        """
        removed = 0
        resume = None
        while True:
            started = time.monotonic()
            chunk = await self._session.call(partial(step, resume))
            removed += chunk.removed
            resume = chunk.resume
            if resume is None:
                return removed
            await asyncio.sleep(time.monotonic() - started)
