"""Executes one batch: the backend, then the cache, the counters and the waiters."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.base import Backend
    from ..backends.operations import Operation
    from .cache import SeenCache
    from .waiters import KeyWaiters

_verb = attrgetter("verb")


class Executor:
    """Executes batches on a backend, and applies their outcome to the store's state.

    Attributes:
        executed: Number of operations executed, by verb.
    """

    def __init__(self, backend: Backend, cache: SeenCache, waiters: KeyWaiters) -> None:
        self.executed: Counter[str] = Counter()
        self._backend = backend
        self._cache = cache
        self._waiters = waiters

    async def execute(
        self, operations: Sequence[Operation[Any]], timeout: float
    ) -> list[Any]:
        """Execute a batch, within its timeout; return one result per operation."""
        sent = self._cache.snapshot()
        try:
            result = await self._backend.apply(
                operations, sample_version=sent.is_due, timeout=timeout
            )
            try:
                await self._cache.update(operations, result, sent)
            finally:
                self.executed.update(map(_verb, operations))
                if self._waiters.waiting:
                    self._waiters.notify(operations)
        except BaseException:
            self._cache.invalidate(operations)
            raise
        return result.results
