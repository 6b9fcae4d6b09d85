"""What only the database knows, read in the background when somebody asks for it.

A count of keys reads the whole table, and a monitoring system asks every few seconds:
so it gets the last sample with its age, and a sample is taken at most once in an
interval. A store that nobody asks takes none.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .._errors import StoreClosedError
from .._logging import log
from .._pause import pause
from ..backends.base import SupportsInspection, SupportsListings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..backends.base import BackendStats
    from ..backends.listings import SourceRecord
    from .lifecycle import Lifecycle

_TIME_SHARE = 20
"""Sampling may use at most this fraction of the time."""


class Sample(NamedTuple):
    """A sample.

    Attributes:
        stats: What the backend measured.
        sources: The states of all sources.
        claim_age: Seconds since the oldest claim under a live lease; ``None`` without.
        pending_age: Seconds since the oldest pending key was observed.
        ended: When it was complete, by ``time.monotonic``.
        duration: Seconds that it took.
    """

    stats: BackendStats
    sources: Mapping[str, SourceRecord]
    claim_age: float | None
    pending_age: float | None
    ended: float
    duration: float


class Sampling:
    """Takes samples of an open store.

    Attributes:
        last: The last sample; ``None`` before the first.
    """

    def __init__(self, lifecycle: Lifecycle, interval: float | None) -> None:
        """Take none yet.

        Args:
            lifecycle: The store.
            interval: Least seconds between two samples; ``None`` takes none.
        """
        self.last: Sample | None = None
        self._lifecycle = lifecycle
        self._interval = interval
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requested = asyncio.Event()
        self._is_waiting = False
        self._is_failing = False

    def start(self) -> None:
        """Start to wait for requests, in an open store."""
        backend = self._lifecycle.backend
        if self._interval is None or not isinstance(backend, SupportsInspection):
            return
        self._loop = asyncio.get_running_loop()
        self._is_waiting = True
        self._lifecycle.run_in_background(
            self._run(backend, self._interval), "sampling", is_lasting=True
        )

    def request(self) -> None:
        """Ask for a sample, from any thread; what is there is fresh enough, or not."""
        if self._is_waiting and self._loop and self._lifecycle.is_open_here:
            self._is_waiting = False
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._requested.set)

    async def _run(self, backend: SupportsInspection, interval: float) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            started = time.monotonic()
            try:
                self.last = await self._sample(backend, started)
            except StoreClosedError:
                return
            except Exception as exc:  # noqa: BLE001 - the next one may succeed
                self._report(exc)
            else:
                self._is_failing = False
            taken = time.monotonic() - started
            await pause(max(interval, _TIME_SHARE * taken))
            self._is_waiting = True

    async def _sample(self, backend: SupportsInspection, started: float) -> Sample:
        stats = await backend.stats(None)
        sources: Mapping[str, SourceRecord] = {}
        if isinstance(backend, SupportsListings):
            sources = await backend.sources()
        now, ended = self._lifecycle.backend.now(), time.monotonic()
        waiting = [
            one.oldest_pending
            for one in sources.values()
            if one.oldest_pending is not None
        ]
        return Sample(
            stats,
            sources,
            _age(stats.oldest_claim, now),
            _age(min(waiting, default=None), now),
            ended,
            ended - started,
        )

    def _report(self, exc: Exception) -> None:
        lifecycle = self._lifecycle
        lifecycle.failures.count_error("metrics", exc)
        if not self._is_failing:
            location = lifecycle.backend.location
            log("warning", "sample_failed", location=location, error=str(exc))
        self._is_failing = True


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else max(0.0, now - since)
