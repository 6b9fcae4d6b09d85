"""A probe of a store, and what readiness makes of it, on every backend."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, OperationCount, SeenStore
from catalyst_seen.metrics import health

from ..faults.harness.disks import fill, small_disk
from ..support.backends import failing
from ..support.clock import Clock
from ..support.locks import transaction
from ..support.servers import Postgres, Valkey
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


class TestFaults:
    """Readiness fails under a real fault, says why, and recovers."""

    async def test_full_disk(self, tmp_path: Path) -> None:
        """A full disk answers reads, and commits nothing."""
        with small_disk(tmp_path / "disk", "2m") as folder:
            async with AsyncSeenStore(folder / "seen.db") as store:
                assert await health(store)
                filler = fill(folder)
                report = await health(store)
                while report:  # what room the log still has
                    report = await health(store)
                assert "full" in str(report.reason)
                filler.unlink()
                assert await health(store)

    async def test_held_lock(self, path: Path) -> None:
        """Another program's write lock is seen within the bound."""
        async with AsyncSeenStore(path) as store:
            with transaction(path, "BEGIN IMMEDIATE"):
                report = await health(store, within="200ms")
                assert "no answer within 0.2 seconds" in str(report.reason)
            assert await health(store)

    async def test_file_gone(self, path: Path) -> None:
        """A file that was moved away is missed; back in its place, it is used."""
        async with AsyncSeenStore(path) as store:
            moved = path.rename(path.with_suffix(".moved"))
            report = await health(store)
            assert str(path) in str(report.reason)
            moved.rename(path)
            assert await health(store)

    async def test_valkey_gone(self) -> None:
        """A server that ended is missed, and found again."""
        with Valkey(appendonly="yes") as server:
            async with AsyncSeenStore(server.url) as store:
                assert await health(store)
                server.kill()
                assert not await health(store, within="300ms")
                server.start()
                assert await health(store)

    async def test_valkey_full(self) -> None:
        """A server without memory answers reads, and takes no write."""
        with Valkey() as server:
            async with AsyncSeenStore(server.url) as store:
                with server.client() as client:
                    client.config_set("maxmemory", 1)
                    report = await health(store)
                    assert "maxmemory" in str(report.reason)
                    client.config_set("maxmemory", 0)
                    assert await health(store)

    async def test_postgres(self) -> None:
        """A server that is gone, and one that is read-only, are told apart."""
        with Postgres() as server:
            async with AsyncSeenStore(server.url) as store:
                assert await health(store)
                server.kill()
                assert not await health(store, within="300ms")
                server.start()
                assert await health(store)
                server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                server.execute("SELECT pg_reload_conf()")
                report = await health(store)
                while report:  # until each connection has read it
                    report = await health(store)
                assert "read-only" in str(report.reason)
                server.execute(
                    "SET default_transaction_read_only = off",
                    "ALTER SYSTEM RESET ALL",
                    "SELECT pg_reload_conf()",
                )
                while not report:
                    report = await health(store)
