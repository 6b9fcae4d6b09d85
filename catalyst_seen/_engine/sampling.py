"""What only the database knows, read in the background when somebody asks for it.

A count of keys reads the whole table, and a monitoring system asks every few seconds:
so it gets the last sample with its age, and a sample is taken at most once in an
interval. A store that nobody asks takes none.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .._errors import StoreClosedError
from .._logging import log
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
        released_age: Seconds since the oldest delay of a released key was over.
        pending_age: Seconds since the oldest pending key was observed.
        ended: When it was complete, by ``time.monotonic``.
        duration: Seconds that it took.
    """

    stats: BackendStats
    sources: Mapping[str, SourceRecord]
    claim_age: float | None
    released_age: float | None
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
        self._due = 0.0  # by ``time.monotonic``; infinite while one is taken
        self._is_failing = False

    def start(self) -> None:
        """Allow requests, in an open store."""
        if self._interval is not None:
            self._loop = asyncio.get_running_loop()

    def request(self) -> None:
        """Take a sample if one is due; from any thread, without waiting for it."""
        is_due = time.monotonic() >= self._due
        if self._loop is not None and is_due and self._lifecycle.is_open_here:
            self._due = math.inf
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        backend = self._lifecycle.backend
        if self._lifecycle.is_open_here and isinstance(backend, SupportsInspection):
            self._lifecycle.run_in_background(self._take(backend), "sampling")

    async def _take(self, backend: SupportsInspection) -> None:
        assert self._interval is not None  # noqa: S101 - it was started
        started = time.monotonic()
        try:
            self.last = await self._sample(backend, started)
        except StoreClosedError:
            return
        except Exception as exc:  # noqa: BLE001 - the next one may succeed
            self._report(exc)
        else:
            self._is_failing = False
        ended = time.monotonic()
        self._due = ended + max(self._interval, _TIME_SHARE * (ended - started))

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
            _age(stats.oldest_released, now),
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
