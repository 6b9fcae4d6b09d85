"""Every metric moves: by what it counts, and by a real fault where it counts faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from catalyst_seen import (
    AsyncSeenStore,
    LeaseLostError,
    SeenStoreConfig,
    StoreUnavailableError,
)
from catalyst_seen.metrics import prometheus_collector
from catalyst_seen.metrics._table import METRICS, Buckets

from ..faults.harness.disks import fill, small_disk
from ..support.clock import Clock
from ..support.locks import transaction
from ..support.servers import Valkey
from ..support.waiting import until

Samples = dict[str, float]
"""The sum of all series of a name."""

DAY = 86_400


@dataclass
class Scene:
    """A store on a file, and what happens to it.

    Attributes:
        store: The store; the sizes of the database are read at once.
        path: Its file.
        clock: Its clock.
    """

    store: AsyncSeenStore
    path: Path
    clock: Clock

    def samples(self) -> Samples:
        """Scrape it, as Prometheus would."""
        registry = CollectorRegistry()
        registry.register(prometheus_collector(self.store))
        text = generate_latest(registry).decode()
        found: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if "le" not in sample.labels:
                    name = sample.name
                    found[name] = found.get(name, 0) + sample.value
        return found

    async def refused(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make a call while another process holds the write lock."""
        locked = transaction(self.path, "BEGIN IMMEDIATE")
        with locked, pytest.raises(StoreUnavailableError):
            await call()


@asynccontextmanager
async def scene(path: Path, **changes: Any) -> AsyncIterator[Scene]:
    """Open a store on a file."""
    clock = Clock()
    config = SeenStoreConfig(
        path, timeout=0.2, purge_interval=None, sample_interval="5ms", clock=clock,
        **changes,
    )  # fmt: skip
    async with AsyncSeenStore(config, ttl="1d") as store:
        yield Scene(store, path, clock)


async def marks(scene: Scene) -> None:
    """Mark two keys in one batch."""
    await scene.store.mark_many(["a", "b"])


async def duplicates(scene: Scene) -> None:
    """Ask three times for one key; the cache answers the last time."""
    for _ in range(3):
        await scene.store.check_and_mark("k")


async def write_lock(scene: Scene) -> None:
    """Mark while another process holds the write lock, until the timeout."""
    await scene.refused(lambda: scene.store.mark_seen("k"))


async def calls_at_once(scene: Scene) -> None:
    """Mark three keys at once: some wait for the batch of the first."""
    await asyncio.gather(*(scene.store.mark_seen(key) for key in "abc"))


async def lost_lease(scene: Scene) -> None:
    """Let a lease end, and another store claim the key before the confirm."""
    claim = await scene.store.claim("k", lease=10)
    scene.clock.advance(11)
    async with AsyncSeenStore(scene.store.cfg) as other:
        assert await other.claim("k")
    with pytest.raises(LeaseLostError):
        await claim.confirm()


async def expired_row(scene: Scene) -> None:
    """Purge a row that has expired."""
    await scene.store.mark_seen("k")
    scene.clock.advance(DAY + 1)
    assert await scene.store.purge_expired() == 1


async def locked_purge(scene: Scene) -> None:
    """Purge while another process holds the write lock."""
    await scene.store.mark_seen("k")
    scene.clock.advance(DAY + 1)
    await scene.refused(scene.store.purge_expired)


async def checkpoint(scene: Scene) -> None:
    """Mark, and wait for the checkpoint of the log."""
    await scene.store.mark_seen("k")
    await until(lambda: scene.store.metrics().checkpoints > 0)


async def removed_rows(scene: Scene) -> None:
    """Fill a file, and remove everything."""
    keys = [f"{number:0500}" for number in range(2_000)]
    await scene.store.mark_many(keys)
    await scene.store.forget_many(keys)


async def live_claim(scene: Scene) -> None:
    """Claim a key, and handle it for a minute."""
    await scene.store.claim("k", lease=600)
    scene.clock.advance(60)


async def released_key(scene: Scene) -> None:
    """Release a key with an error, and let nobody come back for it."""
    async with scene.store.claim("k") as claim:
        await claim.release(error="500")
    scene.clock.advance(60)


