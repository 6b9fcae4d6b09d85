"""Behaviour of a store that is specific to a cluster, with real faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from catalyst_seen.backends.base import Cursor, StoredPage
from catalyst_seen.backends.redis import scan
from catalyst_seen.backends.redis.session import Session

from ...support.processes import HOST, PATIENCE
from ...support.redis_stores import DURABLE, redis_key, to
from ...support.servers import ValkeyCluster
from ...support.transfer import rows_of, transfer

PARTIAL = {"cluster_require_full_coverage": "no", **DURABLE}


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyCluster]:
    """A cluster shared by tests, whose slots may move from the first to the second."""
    with ValkeyCluster(**DURABLE) as made:
        yield made


@pytest.fixture
def cluster(running: ValkeyCluster) -> ValkeyCluster:
    """The shared cluster, empty."""
    running.clear()
    return running


def of_node(number: int, keys: list[str]) -> list[str]:
    """Select the keys of one node, by the initial assignment of slots."""
    return [
        key for key in keys if key_slot(redis_key(key).encode()) * 3 >> 14 == number
    ]


class TestNodes:
    """Keys on three primaries."""

    async def test_batch_spans_all_nodes(self, cluster: ValkeyCluster) -> None:
        """A batch is spread over all nodes, and its results keep their order."""
        async with to(cluster) as store:
            keys = [f"k{number}" for number in range(500)]
            sightings = await store.check_and_mark_many(keys)
            assert [sighting.key for sighting in sightings] == keys
            assert all(sightings)
            assert await store.filter_new(keys) == []
            sizes = []
            for node in cluster.nodes:
                with node.client() as client:
                    sizes.append(client.dbsize())
            assert min(sizes) > 100
            assert sum(sizes) - 1 == await store.count() == 500  # and a marker
            assert await store.cleanup_old_entries(0) == 500

    async def test_open_checks_every_node(self, cluster: ValkeyCluster) -> None:
        """Opening checks every node, so one that evicts is refused."""
        for node in cluster.nodes:
            with node.client() as client:
                client.config_set("maxmemory-policy", "allkeys-lru")
                with pytest.raises(ConfigurationError, match="allkeys-lru"):
                    await to(cluster).open()
                client.config_set("maxmemory-policy", "noeviction")


class TestSlots:
    """Slots in migration."""

    async def test_one_new_per_key_while_slots_move(self) -> None:
        """Every key has one true verdict while slots move between nodes."""
        with ValkeyCluster(**DURABLE) as cluster:
            async with (
                to(cluster, timeout=20) as store,
                to(cluster, timeout=20) as other,
            ):
                keys = [f"k{number}" for number in range(300)]
                assert all(await store.check_and_mark_many(keys[:100]))
                for slot in range(0, 5_400, 60):
                    move(cluster, slot, 0, 1, finish=slot % 120 == 0)
                assert not any(await store.check_and_mark_many(keys[:100]))
                assert all(await store.check_and_mark_many(keys[100:]))
                assert not any(await other.check_and_mark_many(keys))
                assert await other.count() >= 300

    async def test_moved_slots_are_followed(self, cluster: ValkeyCluster) -> None:
        """Keys of moved slots are found on their new node."""
        async with to(cluster) as store:
            keys = of_node(0, [f"moved{number}" for number in range(60)])
            assert all(await store.check_and_mark_many(keys))
            for key in keys:
                slot = key_slot(redis_key(key).encode())
                move(cluster, slot, 0, 1, finish=True)
            assert not any(await store.check_and_mark_many(keys))

    async def test_half_moved_slot_is_readable(self, cluster: ValkeyCluster) -> None:
        """Keys of a slot in migration are found on whichever node has each."""
        async with to(cluster, timeout=20) as store:
            feed = store.namespace("f")
            await feed.mark_many(["old1", "old2"])
            slot = key_slot(redis_key("any", "f").encode())
            move(cluster, slot, slot * 3 >> 14, 1, finish=False)
            await feed.mark_many(["old3"])
            new = await feed.check_and_mark_many(["new2", "new3"])
            assert list(map(bool, new)) == [True, True]
            both = await feed.check_and_mark_many(["old1", "new4"])
            assert list(map(bool, both)) == [False, True]
            assert not any(await feed.check_and_mark_many(["old1", "old2", "old3"]))
            move(cluster, slot, slot * 3 >> 14, 1, finish=True)

    async def test_move_misses_no_row(self, cluster: ValkeyCluster) -> None:
        """A scan of a move fails if a slot moved meanwhile: it may have missed rows.

        Also if the slot is on its way, or was returned.
        """
        async with to(cluster, timeout=20) as store:
            keys = of_node(0, [f"steady{number}" for number in range(60)])
            await store.mark_many(keys)
            slot = key_slot(redis_key(keys[0]).encode())
            changes = [
                [(0, 1, False), (0, 1, True)],
                [(1, 0, True)],
                [(0, 1, True), (1, 0, True)],
            ]
            for steps in changes:
                page = await transfer(store).read_rows(limit=1_000, cursor=None)
                for source, target, finish in steps:
                    move(cluster, slot, source, target, finish=finish)
                    if not finish:
                        for read in (
                            rows_of(store),
                            transfer(store).read_source_states(),
                        ):
                            with pytest.raises(StoreUnavailableError, match="slots"):
                                await read
                with pytest.raises(StoreUnavailableError, match="slots"):
                    await rest_of(store, page)
                assert len(await rows_of(store)) == len(keys)

    async def test_move_misses_no_source(
        self, cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The states of sources are not read while slots move."""
        async with to(cluster, timeout=20) as store:
            await store.namespace("f", first="all").observe(["a"])
            (key, *_) = of_node(0, [f"source{number}" for number in range(60)])
            slot = key_slot(redis_key(key).encode())
            scan_page = scan.scan_page

            async def moving(
                session: Session, pattern: bytes, cursor: Cursor | None, size: int
            ) -> tuple[list[bytes], Cursor | None]:
                page = await scan_page(session, pattern, cursor, size)
                if cursor is None:
                    move(cluster, slot, 0, 1, finish=True)
                return page

            monkeypatch.setattr(scan, "scan_page", moving)
            with pytest.raises(StoreUnavailableError, match="slots"):
                await transfer(store).read_source_states()

    async def test_left_node_is_not_contacted(self) -> None:
        """A node that has left the cluster is no longer contacted."""
        with ValkeyCluster(**PARTIAL) as cluster:
            async with to(cluster) as store, to(cluster, timeout=3) as idle:
                keys = [f"k{number}" for number in range(60)]
                assert await idle.count() == 0
                empty(cluster, 2, 0)
                cluster.nodes[2].kill()
                assert all(await store.check_and_mark_many(keys))
                assert not any(await store.check_and_mark_many(keys))
                await until_counted(idle, 60)


