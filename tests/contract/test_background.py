"""The background tasks of a store survive what a program patches, or show their end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import AsyncMock, patch

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from catalyst_seen import AsyncSeenStore
from catalyst_seen.backends.base import SupportsMaintenance

from ..support.targets import Target
from ..support.waiting import until


def tasks(word: str) -> list[asyncio.Task[object]]:
    """The background tasks of this loop with a word in their names."""
    found = (task for task in asyncio.all_tasks() if "catalyst" in task.get_name())
    return [task for task in found if word in task.get_name()]


def events(logs: list[EventDict]) -> list[str]:
    """The names of what was logged, besides that the file is new."""
    return [log["event"] for log in logs if log["event"] != "store_created"]


async def purges(store: AsyncSeenStore, runs: int) -> None:
    """Wait until a store has purged so often."""
    await until(lambda: store._maintenance.runs >= runs)


@pytest.mark.parametrize("values", [None, [None], []])
async def test_patched_sleep(target: Target, values: list[None] | None) -> None:
    """A mock in place of ``asyncio.sleep`` is neither called by the store nor ends it.

    Neither one that returns at once, nor one whose values are used up.
    """
    config = target.config(purge_interval=0.01)
    real = asyncio.sleep
    with patch("asyncio.sleep", AsyncMock(side_effect=values)) as mock:
        async with AsyncSeenStore(config) as store:
            while store._maintenance.runs < 3:
                await real(0.001)
            await store.mark_many(map(str, range(3_000)))
            assert not await store.filter_new(map(str, range(3_000)))
            async with store.claim("k", lease=0.9, keep_alive=True):
                while not store._dispatcher.counters.operations.by_verb()["renew"]:
                    await real(0.001)
            assert (await store.stats()).purge_failures == 0
    assert not mock.called


async def test_interval_is_kept(target: Target) -> None:
    """With a sleep that returns at once, a purge still comes once per interval."""
    with patch("asyncio.sleep", AsyncMock()):
        async with AsyncSeenStore(target.config(purge_interval=3_600)) as store:
            async with asyncio.timeout(60):
                while not store._maintenance.runs:
                    await store.is_seen("k")
            for _ in range(100):
                await store.mark_seen("k")
            assert (await store.stats()).purge_runs == 1


@pytest.mark.parametrize("error", [StopAsyncIteration, RuntimeError, OSError])
async def test_purge_that_raises(target: Target, error: type[Exception]) -> None:
    """Whatever a purge raises, the next one comes; meanwhile there is an alarm."""
    config = target.config(purge_interval=0.01)
    with capture_logs() as logs:
        async with AsyncSeenStore(config) as store:
            maintenance = store._maintenance
            with patch.object(
                maintenance, "_remove_in_pages", side_effect=error("odd")
            ):
                await until(lambda: maintenance.failures >= 3)
                (alarm,) = store._lifecycle.failures.alarms()
                assert alarm.startswith("purges fail")
                assert "odd" in alarm
                assert alarm in (await store.stats()).alarms
                assert alarm in (await store.check()).problems
            await purges(store, maintenance.runs + 1)
            assert store._lifecycle.failures.alarms() == ()
    assert events(logs) == ["purge_failed"]


async def test_maintenance_that_raises(path: Path) -> None:
    """Whatever the maintenance raises, it is called again."""
    calls: list[None] = []

    async def fail() -> None:
        calls.append(None)
        raise StopAsyncIteration

    with capture_logs() as logs:
        async with AsyncSeenStore(path, purge_interval=None) as store:
            backend = store._lifecycle.backend
            assert isinstance(backend, SupportsMaintenance)
            assert backend.maintenance_due
            with patch.object(backend, "maintain", fail):
                while len(calls) < 3:
                    backend.maintenance_due.set()
                    await asyncio.sleep(0.001)
    assert events(logs) == ["upkeep_failed"]


@pytest.mark.parametrize("name", ["purge", "maintenance"])
async def test_task_that_dies(path: Path, name: str) -> None:
    """The death of a task is an alarm; a regular close is none."""
    async with AsyncSeenStore(path) as store:
        (task,) = tasks(name)
        assert (await store.stats()).alarms == ()
        task.cancel()
        await asyncio.wait([task])
        (alarm,) = (await store.stats()).alarms
        assert f"the background task '{name}' has ended" in alarm
        assert (await store.check()).problems == (alarm,)
    async with AsyncSeenStore(path) as other:
        pass
    assert other._lifecycle.failures.alarms() == ()


async def test_task_that_dies_of_an_error(path: Path) -> None:
    """A task that an exception ends is logged, and asyncio need not complain."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def die() -> None:
        raise ZeroDivisionError("odd")

    with capture_logs() as logs:
        async with AsyncSeenStore(path, purge_interval=None) as store:
            task = store._lifecycle.run_in_background(die(), "example")
            await asyncio.wait([task])
            (alarm,) = (await store.stats()).alarms
            assert "'example' has ended: ZeroDivisionError('odd')" in alarm
            del task
    assert events(logs) == ["background_task_died"]
    assert complaints == []
