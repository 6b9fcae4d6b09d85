"""Observations on Redis: whole or not there, whatever fails, and whoever is at it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from redis.crc import key_slot

from catalyst_seen import (
    AsyncSeenStore,
    FeedRules,
    OutcomeUnknownError,
    SchemaError,
    SeenStoreConfig,
    StoreError,
    StoreUnavailableError,
)
from catalyst_seen.backends.redis import listings
from catalyst_seen.backends.redis.keys import KeyCodec
from catalyst_seen.backends.redis.observing import Commit, Observing, Waits
from catalyst_seen.backends.redis.session import Session

from ...contract.listings.support import Entry, baseline, handled, keys, observe
from ...support.lossy import Lossy
from ...support.redis_stores import (
    DURABLE,
    Killed,
    Values,
    killed_after,
    redis_key,
    to,
)
from ...support.servers import HOST, Valkey, ValkeyCluster

Server = Valkey | ValkeyCluster
BEFORE = [
    *(Entry(f"k{number}", link=f"/{number}", title="t") for number in range(6)),
    Entry("edited", "old", text="1"),
    Entry("former", "note"),
]
AFTER = [
    *(Entry(f"k{number}", link=f"/{number}", title="t") for number in range(3)),
    Entry("other 5", link="/5", title="t"),
    Entry("edited", "new", text="2"),
    Entry("key", spellings=("former",)),
    *(Entry(f"new{number}", f"text {number}") for number in range(4)),
]
NEW = ["edited", "key", *(f"new{number}" for number in range(4))]


async def prepare(feed: AsyncSeenStore) -> None:
    """Observe a source whose next listing changes rows in every way."""
    await baseline(feed, BEFORE[:6])
    seen = await observe(feed, BEFORE)
    assert keys(seen.new) == ["edited", "former"]


async def check_after(feed: AsyncSeenStore) -> None:
    """Check that the second listing was recorded, once and whole."""
    source = await feed.source()
    assert source is not None
    assert (source.polls, source.listed, source.pending) == (3, 10, 6)
    assert (source.new, source.replaced) == (6, 1)
    notes = {one.key: one.note async for one in feed.records(state="pending")}
    assert notes == {
        "edited": "new",
        "key": "note",
        **{f"new{number}": f"text {number}" for number in range(4)},
    }
    assert await feed.get("former") is None
    assert await feed.is_seen("other 5")
    assert await feed.is_seen("k5")


class TestKilled:
    """Observations that end in the middle."""

    async def test_program_is_killed_anywhere(self, server: Valkey) -> None:
        """A killed program leaves the observation whole or not there."""
        requests, is_complete = 0, False
        while not is_complete:
            async with to(server) as store:
                feed = store.namespace("feed")
                await prepare(feed)
                with Values(server) as values:
                    before = values.all()
                    try:
                        with killed_after(requests):
                            await observe(feed, AFTER)
                        is_complete = True
                    except Killed:
                        assert values.all() == before
                        assert keys((await observe(feed, AFTER)).new) == NEW
                    values.check_indexes()
                await check_after(feed)
            server.clear()
            requests += 1
        assert requests > 3

    @pytest.mark.parametrize("number", range(5))
    async def test_lost_reply(self, server: Valkey, way: Lossy, number: int) -> None:
        """An observation whose replies are lost is recorded once."""
        call, calls = Session.call, 0

        async def losing(session: Session, *args: object, **options: object) -> object:
            nonlocal calls
            if calls == number:
                way.lose = 2
            calls += 1
            return await call(session, *args, **options)  # type: ignore[arg-type]

        async with to(server) as store:
            await prepare(store.namespace("feed"))
        url = f"redis://{HOST}:{way.port}"
        config = SeenStoreConfig(url=url, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            feed = store.namespace("feed")
            with patch.object(Session, "call", losing):
                seen = await observe(feed, AFTER)
            assert calls > number or number == 4
            assert keys(seen.new) == NEW
            assert keys(seen.replaced) == ["other 5"]
            await check_after(feed)

    @pytest.mark.parametrize("seed", range(6))
    async def test_server_is_killed(self, seed: int) -> None:
        """A server that is killed has the whole observation afterwards, or nothing."""
        chance = random.Random(seed)
        items = [f"item {number}" for number in range(3_000)]
        with Valkey(appendonly="yes", appendfsync="always") as server:
            async with to(server, timeout=0.5) as store:
                feed = store.namespace("feed", first="all")
                observing = asyncio.create_task(observe(feed, items))
                await asyncio.sleep(chance.uniform(0, 0.3))
                server.kill()
                result = (await asyncio.gather(observing, return_exceptions=True))[0]
            server.start()
            async with to(server) as store:
                feed = store.namespace("feed", first="all")
                source = await feed.source()
                stored = 0 if source is None else source.pending
                assert stored in {0, len(items)}
                if not isinstance(result, BaseException):
                    assert stored == len(items)
                assert len((await observe(feed, items)).new) == len(items)
                with Values(server) as values:
                    assert values.check_indexes() == len(items)


class TestRefused:
    """Servers that refuse writes, and replicas that are not there."""

    @pytest.mark.parametrize(
        ("setting", "advice"),
        [
            ("maxmemory", "Raise maxmemory"),
            ("min-replicas-to-write", "Too few replicas"),
        ],
    )
    async def test_nothing_is_written(
        self, server: Valkey, setting: str, advice: str
    ) -> None:
        """A server that refuses a write refuses the whole observation."""
        async with to(server) as store:
            feed = store.namespace("feed")
            await prepare(feed)
            with Values(server) as values, server.client() as client:
                before = values.all()
                client.config_set(setting, 1)
                for call in (
                    lambda: observe(feed, AFTER),
                    lambda: observe(store.namespace("other"), AFTER),
                    lambda: feed.failed("no route"),
                ):
                    with pytest.raises(StoreUnavailableError, match=advice):
                        await call()
                assert values.all() == before
                pending = [one.key async for one in feed.records(state="pending")]
                assert sorted(pending) == ["edited", "former"]
                client.config_set(setting, 0)
            assert keys((await observe(feed, AFTER)).new) == NEW
            await check_after(feed)

    async def test_replicas(self, server: Valkey) -> None:
        """Without the replicas that are demanded it is unknown; the next is right."""
        async with to(server, wait_replicas=1, timeout=3) as store:
            feed = store.namespace("feed")
            with pytest.raises(OutcomeUnknownError, match="0 of 1 replicas"):
                await observe(feed, "ab")
            with Valkey(replicaof=f"{HOST} {server.port}", **DURABLE) as replica:
                with replica.client() as client:
                    while client.info("replication")["master_link_status"] != "up":
                        await asyncio.sleep(0.01)
                assert keys((await observe(feed, "abc")).new) == ["c"]
                with replica.client() as client:
                    assert client.exists(redis_key("c", "feed")) == 1


class TestRaces:
    """Others who change the same source, or its keys."""

    @pytest.mark.parametrize("number", range(6))
    async def test_change_between_read_and_commit(
        self, server: Valkey, number: int
    ) -> None:
        """What others do after the read is neither undone nor repeated."""
        async with to(server) as store, to(server) as other:
            feed, beside = store.namespace("feed"), other.namespace("feed")
            await prepare(feed)

            async def claimed() -> None:
                async with beside.claim("edited") as claim:
                    assert claim.note == "old"

            async def forgot() -> None:
                assert await beside.forget("k0")

            acts: list[Callable[[], Awaitable[object]]] = [
                lambda: beside.mark_seen("new1"),
                lambda: beside.failed("no route"),
                lambda: observe(beside, AFTER),
                lambda: observe(beside, BEFORE),
                claimed,
                forgot,
            ]
            with before_commit(acts[number]):
                seen = await observe(feed, AFTER)
            expected = [key for key in NEW if (number, key) != (0, "new1")]
            if number == 4:
                expected.remove("edited")
            assert keys(seen.new) == expected
            if number != 3:
                assert keys(seen.replaced) == (["other 5"] if number != 2 else [])
            if number == 5:
                assert "k0" in keys((await observe(feed, AFTER)).new)
                expected.insert(0, "k0")
            notes = await handled(feed)
            assert len(notes) == len(set(notes)) >= len(expected)
            assert await handled(beside) == []
            with Values(server) as values:
                values.check_indexes()

    async def test_first_listing_beside_a_mark(self, server: Valkey) -> None:
        """A key that is marked while a baseline is under way stays as it is."""
        async with to(server) as store, to(server) as other:
            feed, beside = store.namespace("feed"), other.namespace("feed")
            with before_commit(lambda: beside.mark_seen("b", note="theirs")):
                seen = await observe(feed, "abc")
            assert (keys(seen.new), seen.baseline) == (["a", "c"], 0)
            record = await feed.get("b")
            assert record is not None
            assert record.note == "theirs"

    async def test_change_without_end(self, server: Valkey) -> None:
        """An observation that is always overtaken fails in the end, with nothing."""
        async with to(server, timeout=1) as store, to(server) as other:
            feed, beside = store.namespace("feed"), other.namespace("feed")
            with (
                before_commit(lambda: beside.failed("no route"), only_first=False),
                pytest.raises(StoreUnavailableError, match="fewer programs"),
            ):
                await observe(feed, "abc")
            assert await feed.count() == 0

    @pytest.mark.parametrize("seed", range(4))
    async def test_two_stores_observe_and_handle(  # noqa: C901
        self, server: Valkey, seed: int
    ) -> None:
        """Each item is handled once, however many observe and handle at once."""
        chance = random.Random(seed)
        names = [f"item {number}" for number in range(160)]
        done: Counter[str] = Counter()
        rules = FeedRules(retry_after=0.01)
        async with (
            to(server, timeout=60, feeds=rules) as store,
            to(server, timeout=60, feeds=rules) as other,
        ):
            views = [one.namespace("feed") for one in (store, other)]
            await baseline(views[0], ["z"])

            async def poll(feed: AsyncSeenStore) -> None:
                at = 0
                while at < len(names):
                    first = max(0, at - chance.randrange(30))
                    at += chance.randrange(1, 12)
                    await observe(feed, names[first:at])

            async def handle_one(key: str) -> None:
                await asyncio.sleep(0)
                if chance.random() < 0.2:
                    raise HandlingError
                done[key] += 1

            async def handle(feed: AsyncSeenStore) -> None:
                while done.total() < len(names):
                    async for claim in feed.pending(lease=30):
                        try:
                            async with claim:
                                await handle_one(claim.key)
                        except HandlingError:
                            pass

            await asyncio.gather(*map(poll, views), *map(handle, views * 2))
            assert done == Counter(names)
            for feed in views:
                assert await handled(feed) == []
                source = await feed.source()
                assert source is not None
                assert source.pending == 0
            with Values(server) as values:
                assert values.check_indexes() == len(names) + 1


class HandlingError(Exception):
    """An item could not be handled."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """A cluster of the tests of this module."""
    with ValkeyCluster(**DURABLE) as made:
        yield made


class TestSlots:
    """A slot of a cluster that moves to another node."""

    async def test_moving_slot(self, cluster: ValkeyCluster) -> None:
        """Meanwhile nothing is recorded by halves, and afterwards all is there."""
        async with to(cluster, timeout=1) as store, to(cluster) as other:
            feed = store.namespace("feed")
            await prepare(feed)
            claim = await feed.claim("edited", lease=600)
            with Values(cluster) as values:
                before = values.all()
                names = sorted(before)
                with migration(cluster, "feed") as step:
                    step(names[: len(names) // 2])
                    calls: list[Callable[[], Awaitable[object]]] = [
                        lambda: observe(feed, AFTER),
                        lambda: feed.forget("k1"),
                        claim.confirm,
                    ]
                    for call in calls:
                        with pytest.raises(StoreError):
                            await call()
                    assert not await feed.check_and_mark("k2")
                    step(names[len(names) // 2 :])
                assert values.all() == before
            feed = other.namespace("feed")
            records = feed.records(state="claimed")
            assert [one.key async for one in records] == ["edited"]
            await (await feed.claim("former")).confirm()
            assert not keys((await observe(feed, BEFORE)).new)
            with Values(cluster) as values:
                values.check_indexes()


class TestForeign:
    """Names that another program has taken."""

    async def test_row(self, server: Valkey) -> None:
        """A key of another program fails the observation, and nothing is written."""
        async with to(server) as store:
            feed = store.namespace("feed")
            with Values(server) as values:
                values.set(redis_key("b", "feed"), b"hello")
                before = values.all()
                with pytest.raises(SchemaError, match="another program"):
                    await observe(feed, "abc")
                assert values.all() == before

    @pytest.mark.parametrize("value", [b"hello", b"\xc6q[", b"\xc6q{}"])
    async def test_source(self, server: Valkey, value: bytes) -> None:
        """So does the name of the source."""
        async with to(server) as store:
            feed = store.namespace("feed")
            with Values(server) as values:
                values.set(KeyCodec("seen").source("feed")[0], value)
                before = values.all()
                calls: list[Callable[[], Awaitable[object]]] = [
                    lambda: observe(feed, "abc"),
                    feed.source,
                    lambda: feed.failed("x"),
                ]
                for call in calls:
                    with pytest.raises(SchemaError, match="another program"):
                        await call()
                assert values.all() == before
                assert await store.namespaces() == []


@contextmanager
def before_commit(
    act: Callable[[], Awaitable[object]], *, only_first: bool = True
) -> Iterator[None]:
    """Let somebody act between the read of an observation and its commit."""
    commit, is_acting = Observing.commit, False

    async def late(
        observing: Observing, namespace: str, changes: Commit
    ) -> Waits | None:
        nonlocal is_acting, act
        if not is_acting:
            is_acting = True
            await act()
            is_acting = only_first
        return await commit(observing, namespace, changes)

    with (
        patch.object(Observing, "commit", late),
        patch.object(listings, "_LAST_PAUSE", 0.01),
    ):
        yield


@contextmanager
def migration(
    cluster: ValkeyCluster, namespace: str
) -> Iterator[Callable[[Sequence[bytes]], None]]:
    """Move the slot of a namespace to another node; yield what moves some keys."""
    slot = key_slot(redis_key("any", namespace).encode())
    source = slot * 3 >> 14
    target = (source + 1) % 3
    with cluster.nodes[target].client() as new, cluster.nodes[source].client() as old:
        new_id, old_id = (
            str(one.execute_command("CLUSTER", "MYID")) for one in (new, old)
        )
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)

        def step(names: Sequence[bytes]) -> None:
            for name in names:
                old.migrate(HOST, cluster.nodes[target].port, name, 0, 5_000)

        yield step
        for one in (new, old):
            one.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
