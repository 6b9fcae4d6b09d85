"""The store that is served: opened as soon as it is there, and anew if it was gone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from catalyst_seen import AsyncSeenStore, SeenError, StoreUnavailableError
from catalyst_seen.metrics import Health, health

from ..._pause import pause
from .._stores import NoStoreError, is_gone, is_missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from catalyst_seen import SeenStoreConfig

    from .._settings import Settings

FRESH = 1.0
"""Seconds for which the answer of a probe is used by others."""

_EVERY = 10.0  # seconds between two probes of a store that works, if nobody asks
_FIRST_PAUSE = 1.0  # seconds before a store that fails is tried again; doubles
_FIRST_SAMPLE = 5.0  # seconds that a scrape waits for the first sample of a store
_CLOSE = 0.3  # seconds that a close may take: a signal ends the command in a second


class ServedStore:
    """Keeps a store open, and says whether it works.

    A store that is not there, or whose server is down, is tried again. One whose file
    was moved, removed or replaced is closed, so that whatever file is there then can be
    opened; every other open store recovers by itself.
    """

    def __init__(
        self, settings: Settings, config: SeenStoreConfig, within: float
    ) -> None:
        """Choose the store, without opening it.

        Args:
            settings: Where it is said what happens.
            config: The settings of the store.
            within: Seconds that a probe may take.

        Raises:
            SeenError: The configuration is wrong, so that no waiting helps.
        """
        self._settings = settings
        self._config = config
        self._within = within
        self._store = self._new()
        self._is_open = False
        self._sample_due = 0.0
        self._last: Health | None = None
        self._fresh_until = 0.0
        self._probe: asyncio.Task[Health] | None = None

    async def opened(self) -> AsyncSeenStore | Health:
        """Return the store, or why it could never be opened.

        The first callers wait for the first sample, so that they get sizes.
        """
        if not self._is_open:
            answer = await self.health()
            if not self._is_open:
                return answer
        store, time = self._store, asyncio.get_running_loop().time
        while store.metrics().sizes is None and time() < self._sample_due:
            await pause(0.01)
        return self._store

    async def health(self) -> Health:
        """Return whether the store works; callers at one time share a probe."""
        now = asyncio.get_running_loop().time()
        if self._last is not None and now < self._fresh_until:
            return self._last
        if self._probe is None:
            self._probe = asyncio.create_task(self._ask(), name="catalyst-seen probe")
            self._probe.add_done_callback(self._end_probe)
        return await asyncio.shield(self._probe)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Close the store, and end a probe under way, at the end of the block."""
        try:
            yield
        finally:
            if self._probe is not None:
                self._probe.cancel()
                await asyncio.wait([self._probe], timeout=_CLOSE)
            await _close(self._store)

    async def keep(self) -> None:
        """Probe the store for ever, and open it when it is there."""
        backoff = _FIRST_PAUSE
        while True:
            if await self.health():
                backoff = _FIRST_PAUSE
                await pause(_EVERY)
            else:
                await pause(backoff)
                backoff = min(2 * backoff, _EVERY)

    def _new(self) -> AsyncSeenStore:
        return AsyncSeenStore(self._config)

    def _end_probe(self, _: object) -> None:
        self._probe = None

    async def _ask(self) -> Health:
        """Open the store if it is not, and probe it."""
        answer = await self._opened_and_probed()
        if self._is_open and is_gone(answer.reason):
            await _close(self._store)
            self._is_open, self._store = False, self._new()
            answer = await self._opened_and_probed()
        self._record(answer)
        return answer

    async def _opened_and_probed(self) -> Health:
        failed = None if self._is_open else await self._open()
        if failed is not None:
            return failed
        return await health(self._store, within=self._within)

    async def _open(self) -> Health | None:
        """Open the store; return why it cannot be opened."""
        store, time = self._store, asyncio.get_running_loop().time
        started = time()
        try:
            async with asyncio.timeout(self._within):
                await store.open()
        except TimeoutError:
            reason = (
                f"{store.location}: it cannot be opened within {self._within:g} seconds"
            )
        except StoreUnavailableError as exc:
            is_absent = is_missing(exc)
            told = NoStoreError(exc, is_argument=False) if is_absent else exc
            reason = str(told)
        except SeenError as exc:
            reason = str(exc)
        else:
            self._is_open = True
            self._sample_due = time() + _FIRST_SAMPLE
            store.metrics()  # asks for a sample
            return None
        return Health(store.location, time() - started, reason, store.metrics().alarms)

    def _record(self, answer: Health) -> None:
        """Keep an answer for others, and say a change; at first it should work."""
        before, self._last = self._last, answer
        self._fresh_until = asyncio.get_running_loop().time() + FRESH
        worked = before is None or bool(before)
        if worked == bool(answer):
            return
        if answer:
            self._settings.say("ready")
        else:
            self._settings.say(f"not ready: {answer.reason}")


async def _close(store: AsyncSeenStore) -> None:
    """Close a store, which need not be open; what it cannot do in time is dropped."""
    with suppress(SeenError, TimeoutError):
        async with asyncio.timeout(_CLOSE):
            await store.aclose()
