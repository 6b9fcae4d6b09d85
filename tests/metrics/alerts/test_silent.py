"""What is no fault fires no alert."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalyst_seen import SeenStoreConfig, StoreError, StoreUnavailableError

from ...support.locks import transaction
from ...support.promtool import check_firing
from ...support.servers import Postgres, Valkey, ValkeyCluster
from .faults import WEEK
from .watched import HOUR, MINUTE, TEN_MINUTES, Watched, on_file, watched


async def closed_store(folder: Path) -> Watched:
    """A program that goes on closes its store, with a claim and a pending key."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.healthy(1)
        await one.meet_duplicate()
        await one.poll()
        await one.then(144)
        await one.store.namespace("feed").observe(["unhandled"])
        assert await one.store.claim("unfinished", lease=3_600)
        await one.then(1)
    one.history.add(one.scrape(), 3 * 144)
    return one


async def server_restarts(_: Path) -> Watched:
    """A server is killed and comes back: calls fail for two minutes."""
    with Valkey(appendonly="yes") as server:
        async with watched(SeenStoreConfig(url=server.url, timeout=1)) as one:
            await one.healthy(60)
            await one.store.is_seen("k")
            server.kill()
            for key in ("k", "l"):
                with pytest.raises(StoreError):
                    await one.store.get(key)
            one.history.add(one.scrape(), 2)
            server.start()
            await one.use()
            one.history.begin(one.scrape())
            await one.use()
            await one.then(60)
    return one


async def locked_once(folder: Path) -> Watched:
    """Another process has the write lock for a moment: one purge, one mark fail."""
    async with watched(on_file(folder), timeout=0.2) as one:
        await one.healthy(60)
        await one.store.mark_seen("k", ttl=0.001)
        with transaction(folder / "seen.db", "BEGIN IMMEDIATE"):
            for call in (one.store.purge_expired, lambda: one.store.mark_seen("k")):
                with pytest.raises(StoreUnavailableError):
                    await call()
        await one.use()
        await one.then(1)
        await one.use()
        await one.then(60)
    return one


async def purges_by_hand(folder: Path) -> Watched:
    """A store without background purges is purged by hand, once."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        one.purges = False
        await one.healthy(144)
        await one.store.purge_expired()
        await one.then(1)
        await one.use()
        await one.then(2 * 144)
    return one


async def weekly_source(folder: Path) -> Watched:
    """One source is polled weekly, another one daily, and both fail once."""
    async with watched(on_file(folder), HOUR) as one:
        weekly, daily = one.store.namespace("weekly"), one.store.namespace("daily")
        await weekly.observe(["a"])
        await daily.observe(["a"])
        await one.fresh()
        one.history.begin(one.scrape())
        for day in range(16):
            await one.then(23)
            await daily.observe(["a"])
            if day % 7 == 0:
                await weekly.observe(["a"])
            if day == 10:
                await daily.failed("no answer")
                await weekly.failed("no answer")
            await one.then(1)
    return one


async def quiet_store(folder: Path) -> Watched:
    """A store that seldom has new items has none for days, then some at once."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.store.check_and_mark_many(["a", "old"])
        await one.fresh()
        one.history.begin(one.scrape())
        await one.then(1)
        await one.store.check_and_mark("first")
        await one.then(1)
        await one.meet_duplicate()
        await one.then(WEEK)
        await one.store.check_and_mark_many(f"{number}" for number in range(60))
        await one.then(1)
        await one.then(12)
    return one


async def new_namespace(folder: Path) -> Watched:
    """A large source is new, and all its items are handled in some hours."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.healthy(WEEK)
        feed = one.store.namespace("large", first="all")
        await feed.observe([f"{number}" for number in range(2_000)])
        await one.then(1)
        await feed.observe([f"{number}" for number in range(2_050)])
        await one.then(12)
    return one


async def flaky_source(folder: Path) -> Watched:
    """Every second poll of a source fails."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.healthy(60)
        await one.store.namespace("feed").failed("no answer")
        await one.poll()
        await one.then(144)
    return one


HARMLESS: list[Callable[[Path], Awaitable[Watched]]] = [
    closed_store,
    server_restarts,
    locked_once,
    purges_by_hand,
    weekly_source,
    quiet_store,
    new_namespace,
    flaky_source,
]


@pytest.mark.parametrize("event", HARMLESS, ids=lambda event: event.__name__)
async def test_silent(
    event: Callable[[Path], Awaitable[Watched]], tmp_path: Path
) -> None:
    """It wakes nobody."""
    one = await event(tmp_path)
    check_firing(tmp_path, one.history, [], quiet=[one.history.now])


@contextmanager
def healthy(name: str, folder: Path) -> Iterator[SeenStoreConfig]:
    """Settings of a store on a backend with nothing to say against its settings."""
    if name == "file":
        yield on_file(folder)
    elif name == "memory":
        yield SeenStoreConfig(":memory:")
    else:
        servers: dict[str, Callable[[], Valkey | ValkeyCluster | Postgres]] = {
            "valkey": lambda: Valkey(appendonly="yes"),
            "cluster": lambda: ValkeyCluster(appendonly="yes"),
            "postgres": lambda: Postgres(durable=True),
        }
        with servers[name]() as server:
            yield SeenStoreConfig(url=server.url)


WEEKS = [("file", TEN_MINUTES), ("postgres", TEN_MINUTES)]
HOURS = [(n, MINUTE) for n in ("file", "memory", "valkey", "cluster", "postgres")]


@pytest.mark.parametrize(("name", "step"), [*HOURS, *WEEKS])
async def test_healthy_stores(name: str, step: int, tmp_path: Path) -> None:
    """A store in use fires none: in hours on each backend, and in more than a week."""
    with healthy(name, tmp_path) as config:
        async with watched(config, step) as one:
            await one.healthy(WEEK if step == TEN_MINUTES else 180)
    check_firing(tmp_path, one.history, [], quiet=one.quiet)
