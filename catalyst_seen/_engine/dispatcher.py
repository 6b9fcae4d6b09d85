"""Dispatches the operations of a verb: to the cache, or to the next batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._errors import StoreClosedError
from .._pause import pause
from .._validation import seconds
from .batcher import Batcher
from .cache import SeenCache
from .counters import Counters, Namespaces, Tally
from .detached import DetachedCalls
from .executor import Executor
from .turns import Turns
from .waiters import KeyWaiters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._config import SeenStoreConfig
    from .._tuning import Tuning
    from ..backends.operations import (
        CacheableOperation,
        ForEach,
        Id,
        Operation,
        Result_co,
    )
    from .lifecycle import Lifecycle


T = TypeVar("T")

_ANSWERED, _LISTED = 2, 10
"""A cached listing takes as long as every second of its keys by itself, and as every
tenth if it is answered as a whole."""


class Dispatcher:
    """The entrance of the engine: every operation of every verb passes here.

    Attributes:
        lifecycle: The open store.
        counters: What was executed.
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
        namespaces = Namespaces()
        self.counters: Counters = Counters(namespaces)
        self._turns = Turns(self.tuning.cache_page)
        self.cache: SeenCache = SeenCache(
            config.recent_keys if config.cache_enabled else 0,
            seconds(config.recent_staleness, "recent_staleness", least=0),
            backend.now,
            backend.database,
            self.tuning.cache_page,
            hits=Tally(namespaces),
        )
        self.executor: Executor = Executor(
            backend, self.cache, self.waiters, self.counters
        )
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
        elif not self._turns.spend(1):  # faster than ``take``, whose call costs 1 µs
            await self._turns.wait(1)
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
            some = operations[first : first + page]
            await self._turns.take(len(some))
            cached += map(self.cache.get, some)
        if None not in cached:
            return cast("list[Result_co]", cached)
        missed = [
            operation
            for operation, result in zip(operations, cached, strict=True)
            if result is None
        ]
        self.lifecycle.check_open()  # it may have waited for its turn
        results = iter(await self.batcher.send(missed))
        return [next(results) if result is None else result for result in cached]

    async def execute_each(self, each: ForEach[Result_co]) -> list[Result_co]:
        """Execute one operation on many keys, as one call; no keys cost nothing."""
        self.lifecycle.check_open()
        if not each.keys:
            return []
        (results,) = await self.batcher.send([each])
        return results

    async def query_each(self, each: ForEach[Result_co]) -> list[Result_co] | None:
        """Return the results of a listing that the cache knows; ``None`` is a miss.

        The keys need not be valid, nor the store open: a miss says nothing of it.
        """
        return await self._look_up(each, _ANSWERED, self.cache.get_each)

    async def are_seen(self, question: ForEach[bool]) -> bool:
        """Is this a listing of which the cache knows that all keys are seen?

        The keys need not be valid, nor the store open: false says nothing of it.
        """
        return bool(await self._look_up(question, _LISTED, self.cache.are_seen))

    async def _look_up(
        self,
        each: ForEach[Any],
        divisor: int,
        find: Callable[[ForEach[Any]], T | None],
    ) -> T | None:
        """Look a listing up in the cache, in turn; a closed store finds nothing."""
        try:
            self.lifecycle.check_open()
        except StoreClosedError:
            return None
        await self._turns.take(1 + len(each.keys) // divisor)  # the cost of a hit
        found = find(each)
        if not found:  # a miss costs more
            self._turns.spend(len(each.keys))
        return found

    async def give_turn(self) -> None:
        """Let other tasks run, in a call with very many keys."""
        await pause(0)