@pytest.mark.slow
class TestLostNodes:
    """Nodes that are lost, and return: the nodes themselves agree on it in seconds."""

    async def test_lost_node_returns(self) -> None:
        """A lost node fails only its own keys, within the timeout, until it returns."""
        with ValkeyCluster(cluster_require_full_coverage="no", **DURABLE) as cluster:
            async with to(cluster, timeout=3) as store:
                keys = [f"k{number}" for number in range(60)]
                assert all(await store.check_and_mark_many(keys))
                cluster.nodes[2].kill()
                calls = [store.check_and_mark(key) for key in keys]
                results = await asyncio.gather(*calls, return_exceptions=True)
                failed = [one for one in results if isinstance(one, Exception)]
                assert all(isinstance(one, StoreError) for one in failed)
                assert 0 < len(failed) < 60
                assert not any(one for one in results if not isinstance(one, Exception))
                with pytest.raises(StoreError):
                    await store.check_and_mark_many(keys)
                cluster.nodes[2].start()
                assert not any([await until_known(store, key) for key in keys])

    async def test_lost_node_fails_only_its_keys(self) -> None:
        """A lost node fails its keys in every batch, and no key of another node."""
        with ValkeyCluster(**PARTIAL) as cluster:
            async with to(cluster, timeout=3) as store:
                keys = [f"k{number}" for number in range(60)]
                lost = of_node(2, keys)
                await asyncio.gather(*map(store.is_seen, keys))
                cluster.nodes[2].kill()
                results = dict(
                    zip(
                        keys,
                        await asyncio.gather(
                            *map(store.check_and_mark, keys), return_exceptions=True
                        ),
                        strict=True,
                    )
                )
                failed = [
                    key
                    for key, result in results.items()
                    if isinstance(result, StoreError)
                ]
                assert failed == lost
                assert all(results[key] for key in keys if key not in lost)
                more = [f"m{number}" for number in range(30)]
                with pytest.raises(OutcomeUnknownError, match=r"of 30 keys failed"):
                    await store.check_and_mark_many(more)

    async def test_stalled_node_leaves_it_unknown(self) -> None:
        """If one node is lost and another stalls, the outcome is unknown."""
        with ValkeyCluster(**PARTIAL) as cluster:
            options = "?socket_timeout=1&socket_connect_timeout=1"
            async with to(cluster, options, timeout=3) as store:
                keys = [f"k{number}" for number in range(12)]
                await store.mark_many(keys)
                gone, stalled = of_node(2, keys)[0], of_node(1, keys)[0]
                cluster.nodes[2].kill()
                assert not await store.is_seen(gone)
                with pytest.raises(StoreUnavailableError):
                    await store.mark_seen(gone)
                assert await store.is_seen(stalled)
                cluster.nodes[1].pause()
                with pytest.raises(OutcomeUnknownError):
                    await store.mark_many([gone, stalled])
                cluster.nodes[1].resume()

    async def test_idle_store_finds_a_returned_node(self) -> None:
        """A store that was idle while a node was lost counts again after its return."""
        with ValkeyCluster(**PARTIAL) as cluster:
            async with to(cluster, timeout=3) as store:
                await store.mark_many(f"k{number}" for number in range(60))
                cluster.nodes[2].kill()
                with pytest.raises(StoreUnavailableError):
                    await store.count()
                cluster.nodes[2].start()
                await until_counted(store, 60)

    async def test_call_waits_for_a_failed_cluster(self) -> None:
        """Calls are retried while a cluster that lost a node refuses all commands."""
        with ValkeyCluster(**DURABLE) as cluster:
            async with to(cluster, timeout=PATIENCE) as store:
                (key, *_) = of_node(0, [str(number) for number in range(99)])
                await store.mark_seen("before")
                cluster.nodes[2].kill()
                with cluster.nodes[0].client() as client:
                    while "cluster_state:fail" not in str(
                        client.execute_command("CLUSTER", "INFO")
                    ):
                        await asyncio.sleep(0.02)
                    marking = asyncio.create_task(store.check_and_mark(key))
                    while "errorstat_CLUSTERDOWN" not in client.info("errorstats"):
                        await asyncio.sleep(0.01)
                assert not marking.done()
                cluster.nodes[2].start()
                assert await marking


