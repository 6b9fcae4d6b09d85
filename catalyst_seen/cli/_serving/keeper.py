"""A store that is kept open, whatever becomes of its database."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from catalyst_seen import AsyncSeenStore, SeenError, StoreUnavailableError
from catalyst_seen.metrics import health

from ..._pause import pause
from .._stores import NoStoreError, is_missing

if TYPE_CHECKING:
    from catalyst_seen import SeenStoreConfig

    from .._settings import Settings

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 10.0
"""Seconds between two attempts to open the store."""

_FRESH = 1.0
"""Seconds for which an answer is given again: several probes cost one."""

_REOPEN_AFTER = 10.0
"""Seconds of failures after which the store is opened anew: its file may have been
replaced by another one."""

_SIZES = 5.0
"""Seconds that the first scrape waits for what is read from the database."""


class Keeper:
    """Opens a store again and again until it is there, and asks whether it works.

    Attributes:
        store: The open store; ``None`` while there is none.
        reason: Why the store does not work, as far as it is known; ``None`` if it does.
    """

    def __init__(
        self, settings: Settings, config: SeenStoreConfig, *, within: float
    ) -> None:
        """Open nothing yet.

        Args:
            settings: Where it is said what happens.
            config: The settings of the store.
            within: Seconds after which a store that does not answer does not work.
        """
        self.store: AsyncSeenStore | None = None
        self.reason: str | None = "the store is being opened"
        self._settings = settings
        self._config = config
        self._within = within
        self._tried = asyncio.Event()
        self._asked = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._answered = -_FRESH
        self._works_since = time.monotonic()

    async def keep(self) -> None:
        """Keep a store open until it is cancelled."""
        while True:
            store = await self._open()
            try:
                self._asked.clear()
                await self._asked.wait()
            finally:
                self.store = None
                with suppress(SeenError):
                    await store.aclose()

    async def tried(self) -> None:
        """Return when the store is open, or when that has failed or takes long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._within):
                await self._tried.wait()

    async def why_not(self) -> str | None:
        """Return why the store does not work; ``None`` if it does."""
        if self.store is not None and time.monotonic() - self._answered >= _FRESH:
            if self._probing is None:
                self._probing = asyncio.create_task(self._probe(self.store))
            await asyncio.shield(self._probing)
        return self.reason

    async def measured(self) -> AsyncSeenStore | None:
        """Return the store, with a sample of its sizes if that does not take long."""
        deadline = time.monotonic() + _SIZES
        while (
            (store := self.store) is not None
            and store.metrics().sizes is None
            and time.monotonic() < deadline
        ):
            await pause(0.01)
        return self.store

    async def _open(self) -> AsyncSeenStore:
        backoff = _FIRST_BACKOFF
        while True:
            store = AsyncSeenStore(self._config)
            try:
                await store.open()
            except SeenError as exc:
                self._report(str(_translated(exc)))
            else:
                self.store = store
                self._works_since = time.monotonic()
                store.metrics()  # asks for the sizes
                self._report(None)
                return store
            await pause(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)

    async def _probe(self, store: AsyncSeenStore) -> None:
        try:
            report = await health(store, within=self._within)
            if store is not self.store:
                return
            now = self._answered = time.monotonic()
            self._report(report.reason)
            if report:
                self._works_since = now
            elif now - self._works_since > _REOPEN_AFTER:
                self._works_since = now
                self._asked.set()
        finally:
            self._probing = None

    def _report(self, reason: str | None) -> None:
        """Say what has changed."""
        self._tried.set()
        if (reason is None) != (self.reason is None):
            self._settings.say(f"not ready: {reason}" if reason else "ready")
        self.reason = reason


def _translated(exc: SeenError) -> Exception:
    """Return an error in the words of the tool."""
    if isinstance(exc, StoreUnavailableError) and is_missing(exc):
        return NoStoreError(exc, is_argument=False)
    return exc
