"""A call waits for ``timeout``: in the queue, for the lock, and for the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreUnavailableError
from catalyst_seen.backends.base import BatchResult, Cursor, PageResult
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.operations import Operation

TIMEOUT = 100.0


class Stalling(MemoryBackend):
    """A backend whose batches wait for a gate.

    Attributes:
        gate: Open by default.
        batches: The keys of each batch, and the time that it had left.
    """

    def __init__(self) -> None:
        super().__init__(SeenStoreConfig(timeout=TIMEOUT, purge_interval=None))
        self.gate = asyncio.Event()
        self.batches: list[tuple[list[str], float]] = []

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        """Record the batch, and execute it when the gate is open."""
        assert timeout is not None
        keys = [operation.key for operation in operations]
        self.batches.append((keys, round(timeout, -1)))
        await self.gate.wait()
        return await super().apply(operations, sample_version=sample_version)

    async def purge(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        """Record the time that it had left."""
        assert lock_timeout is not None
        self.batches.append((["purge"], round(lock_timeout, -1)))
        return await super().purge(
            namespace=namespace, limit=limit, cursor=cursor, lock_timeout=lock_timeout
        )


class LoopClock:
    """The clock of the running loop, which a test advances."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        real, self.offset = loop.time, 0.0
        loop.time = lambda: real() + self.offset  # type: ignore[method-assign]

    async def advance(self, by: float) -> None:
        """Let time pass, and the timers that are due run."""
        self.offset += by
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def backend() -> Stalling:
    """A backend that stalls."""
    return Stalling()


@pytest.fixture
async def store(backend: Stalling) -> AsyncIterator[AsyncSeenStore]:
    """A store on it."""
    async with AsyncSeenStore(backend) as made:
        yield made
        backend.gate.set()


@pytest.fixture
async def clock() -> LoopClock:
    """The clock of the loop."""
    return LoopClock()


async def begin(store: AsyncSeenStore, *keys: str) -> list[asyncio.Task[None]]:
    """Start to mark keys."""
    tasks = [asyncio.create_task(store.mark_seen(key)) for key in keys]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_time_in_the_queue_counts(
    store: AsyncSeenStore, backend: Stalling, clock: LoopClock
) -> None:
    """A batch gets what the queue has left of the time of its calls."""
    first = await begin(store, "first")
    queued = await begin(store, "a", "b")
    await clock.advance(70)
    backend.gate.set()
    await asyncio.gather(*first, *queued)
    assert backend.batches == [(["first"], 100), (["a", "b"], 30)]


async def test_overdue_calls_are_not_sent(
    store: AsyncSeenStore, backend: Stalling, clock: LoopClock
) -> None:
    """Calls whose time is over fail, although the batch before them has no answer."""
    await begin(store, "first")
    overdue = await begin(store, "a", "b")
    await clock.advance(50)
    (later,) = await begin(store, "later")
    await clock.advance(60)
    for call in overdue:
        with pytest.raises(StoreUnavailableError, match="no turn in 100 seconds"):
            await call
    assert not later.done()
    backend.gate.set()
    await later
    assert backend.batches == [(["first"], 100), (["later"], 40)]


async def test_calls_of_different_age_share_no_batch(
    store: AsyncSeenStore, backend: Stalling, clock: LoopClock
) -> None:
    """A batch waits for its youngest call, so the others are hardly older."""
    await begin(store, "first")
    calls = []
    for key in ("a", "b", "c"):
        calls += await begin(store, key)
        await clock.advance(8)
    backend.gate.set()
    await asyncio.gather(*calls)
    assert [keys for keys, _ in backend.batches] == [["first"], ["a", "b"], ["c"]]


async def test_time_for_the_lock_counts(
    store: AsyncSeenStore, backend: Stalling, clock: LoopClock
) -> None:
    """A purge or a cleanup behind a batch without an answer fails in time as well."""
    await begin(store, "first")
    purge = asyncio.create_task(store._maintenance.purge_expired(None))
    cleanup = asyncio.create_task(store._maintenance.cleanup(backend, 1, None))
    await clock.advance(0)
    await clock.advance(101)
    for call in (purge, cleanup):
        with pytest.raises(StoreUnavailableError, match="no turn"):
            await call


async def test_purge_gets_what_the_lock_has_left(
    store: AsyncSeenStore, backend: Stalling, clock: LoopClock
) -> None:
    """A purge that waited for a batch waits for the database for the rest only."""
    (first,) = await begin(store, "first")
    purge = asyncio.create_task(store._maintenance.purge_expired(None))
    await clock.advance(0)
    await clock.advance(70)
    backend.gate.set()
    await asyncio.gather(first, purge)
    assert backend.batches == [(["first"], 100), (["purge"], 30)]