async def rest_of(store: AsyncSeenStore, page: StoredPage) -> None:
    """Read the pages after one."""
    while page.cursor is not None:
        page = await transfer(store).read_rows(limit=1_000, cursor=page.cursor)


async def until_counted(store: AsyncSeenStore, number: int) -> None:
    """Count until that succeeds, and compare the number."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert await store.count() == number
        except StoreError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def until_known(store: AsyncSeenStore, key: str) -> object:
    """Check and mark a key until that succeeds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await store.check_and_mark(key)
        except StoreError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def move(
    cluster: ValkeyCluster, slot: int, source: int, target: int, *, finish: bool
) -> None:
    """Move a slot and its keys from one node to another, or stop halfway."""
    with cluster.nodes[source].client() as old, cluster.nodes[target].client() as new:
        old_id, new_id = (
            str(one.execute_command("CLUSTER", "MYID")) for one in (old, new)
        )
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        for name in old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000):
            old.migrate(HOST, cluster.nodes[target].port, name, 0, 5_000)
        if finish:
            for one in (new, old):
                one.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)


def empty(cluster: ValkeyCluster, source: int, target: int) -> None:
    """Assign all slots of an empty node to another one, and wait for all nodes."""
    with cluster.nodes[target].client() as new, cluster.nodes[source].client() as old:
        new_id, old_id = (
            str(one.execute_command("CLUSTER", "MYID")) for one in (new, old)
        )
        slots = range(*(16_384 * place // 3 for place in (source, source + 1)))
        with new.pipeline(transaction=False) as pipe:
            for how, node_id in (("IMPORTING", old_id), ("NODE", new_id)):
                for slot in slots:
                    pipe.execute_command("CLUSTER", "SETSLOT", slot, how, node_id)
            pipe.execute()
    deadline = time.monotonic() + PATIENCE
    for node in cluster.nodes:
        with node.client() as client:
            while old_id in (
                primary[2]
                for _, _, primary, *_ in client.execute_command("CLUSTER", "SLOTS")
            ):
                assert time.monotonic() < deadline
                time.sleep(0.01)
