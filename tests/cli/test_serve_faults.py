"""``/readyz`` under real faults: it fails, says why, and recovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from catalyst_seen import SeenStore
from catalyst_seen.cli._serving import store as of_store

from ..faults.harness.disks import fill, small_disk
from ..support.locks import transaction
from ..support.served import OK, UNAVAILABLE, Pages, serving
from ..support.servers import Postgres, Valkey

IMPATIENT = 0.3
"""Seconds of a probe where a fault would make it wait."""


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is used again, and a store that fails is soon tried again."""
    monkeypatch.setattr(of_store, "FRESH", 0.0)
    monkeypatch.setattr(of_store, "_FIRST_PAUSE", 0.01)


def made(path: Path, *keys: str) -> None:
    """Make a store with keys."""
    with SeenStore(path) as store:
        store.mark_many([*keys])


@asynccontextmanager
async def recovering(
    target: str | Path, fragment: str, within: float = 60.0
) -> AsyncIterator[Pages]:
    """Serve a store; the block is a fault, and at its end readiness is back.

    Each change is said once, however often somebody asks.

    Args:
        target: The store.
        fragment: What the reason has.
        within: Seconds of a probe.
    """
    async with serving(str(target), within=within) as pages:
        await pages.until(OK)
        await pages.until(OK)
        yield pages
        await pages.until(OK)
        await pages.until(OK)
    failed, recovered = pages.said
    assert failed.startswith("not ready: ")
    assert fragment in failed
    assert recovered == "ready"


async def test_full_disk(tmp_path: Path) -> None:
    """A disk is full, and then not."""
    with small_disk(tmp_path / "disk", "2m") as folder:
        made(folder / "seen.db", "a")
        async with recovering(folder / "seen.db", "full") as pages:
            filler = fill(folder)
            await pages.until(UNAVAILABLE)
            assert (await pages.get("/livez"))[0] == OK
            assert (await pages.get("/metrics"))[0] == OK
            filler.unlink()


async def test_held_lock(path: Path) -> None:
    """Another program holds the write lock for too long."""
    made(path)
    async with recovering(path, "no answer within", IMPATIENT) as pages:
        with transaction(path, "BEGIN IMMEDIATE"):
            await pages.until(UNAVAILABLE)


async def test_file_put_back(path: Path) -> None:
    """A file is moved away, and put back."""
    made(path, "a")
    async with recovering(path, "there is no store") as pages:
        away = path.rename(path.with_suffix(".away"))
        await pages.until(UNAVAILABLE)
        assert not path.exists()
        away.rename(path)


async def test_another_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file comes to its place: a scraper gets its sizes, without any probe."""
    monkeypatch.setattr(of_store, "_EVERY", 0.01)
    made(path, "a")
    other = path.with_name("other.db")
    made(other, "b", "c")
    keys = f'catalyst_seen_keys{{namespace="",store="{path}"}}'
    async with serving(str(path)) as pages:
        assert f"{keys} 1.0\n" in (await pages.get("/metrics"))[1]
        other.replace(path)
        async with asyncio.timeout(60):
            while f"{keys} 2.0\n" not in (await pages.get("/metrics"))[1]:
                await asyncio.sleep(0.01)


async def test_log_removed(path: Path) -> None:
    """Somebody removes the log: the store is opened anew, and has all its keys."""
    made(path, "a")
    async with serving(str(path)) as pages:
        await pages.until(OK)
        log = Path(f"{path}-wal")
        log.unlink()
        await pages.until(OK)
        assert log.exists()
    with SeenStore(path) as store:
        assert store.is_seen("a")


async def test_no_store_but_a_file(path: Path) -> None:
    """A file that is no store is a reason, until a store is in its place."""
    path.write_text("no database" * 500)
    async with serving(str(path)) as pages:
        assert str(path) in await pages.until(UNAVAILABLE)
        made(path.with_name("other.db"))
        path.with_name("other.db").replace(path)
        await pages.until(OK)


async def test_valkey_down_at_start() -> None:
    """A server that is down is waited for."""
    with Valkey() as server:
        server.stop()
        async with serving(server.url, within=IMPATIENT) as pages:
            await pages.until(UNAVAILABLE)
            await pages.until(UNAVAILABLE, "/metrics")
            server.start()
            await pages.until(OK)
            await pages.until(OK, "/metrics")


async def test_valkey_gone() -> None:
    """A server ends, and comes back."""
    with Valkey(appendonly="yes") as server:
        async with recovering(server.url, "127.0.0.1", IMPATIENT) as pages:
            server.kill()
            await pages.until(UNAVAILABLE)
            server.start()


async def test_valkey_full() -> None:
    """A server has no memory left: it answers reads, and takes no write."""
    with Valkey() as server, server.client() as client:
        async with recovering(server.url, "maxmemory") as pages:
            client.config_set("maxmemory", 1)
            await pages.until(UNAVAILABLE)
            client.config_set("maxmemory", 0)


async def test_valkey_stands_still() -> None:
    """A server that keeps its connections and answers nothing is noticed."""
    with Valkey() as server:
        async with recovering(server.url, "no answer within", IMPATIENT) as pages:
            server.pause()
            await pages.until(UNAVAILABLE)
            assert (await pages.get("/livez"))[0] == OK
            server.resume()


async def test_postgres() -> None:
    """A server is down at the start, goes, comes back, and becomes read-only."""
    with Postgres() as server:
        SeenStore(server.url).close()
        server.stop()
        async with serving(server.url, within=IMPATIENT) as pages:
            await pages.until(UNAVAILABLE)
            server.start()
            await pages.until(OK)
            server.kill()
            await pages.until(UNAVAILABLE)
            server.start()
            await pages.until(OK)
        async with recovering(server.url, "read-only") as pages:
            server.execute(
                "ALTER SYSTEM SET default_transaction_read_only = on",
                "SELECT pg_reload_conf()",
            )
            await pages.until(UNAVAILABLE)
            server.execute(
                "SET default_transaction_read_only = off",
                "ALTER SYSTEM RESET ALL",
                "SELECT pg_reload_conf()",
            )
