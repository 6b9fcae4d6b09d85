"""What the cache answers without an event loop, for callers in any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

from ..backends.operations import ForEach, IsSeen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.operations import CacheableOperation, Result_co
    from .cache import SeenCache
    from .dispatcher import Dispatcher


class NotCachedError(Exception):
    """The cache does not know the result: the event loop has to be asked."""


class CachedAnswers:
    """Stands in for a ``Dispatcher`` in a verb that runs outside the event loop.

    It never waits: a verb returns at its first step, or raises ``NotCachedError``
    before it has changed anything.

    Attributes:
        engine: The dispatcher.
        cache: Its cache, which every thread may read.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.engine: Dispatcher = dispatcher
        self.cache: SeenCache = dispatcher.cache

    def check_open(self) -> None:
        """Allow every call: the blocking store has checked that it is open."""

    async def query(self, operation: CacheableOperation[Result_co]) -> Result_co:
        """Return the result of an operation on a cached key."""
        result = self.cache.find(operation)
        if result is None:
            raise NotCachedError
        return result

    async def query_many(
        self, operations: Sequence[CacheableOperation[Result_co]]
    ) -> list[Result_co]:
        """Return the results of operations on cached keys."""
        return [await self.query(operation) for operation in operations]

    async def query_each(self, each: ForEach[Result_co]) -> list[Result_co]:
        """Return the results on the keys of a cached listing."""
        results = self.cache.get_each(each)
        if results is None:
            raise NotCachedError
        return results

    async def are_seen(self, namespace: str, keys: Sequence[str]) -> None:
        """Return ``None``, as a dispatcher does if all keys are seen."""
        if not self.cache.are_seen(ForEach.of(IsSeen(namespace, ""), keys)):
            raise NotCachedError

    async def give_turn(self) -> None:
        """Leave a call with very many keys to the event loop."""
        raise NotCachedError

    def __getattr__(self, name: str) -> Never:
        """Refuse everything else that a dispatcher has."""
        raise NotCachedError
