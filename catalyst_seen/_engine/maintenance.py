"""Work beside the calls: purges, cleanups, and the maintenance of the backend.

Long removals run in bounded pages, so that callers hardly notice them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .._errors import StoreClosedError, StoreError
from .._logging import log
from .._pause import pause
from ..backends.base import PageResult, SupportsMaintenance, SupportsPurge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._tuning import Tuning
    from ..backends.base import Cursor, SupportsNamespaces
    from .cache import SeenCache
    from .lifecycle import Lifecycle

T = TypeVar("T")

_LOCK_TIMEOUT = 0.25
"""Seconds that a background purge waits for the lock of another writer."""


class Maintenance:
    """Purges expired rows, on request or in the background, and maintains the backend.

    Attributes:
        runs: Number of complete purges.
        rows: Number of rows that purges removed.
        failures: Number of failed purges.
        last: When the last complete purge ended, by the backend's clock.
    """

    def __init__(self, lifecycle: Lifecycle, cache: SeenCache, tuning: Tuning) -> None:
        self._lifecycle = lifecycle
        self._cache = cache
        self._tuning = tuning
        self._failures = lifecycle.failures
        self._is_failing = False
        self.runs = 0
        self.rows = 0
        self.failures = 0
        self.last: float | None = None

    def start(self, purge_interval: float | None) -> None:
        """Start the background tasks of an open store.

        Args:
            purge_interval: Seconds between two background purges; ``None`` for none.
        """
        backend = self._lifecycle.backend
        if purge_interval is not None:
            self._lifecycle.run_in_background(
                self._purge_periodically(purge_interval), "purge", is_lasting=True
            )
        if isinstance(backend, SupportsMaintenance) and backend.maintenance_due:
            self._lifecycle.run_in_background(
                self._maintain_periodically(backend, backend.maintenance_due),
                "maintenance",
                is_lasting=True,
            )

    async def purge_expired(
        self, namespace: str | None, lock_timeout: float | None = None
    ) -> int:
        """Remove the expired rows of one namespace, or of all."""
        backend = self._lifecycle.backend

        async def purge_page(cursor: Cursor | None, left: float) -> PageResult:
            if not isinstance(backend, SupportsPurge):  # the database expires them
                return PageResult(0, None)
            page = await backend.purge(
                namespace=namespace,
                limit=self._tuning.removal_page,
                cursor=cursor,
                lock_timeout=left if lock_timeout is None else min(lock_timeout, left),
            )
            self.rows += page.removed
            return page

        try:
            removed = await self._remove_in_pages("purge_expired", purge_page)
        except Exception:
            self.failures += 1
            raise
        self.runs += 1
        self.last = backend.now()
        return removed

    async def cleanup(
        self, backend: SupportsNamespaces, age: float, namespace: str | None
    ) -> int:
        """Remove the rows last marked over ``age`` seconds ago."""

        async def cleanup_page(cursor: Cursor | None, left: float) -> PageResult:
            try:
                return await backend.cleanup(
                    age,
                    namespace=namespace,
                    limit=self._tuning.removal_page,
                    cursor=cursor,
                    lock_timeout=left,
                )
            finally:
                self._cache.invalidate_all()

        return await self._remove_in_pages("cleanup_old_entries", cleanup_page)

    async def clear(self, backend: SupportsNamespaces, namespace: str | None) -> int:
        """Remove all rows of one namespace, or of all."""

        async def clear_page(cursor: Cursor | None, left: float) -> PageResult:
            try:
                return await backend.clear(
                    namespace=namespace,
                    limit=self._tuning.removal_page,
                    cursor=cursor,
                    lock_timeout=left,
                )
            finally:
                self._cache.invalidate_all()

        return await self._remove_in_pages("clear", clear_page)

    async def rename(
        self, backend: SupportsNamespaces, namespace: str, name: str
    ) -> bool:
        """Rename a namespace, between two batches."""
        return await self.change("rename", lambda: backend.rename(namespace, name))

    async def change(
        self,
        verb: str,
        work: Callable[[], Awaitable[T]],
        ends_keys: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Call the backend between two batches, and record whether that failed.

        Args:
            verb: The verb that needs it.
            work: The call.
            ends_keys: Whether a key that was seen may not be seen any more, by the
                result; after a failure it may not.
        """
        has_ended = True
        try:
            result = await self._lifecycle.call(lambda _: work())
            has_ended = ends_keys(result)
        except Exception as exc:
            self._failures.record_failure("write", verb, exc)
            raise
        finally:
            if has_ended:
                self._cache.invalidate_all()
        self._failures.record_success("write")
        return result

    async def _remove_in_pages(
        self,
        verb: str,
        remove_page: Callable[[Cursor | None, float], Awaitable[PageResult]],
    ) -> int:
        """Remove page by page, and pause after each for as long as it took.

        SQLite's waiting writers poll for the lock, and would never find it free.
        """
        removed = 0
        cursor = None
        while True:
            started = time.monotonic()
            page = await self._remove_page(verb, partial(remove_page, cursor))
            removed += page.removed
            cursor = page.cursor
            if cursor is None:
                return removed
            await pause(time.monotonic() - started)

    async def _remove_page(
        self, verb: str, work: Callable[[float], Awaitable[PageResult]]
    ) -> PageResult:
        """Remove one page, and record whether that failed."""
        try:
            page = await self._lifecycle.call(work)
        except Exception as exc:
            self._failures.record_failure("write", verb, exc)
            raise
        if page.removed:
            self._failures.record_success("write")
        return page

    async def _purge_periodically(self, interval: float) -> None:
        """Purge now and after each interval. A failed purge is logged.

        A purge that finds the database locked leaves its rows to the next one.
        """
        while True:
            try:
                await self.purge_expired(None, lock_timeout=_LOCK_TIMEOUT)
            except StoreClosedError:
                return
            except Exception as exc:  # noqa: BLE001 - the next purge may succeed
                self._report_purge(exc, interval)
            else:
                self._is_failing = False
                self._failures.end_alarm("purge")
            await pause(interval)

    def _report_purge(self, exc: Exception, interval: float) -> None:
        if not self._is_failing:
            location = self._lifecycle.backend.location
            log(
                "warning",
                "purge_failed",
                location=location,
                error=str(exc),
                next_round_in=interval,
            )
        self._is_failing = True
        alarm = f"purges fail, so that the database grows; the last error: {exc}"
        self._failures.begin_alarm("purge", alarm)

    async def _maintain_periodically(
        self, backend: SupportsMaintenance, due: asyncio.Event
    ) -> None:
        """Maintain the backend at every interval, and whenever it is due.

        Errors of the database are not raised here: callers see them, the backend logs
        state changes, and the loop keeps running.
        """
        is_failing = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tuning.maintenance_interval):
                    await due.wait()
            due.clear()
            try:
                await self._lifecycle.call(lambda _: backend.maintain())
            except StoreClosedError:
                return
            except StoreError:
                continue
            except Exception as exc:  # noqa: BLE001 - the next run may succeed
                if not is_failing:
                    location = self._lifecycle.backend.location
                    log("error", "upkeep_failed", location=location, error=repr(exc))
                is_failing = True
            else:
                is_failing = False
