"""A probe of a store, and what readiness makes of it, on every backend."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, OperationCount, SeenStore
from catalyst_seen.metrics import health

from ..support.backends import failing
from ..support.clock import Clock
from ..support.targets import Target


async def test_a_probe_leaves_nothing(store: AsyncSeenStore, clock: Clock) -> None:
    """It writes, and no verb shows what."""
    await store.mark_seen("k", namespace="n")
    before = [record async for record in store.records()]
    await asyncio.gather(*(store.probe() for _ in range(5)))
    assert [record async for record in store.records()] == before
    assert await store.namespaces() == ["n"]
    assert await store.sources() == []
    assert await store.count() == 1
    assert await store.purge_expired() == 0
    clock.advance(2)
    assert await store.clear(namespace=None) == 1
    counts = store.metrics().operations
    assert counts == {
        OperationCount("mark", "done", "n"): 1,
        OperationCount("get", "unseen", ""): 5,
    }


async def test_healthy(target: Target) -> None:
    """A store that works says where it is, and how long the answer took."""
    async with AsyncSeenStore(target.config()) as store:
        report = await health(store)
        assert report, report.reason
        assert report.reason is None
        assert report.location == store.location
        assert report.took > 0


def test_twin(target: Target) -> None:
    """A blocking store is asked in a thread."""
    with SeenStore(target.config()) as store:
        store.probe()
        assert asyncio.run(health(store))
    report = asyncio.run(health(store))
    assert not report
    assert "closed" in str(report.reason)


async def test_failing_calls(store: AsyncSeenStore) -> None:
    """Whatever fails is the reason, in the words of the store, and an alarm."""
    with failing(store):
        report = await health(store)
        assert "the disk is full. Free some" in str(report.reason)
        assert "no call that reads has succeeded" in report.alarms[-1]
    assert await health(store)
    assert "no call" not in str((await health(store)).alarms)


async def test_not_open(target: Target) -> None:
    """A store that is not open yet is a reason, not an exception."""
    store = AsyncSeenStore(target.config())
    assert "not open yet" in str((await health(store)).reason)


async def test_wrong_arguments(path: Path) -> None:
    """What is no store, and no time, is refused."""
    async with AsyncSeenStore(path) as store:
        with pytest.raises(ValueError, match="within"):
            await health(store, within=0)
    with pytest.raises(TypeError, match="not 'x'"):
        await health("x")  # type: ignore[arg-type]
