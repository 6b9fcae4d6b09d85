"""Real faults, each with the history that a store has under it."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from catalyst_seen import (
    LeaseLostError,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreError,
    StoreUnavailableError,
)
from catalyst_seen.feeds import Feed, Poller

from ...faults.harness.disks import fill, small_disk
from ...support.clock import DAY, Clock
from ...support.feeds import Site, numbered, serving
from ...support.locks import transaction
from ...support.scrapes import Scrape, scrape
from ...support.servers import Valkey
from ...support.waiting import until
from .watched import TEN_MINUTES, Watched, on_file, watched

LONG = 120
"""Steps of a fault that goes on: longer than every window and ``for`` of an alert."""

WEEK = 8 * 144
"""Steps of ten minutes of a history that is longer than a week."""

FAILED_SAMPLE = ("metrics", "unavailable")

KILLED = """
import os, signal, sys
from catalyst_seen import SeenStore
SeenStore(sys.argv[1]).claim("k", lease=0.2)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def program_gone(folder: Path) -> Watched:
    """The program ends, and nothing is exported any more."""
    async with watched(on_file(folder)) as one:
        await one.healthy(LONG)
    one.history.add(Scrape(), LONG)
    return one


async def store_gone(folder: Path) -> Watched:
    """Of two stores in two processes, one is not exported any more."""
    other_file = SeenStoreConfig(folder / "other.db")
    async with watched(on_file(folder)) as one, watched(other_file) as other:
        await one.healthy(1)
        await other.fresh()
        beside = scrape(other.store, instance="other:9464")
        both = one.scrape()
        both.samples.update(beside.samples)
        one.history.add(both, LONG)
        one.quiet.append(one.history.now)
        one.history.add(beside, LONG)
    return one


async def server_gone(_: Path) -> Watched:
    """The server is killed, and does not come back."""
    with Valkey(appendonly="yes") as server:
        config = SeenStoreConfig(url=server.url, timeout=2)
        async with watched(config) as one:
            await one.healthy(LONG)
            server.kill()
            with pytest.raises(StoreError):  # it was sent, or it was not
                await one.store.mark_seen("k")
            one.history.add(one.scrape())
            with pytest.raises(StoreUnavailableError):
                await one.store.mark_seen("k")
            await until(lambda: FAILED_SAMPLE in one.store.metrics().errors)
            await one.store.purge_expired()  # the server does it, when it is there
            one.history.add(one.scrape(), LONG)
    return one


async def answer_lost(_: Path) -> Watched:
    """The server stands still after it got a mark, and goes on later."""
    with Valkey(appendonly="yes") as server:
        config = SeenStoreConfig(url=server.url, timeout=1)
        async with watched(config) as one:
            await one.healthy(LONG)
            server.pause()
            with pytest.raises(OutcomeUnknownError):
                await one.store.mark_seen("k")
            server.resume()
            await one.store.mark_seen("k")
            await one.then(1)
            await one.then(5)
    return one


async def full_disk(folder: Path) -> Watched:
    """Something else fills the disk."""
    disk = folder / "disk"
    async with AsyncExitStack() as stack:
        stack.enter_context(small_disk(disk, "4m"))
        one = await stack.enter_async_context(watched(on_file(disk)))
        await one.healthy(LONG)
        await one.store.mark_many(f"{number:0400}" for number in range(1_500))
        fill(disk)
        with pytest.raises(StoreUnavailableError):
            await one.store.mark_many(f"{number:0900}" for number in range(3_000))
        await until(lambda: one.store.metrics().checkpoint_failures > 0)
        await one.then(LONG)
    return one


async def slow_database(folder: Path) -> Watched:
    """Another process holds the write lock for most of a second, again and again."""
    async with watched(on_file(folder)) as one:
        await one.healthy(LONG)
        with transaction(folder / "seen.db", "BEGIN IMMEDIATE"):
            marks = [asyncio.ensure_future(one.store.mark_seen("a"))]
            await asyncio.sleep(0)
            marks.append(asyncio.ensure_future(one.store.mark_seen("b")))
            begun = time.monotonic()
            await until(lambda: time.monotonic() > begun + 0.8)
        await asyncio.gather(*marks)
        await one.then(LONG)
    return one


async def locked_purges(folder: Path) -> Watched:
    """Another process keeps the write lock, while the program only reads."""
    clock = Clock()
    async with watched(replace(on_file(folder), clock=clock), timeout=0.3) as one:
        await one.healthy(LONG)
        with transaction(folder / "seen.db", "BEGIN IMMEDIATE"):
            clock.advance(31 * DAY)
            with pytest.raises(StoreUnavailableError):
                await one.store.purge_expired()
            await one.store.is_seen("old")
            one.purges = False
            await one.then(LONG)
    return one


