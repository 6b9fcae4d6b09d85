"""Executes one batch: the backend, then the cache, the counters and the waiters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..backends._for_each import Expansion
from ..backends.base import SupportsForEach, SupportsReadAside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.base import Backend, BatchResult
    from ..backends.operations import Operation
    from .cache import SeenCache
    from .counters import Counters
    from .waiters import KeyWaiters


class Executor:
    """Executes batches on a backend, and applies their outcome to the store's state."""

    def __init__(
        self,
        backend: Backend,
        cache: SeenCache,
        waiters: KeyWaiters,
        counters: Counters,
    ) -> None:
        self._backend = backend
        self._cache = cache
        self._waiters = waiters
        self._counters = counters
        self._for_each: frozenset[type[Operation[Any]]] = frozenset()
        if isinstance(backend, SupportsForEach):
            self._for_each = backend.for_each

    async def execute(
        self, operations: Sequence[Operation[Any]], timeout: float, *, waited: float
    ) -> list[Any]:
        """Execute a batch, within its timeout; return one result per operation.

        Args:
            operations: The batch.
            timeout: Seconds left of the time of its calls.
            waited: Seconds for which its first call has waited.
        """
        sent = self._cache.snapshot()
        try:
            result = await self._apply(
                operations, sample_version=sent.is_due, timeout=timeout
            )
            try:
                await self._cache.update(operations, result, sent)
            finally:
                self._counters.count_results(operations, result.results)
                if self._waiters.waiting:
                    self._waiters.notify(operations)
        except BaseException:
            self._cache.invalidate(operations)
            raise
        finally:
            self._counters.count_batch(time.monotonic() - sent.time, waited)
        return result.results

    async def read_aside(self, reads: Sequence[Operation[Any]]) -> list[Any] | None:
        """Read keys beside a batch that is blocked; ``None`` if that cannot be."""
        if not isinstance(self._backend, SupportsReadAside):
            return None
        expanded = Expansion(reads, self._for_each)
        results = await self._backend.read_aside(expanded.operations)
        return None if results is None else expanded.regroup(results)

    async def _apply(
        self,
        operations: Sequence[Operation[Any]],
        *,
        sample_version: bool,
        timeout: float,
    ) -> BatchResult:
        expanded = Expansion(operations, self._for_each)
        result = await self._backend.apply(
            expanded.operations, sample_version=sample_version, timeout=timeout
        )
        return expanded.regroup_batch(result, self._backend.now())
