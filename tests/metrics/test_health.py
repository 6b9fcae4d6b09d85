"""Readiness under real faults: it fails, says why, and recovers."""

from __future__ import annotations

import re
from pathlib import Path

from catalyst_seen import AsyncSeenStore
from catalyst_seen.metrics import Health, health

from ..faults.harness.disks import fill, small_disk
from ..support.locks import transaction
from ..support.servers import Postgres, Valkey
from ..support.waiting import until


async def test_full_disk(tmp_path: Path) -> None:
    """On a full disk it is not ready, also if the log has room for a probe."""
    with small_disk(tmp_path / "disk", "2m") as folder:
        async with AsyncSeenStore(folder / "seen.db") as store:
            for _ in range(3):
                assert await health(store)
            done = store.metrics().checkpoints
            await until(lambda: store.metrics().checkpoints > done)
            filler = fill(folder)
            for _ in range(3):
                report = await health(store)
                assert "No space left" in str(report.reason)
                assert "Free some space" in str(report.reason)
            filler.unlink()
            assert await health(store)


async def test_held_lock(path: Path) -> None:
    """Another program's write lock is seen within the bound."""
    async with AsyncSeenStore(path) as store:
        with transaction(path, "BEGIN IMMEDIATE"):
            report = await health(store, within="200ms")
            assert "no answer within 0.2 seconds" in str(report.reason)
            assert "another program's lock" in str(report.reason)
        assert await health(store)


async def test_file_gone(path: Path) -> None:
    """A file that was moved away is missed; back in its place, it is used."""
    async with AsyncSeenStore(path) as store:
        moved = path.rename(path.with_suffix(".moved"))
        report = await health(store)
        assert str(path) in str(report.reason)
        moved.rename(path)
        assert await health(store)


async def test_valkey_gone() -> None:
    """A server that ended is missed, and found again."""
    with Valkey(appendonly="yes") as server:
        async with AsyncSeenStore(server.url) as store:
            assert await health(store)
            server.kill()
            assert_refused(await health(store, within="300ms"))
            server.start()
            assert await health(store)


async def test_valkey_full() -> None:
    """A server without memory answers reads, and takes no write."""
    with Valkey() as server:
        async with AsyncSeenStore(server.url) as store:
            with server.client() as client:
                client.config_set("maxmemory", 1)
                report = await health(store)
                assert "maxmemory" in str(report.reason)
                client.config_set("maxmemory", 0)
                assert await health(store)


async def test_postgres() -> None:
    """A server that is gone, and one that is read-only, are told apart."""
    with Postgres() as server:
        async with AsyncSeenStore(server.url) as store:
            assert await health(store)
            server.kill()
            assert_refused(await health(store, within="300ms"))
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


def assert_refused(report: Health) -> None:
    """Assert that the reason is the refused connection, and no lock."""
    reason = str(report.reason)
    assert "no answer within 0.3 seconds: " in reason
    assert re.search(r"Connection refused|Connect call failed", reason)
    assert "Is the server running?" in reason
    assert "lock" not in reason