async def polls(scene: Scene) -> None:
    """Poll a source: new items, one of them held, a failure."""
    feed = scene.store.namespace("feed")
    await feed.observe(["a"])
    await feed.observe(["a", "b", "c"])
    await (await feed.claim("c")).hold()
    await feed.failed("no answer")
    scene.clock.advance(60)


MOVES: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "operations": marks,
    "errors": write_lock,
    "cache.hits": duplicates,
    "cache.keys": duplicates,
    "batch.duration": write_lock,
    "batch.wait": calls_at_once,
    "batch.keys": marks,
    "leases.lost": lost_lease,
    "purge.runs": expired_row,
    "purge.rows": expired_row,
    "purge.failures": locked_purge,
    "last_purge.timestamp": expired_row,
    "checkpoints": checkpoint,
    "wal": marks,
    "alarms": write_lock,
    "keys": marks,
    "claims": live_claim,
    "oldest_claim.age": live_claim,
    "oldest_released.age": released_key,
    "oldest_pending.age": polls,
    "file": removed_rows,
    "free_pages": removed_rows,
    "source.polls": polls,
    "source.items": polls,
    "source.listed": polls,
    "source.pending": polls,
    "source.held": polls,
    "source.last_poll.timestamp": polls,
}
"""What moves a metric; those below have a test of their own."""
OTHERS = {
    "retries", "checkpoint.failures", "sample.age", "sample.duration", "build.info",
}  # fmt: skip
NAMES = {
    metric.name: f"{metric.base_name}_count"
    if isinstance(metric, Buckets)
    else metric.exposed_name
    for metric in METRICS
}


def test_each_has_a_test() -> None:
    """No metric is without a test that moves it."""
    assert {*MOVES, *OTHERS} == {*NAMES}


@pytest.mark.parametrize("name", MOVES)
async def test_moves(name: str, path: Path) -> None:
    """A metric is higher after what it counts."""
    async with scene(path) as one:
        exposed = NAMES[name]
        before = one.samples().get(exposed, 0)
        await MOVES[name](one)
        await until(lambda: one.samples().get(exposed, 0) > before)


async def test_waits_are_as_long_as_the_lock(path: Path) -> None:
    """A batch that waits for a lock is counted in the range of the time it took."""
    async with scene(path) as one:
        await write_lock(one)
        histogram = one.store.metrics().batch_seconds
        slow = [
            count
            for bound, count in zip(
                (*histogram.bounds, float("inf")), histogram.counts, strict=True
            )
            if bound > 0.1
        ]
        assert sum(slow) == 1
        assert histogram.sum > 0.1


async def test_checkpoints_fail_on_a_full_disk(tmp_path: Path) -> None:
    """A checkpoint that finds no room is counted, and begins an alarm."""
    folder = tmp_path / "disk"
    async with AsyncExitStack() as stack:
        stack.enter_context(small_disk(folder, "2m"))
        one = await stack.enter_async_context(scene(folder / "seen.db"))
        await one.store.mark_many(f"{number:0400}" for number in range(1_500))
        fill(folder)
        await until(
            lambda: one.samples()["catalyst_seen_checkpoint_failures_total"] > 0
        )
        await until(lambda: one.samples()["catalyst_seen_alarms"] > 0)


async def test_retries_while_a_server_is_gone() -> None:
    """Requests are sent again while a server restarts, and that is counted."""
    with Valkey(appendonly="yes") as server:
        async with AsyncSeenStore(server.url, ttl="1d") as store:
            one = Scene(store, Path(), Clock())
            await store.mark_seen("k")
            assert one.samples()["catalyst_seen_retries_total"] == 0
            server.kill()
            marking = asyncio.ensure_future(store.mark_seen("l"))
            await until(lambda: one.samples()["catalyst_seen_retries_total"] > 0)
            server.start()
            await marking


async def test_samples_age(path: Path) -> None:
    """A sample has its duration and its age, which grows."""
    async with scene(path) as one:
        await until(lambda: "catalyst_seen_sample_age_seconds" in one.samples())
        assert one.samples()["catalyst_seen_sample_duration_seconds"] > 0
        ages = [one.samples()["catalyst_seen_sample_age_seconds"] for _ in range(2)]
        assert min(ages) > 0


async def test_build(path: Path) -> None:
    """What a store runs on is a metric as well."""
    async with scene(path) as one:
        assert one.samples()["catalyst_seen_build_info"] == 1
