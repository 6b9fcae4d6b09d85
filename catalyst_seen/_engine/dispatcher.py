"""Dispatches the operations of a verb: to the cache, or to the next batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .._pause import pause
from .._validation import seconds
from ..backends.operations import ForEach, IsSeen
from .batcher import Batcher
from .cache import SeenCache
from .detached import DetachedCalls
from .executor import Executor
from .waiters import KeyWaiters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._config import SeenStoreConfig
    from .._tuning import Tuning
    from ..backends.operations import CacheableOperation, Id, Operation, Result_co
    from .lifecycle import Lifecycle


class Dispatcher:
    """The entrance of the engine: every operation of every verb passes here.

    Attributes:
        lifecycle: The open store.
        cache: The keys known to be seen.
        executor: Executes the batches.
        batcher: Forms the batches.
        detached: Calls that complete although their caller is cancelled.
        waiters: Callers that wait for a claimed key.
        blocks: The blocks of claims that are running, by their key: the task inside,
            and a function that returns the seconds left of the lease.
        tuning: Internal limits.
    """

    def __init__(self, lifecycle: Lifecycle, config: SeenStoreConfig) -> None:
        backend = lifecycle.backend
        self.lifecycle = lifecycle
        self.tuning: Tuning = config.tuning
        self.waiters: KeyWaiters = KeyWaiters()
        self.blocks: dict[Id, tuple[object, Callable[[], float]]] = {}
        self._yielded_at = 0  # of ``cache.hits``
        self.cache: SeenCache = SeenCache(
            config.recent_keys if config.cache_enabled else 0,
            seconds(config.recent_staleness, "recent_staleness", least=0),
            backend.now,
            backend.database,
            self.tuning.cache_page,
        )
        self.executor: Executor = Executor(backend, self.cache, self.waiters)
        self.batcher: Batcher = Batcher(
            lifecycle,
            self.executor,
            limit=config.max_in_flight,
            timeout=backend.config.timeout_seconds,
            tuning=self.tuning,
        )
        self.detached: DetachedCalls = DetachedCalls(lifecycle, self.batcher)

    @property
    def engine(self) -> Dispatcher:
        """The engine itself; see ``CachedAnswers``."""
        return self

    def check_open(self) -> None:
        """Raise ``StoreClosedError`` unless calls are allowed here and now."""
        self.lifecycle.check_open()

    async def execute(self, operation: Operation[Result_co]) -> Result_co:
        """Execute one operation in a batch."""
        self.lifecycle.check_open()
        (result,) = await self.batcher.send([operation])
        return result

    async def execute_many(
        self, operations: Sequence[Operation[Result_co]]
    ) -> list[Result_co]:
        """Execute the operations of one call in a batch; none cost nothing."""
        self.lifecycle.check_open()
        return await self.batcher.send(operations) if operations else []

    async def query(self, operation: CacheableOperation[Result_co]) -> Result_co:
        """Execute one operation, from the cache if its key is known to be seen."""
        self.lifecycle.check_open()
        result = self.cache.get(operation)
        if result is None:
            (result,) = await self.batcher.send([operation])
        else:
            await self._take_turns()
        return result

    async def query_many(
        self, operations: Sequence[CacheableOperation[Result_co]]
    ) -> list[Result_co]:
        """Execute the operations of one call, those on cached keys from the cache."""
        if len(operations) == 1:
            return [await self.query(operations[0])]
        self.lifecycle.check_open()
        page = self.tuning.cache_page
        cached: list[Result_co | None] = []
        for first in range(0, len(operations), page):
            if first:
                await pause(0)
            cached += map(self.cache.get, operations[first : first + page])
        await self._take_turns()
        if None not in cached:
            return cast("list[Result_co]", cached)
        missed = [
            operation
            for operation, result in zip(operations, cached, strict=True)
            if result is None
        ]
        results = iter(await self.batcher.send(missed))
        return [next(results) if result is None else result for result in cached]

    async def execute_each(self, each: ForEach[Result_co]) -> list[Result_co]:
        """Execute one operation on many keys, as one call; no keys cost nothing."""
        self.lifecycle.check_open()
        if not each.keys:
            return []
        (results,) = await self.batcher.send([each])
        return results

    async def are_seen(self, namespace: str, keys: Sequence[str]) -> list[bool] | None:
        """Return for each key whether it is seen; ``None`` if all are.

        A listing that the cache knows costs nothing else.
        """
        self.lifecycle.check_open()
        question = ForEach.of(IsSeen(namespace, ""), keys)
        if self.cache.are_seen(question):
            await self._take_turns()
            return None
        (answers,) = await self.batcher.send([question])
        return answers

    async def query_each(self, each: ForEach[Result_co]) -> list[Result_co]:
        """Execute one cacheable operation on many keys, as one call.

        A listing that the cache knows costs nothing else.
        """
        self.lifecycle.check_open()
        known = self.cache.get_each(each)
        if known is None:
            return await self.execute_each(each)
        await self._take_turns()
        return known

    async def _take_turns(self) -> None:
        """Let other tasks run after a page of hits, in however many calls.

        A loop of calls that the cache answers never waits for anything else.
        """
        if self.cache.hits - self._yielded_at >= self.tuning.cache_page:
            self._yielded_at = self.cache.hits
            await pause(0)

    async def give_turn(self) -> None:
        """Let other tasks run, in a call with very many keys."""
        await pause(0)