async def pinned_log(folder: Path) -> Watched:
    """Another process keeps a read transaction open, while the program writes."""
    async with watched(on_file(folder)) as one:
        await one.healthy(LONG)
        with transaction(folder / "seen.db", "BEGIN", "SELECT * FROM seen"):
            for number in range(4):
                keys = [f"{number} {key}" for key in range(100)]
                await one.store.mark_many(keys, note="x" * 20_000)
            await one.then(LONG, growing={"catalyst_seen_wal_bytes"})
    return one


async def lost_lease(folder: Path) -> Watched:
    """The work takes longer than its lease, and another process has the key."""
    clock = Clock()
    async with watched(replace(on_file(folder), clock=clock)) as one:
        await one.healthy(LONG)
        claim = await one.store.claim("k", lease=10)
        clock.advance(11)
        async with watched(one.store.cfg) as other:
            await other.store.mark_seen("k")
        with pytest.raises(LeaseLostError):
            await claim.confirm()
        await one.then(1)
        await one.then(5)
    return one


async def held_key(folder: Path) -> Watched:
    """Work fails for good, and its key is held."""
    async with watched(on_file(folder)) as one:
        await one.healthy(LONG)
        claim = await one.store.claim("k")
        await claim.hold("no such user")
        await one.then(10)
    return one


async def killed_worker(folder: Path) -> Watched:
    """A process is killed with a claim, and nobody wants its key again."""
    async with watched(on_file(folder)) as one:
        await one.healthy(LONG)
        words = [sys.executable, "-c", KILLED, str(folder / "seen.db")]
        worker = await asyncio.create_subprocess_exec(*words)
        assert await worker.wait() < 0

        def is_abandoned() -> bool:
            sizes = one.store.metrics().sizes
            return sizes is not None and sizes.abandoned["retry"] > 0

        await until(is_abandoned)
        await one.then(LONG)
    return one


async def released_key(folder: Path) -> Watched:
    """Work fails, and its sender does not come again for two days."""
    clock = Clock()
    async with watched(replace(on_file(folder), clock=clock)) as one:
        await one.healthy(LONG)
        claim = await one.store.claim("k")
        await claim.release(error="no answer")
        clock.advance(2 * DAY)
        await one.then(10)
    return one


async def hung_work(folder: Path) -> Watched:
    """Work hangs, while its claim is renewed."""
    clock = Clock()
    async with watched(replace(on_file(folder), clock=clock)) as one:
        await one.healthy(LONG)
        claim = await one.store.claim("k", lease=600)
        for _ in range(10):
            clock.advance(500)
            await claim.renew()
        await one.then(10)
    return one


async def unhandled_item(folder: Path) -> Watched:
    """Nobody handles an item for two days, while its source is polled."""
    clock = Clock()
    async with watched(replace(on_file(folder), clock=clock)) as one:
        await one.healthy(LONG)
        feed = one.store.namespace("feed")
        await feed.observe(["unhandled"])
        clock.advance(2 * DAY)
        await feed.observe(["unhandled", "another"])
        await one.then(10)
    return one


async def poller_gone(folder: Path) -> Watched:
    """The source is polled no more, while the rest of the program goes on."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.healthy(2 * 144)
        await one.store.check_and_mark("another")
        await one.then(150)
    return one


async def failing_source(folder: Path) -> Watched:
    """The server of a source answers with errors."""
    with serving() as site:
        async with watched(on_file(folder), TEN_MINUTES) as one:
            site.put("feed", numbered(range(3)))
            await _poll(one, site)
            await one.healthy(2 * 144)
            site.put("feed", "", status=500)
            await _poll(one, site)
            await one.then(40)
    return one


async def _poll(one: Watched, site: Site) -> None:
    async with Poller(one.store) as poller:
        await poller.poll(Feed(f"{site.url}/feed", name="site"))


async def nothing_new(folder: Path) -> Watched:
    """The program is started again, and all that comes is known."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.healthy(WEEK)
    async with watched(on_file(folder)) as again:
        again.uses = one.uses
        await again.poll()
        await again.fresh()
        one.history.begin(scrape(again.store))
        await again.poll()
        await again.meet_duplicate()
        await again.fresh()
        one.history.add(scrape(again.store), 150)
    return one


async def new_ids(folder: Path) -> Watched:
    """A source gives all its items other ids, every ten minutes."""
    async with watched(on_file(folder), TEN_MINUTES) as one:
        await one.healthy(WEEK)
        feed = one.store.namespace("feed", first="all")
        await feed.observe([f"other {number}" for number in range(50)])
        await one.then(7)
    return one
