"""Clear and rename on Redis, which are stepwise and resumable."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    SchemaError,
    StoreUnavailableError,
    _namespaces,
)
from catalyst_seen.backends.operations import Operation
from catalyst_seen.backends.redis.administration import Remove
from catalyst_seen.backends.redis.keys import KeyCodec
from catalyst_seen.backends.redis.moves import moving
from catalyst_seen.backends.redis.replies import KeyReply
from catalyst_seen.backends.redis.session import Session

from ...support.redis_stores import (
    DURABLE,
    Killed,
    Values,
    impatient,
    killed_after,
    redis_key,
    to,
)
from ...support.servers import Valkey, ValkeyCluster
from .test_layout import session_of

Server = Valkey | ValkeyCluster
KEYS = [f"k{number}" for number in range(12)]


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyCluster]:
    """A cluster that the tests of this module share."""
    with ValkeyCluster(**DURABLE) as made:
        yield made


@pytest.fixture
def cluster(running: ValkeyCluster) -> ValkeyCluster:
    """The cluster, empty."""
    running.clear()
    return running


@pytest.fixture(params=["one", "cluster"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server, and a cluster, both empty."""
    if request.param == "cluster":
        cluster: ValkeyCluster = request.getfixturevalue("running")
        cluster.clear()
        yield cluster
    else:
        with Valkey(**DURABLE) as made:
            yield made


async def fill(store: AsyncSeenStore, namespace: str = "old") -> None:
    """Store marks with notes, and a claim."""
    await store.mark_many(KEYS, namespace=namespace, note=str.upper)
    await store.claim("claimed", namespace=namespace, note="text")


class TestRename:
    """A rename, key by key."""

    async def test_killed_anywhere(self, server: Server) -> None:
        """A killed rename loses nothing; a second call completes it."""
        requests, is_complete = 0, False
        while not is_complete:
            async with to(server) as store:
                await fill(store)
                with Values(server) as values, impatient(page=6):
                    before = values.all()
                    try:
                        with killed_after(requests):
                            await store.rename("new", namespace="old")
                        is_complete = True
                    except Killed:
                        stored = Counter(value for value, _ in values.all().values())
                        assert all(stored[value] for value, _ in before.values())
                        await complete(store)
                    renamed = {
                        name.replace(b"{old}", b"{new}"): value
                        for name, value in before.items()
                    }
                    assert values.all() == renamed
                assert await store.namespaces() == ["new"]
            server.clear()
            requests += 1
        assert requests > 8

    async def test_occupied_name_stays_refused(self, server: Server) -> None:
        """An occupied name is refused before the start; nothing marks a rename."""
        async with to(server) as store:
            await fill(store)
            await store.mark_seen("k", namespace="new")
            with Values(server) as values:
                before = values.all()
                for _ in range(2):
                    with pytest.raises(ValueError, match="has keys already"):
                        await store.rename("new", namespace="old")
                assert values.all() == before

    async def test_completed_rename_leaves_no_marker(self, server: Server) -> None:
        """After a rename its new name is occupied like any other."""
        async with to(server) as store:
            await fill(store)
            await store.rename("new", namespace="old")
            await fill(store)
            with pytest.raises(ValueError, match="has keys already"):
                await store.rename("new", namespace="old")

    async def test_keys_marked_meanwhile_stay(self, server: Server) -> None:
        """Keys that are marked under the new name after a kill are not overwritten."""
        async with to(server) as store:
            await fill(store)
            with impatient(page=6), pytest.raises(Killed), killed_after(9):
                await store.rename("new", namespace="old")
            await store.mark_many([*KEYS, "more"], namespace="new", note="newer")
            with impatient():
                await complete(store)
            assert await store.namespaces() == ["new"]
            notes = {one.key: one.note async for one in store.records(state="seen")}
            assert notes == dict.fromkeys([*KEYS, "more"], "newer")

    async def test_key_changed_meanwhile_is_moved_again(
        self, cluster: ValkeyCluster
    ) -> None:
        """A key that is marked while its copy is under way is moved as it is then."""
        ask = Session.ask
        async with to(cluster) as store, to(cluster) as other:
            await store.mark_seen("k", namespace="old", note="first", ttl=None)

            async def late(
                session: Session,
                operations: Sequence[Operation[object]],
                names: Sequence[bytes],
                *,
                is_replicated: bool = True,
            ) -> list[KeyReply]:
                if session is session_of(store) and isinstance(operations[0], Remove):
                    await other.mark_seen("k", namespace="old", note="second", ttl=None)
                    is_marked.set()
                return await ask(
                    session, operations, names, is_replicated=is_replicated
                )

            is_marked = asyncio.Event()
            with patch.object(Session, "ask", late):
                renaming = asyncio.create_task(store.rename("new", namespace="old"))
                await is_marked.wait()
            await renaming
            assert await store.namespaces() == ["new"]
            record = await store.get("k", namespace="new")
            assert record is not None
            assert record.note == "second"

    async def test_two_stores_at_once(self, server: Server) -> None:
        """While one store renames a namespace, another one is told so."""
        async with to(server) as store:
            await fill(store)
            marker = KeyCodec("seen").renaming("old", "new")
            async with moving(session_of(store), marker, is_lasting=False) as mover:
                assert mover
                with pytest.raises(StoreUnavailableError, match="right now"):
                    await store.rename("new", namespace="old")
            await store.rename("new", namespace="old")

    @pytest.mark.parametrize("value", [b"", b"hello"])
    async def test_foreign_value_in_the_way(self, server: Server, value: bytes) -> None:
        """A value of another program under a new name is not overwritten."""
        async with to(server) as store:
            await fill(store)
            with Values(server) as values:
                values.set(redis_key("k3", "new"), value)
                with pytest.raises(SchemaError, match="another program"):
                    await store.rename("new", namespace="old")
                assert values.get(redis_key("k3", "new")) == value
                values.delete(redis_key("k3", "new"))
                await complete(store)
                assert await store.count(namespace="new") == len(KEYS)


class TestClear:
    """A clear, page by page."""

    async def test_markers_are_removed(self, server: Server) -> None:
        """A clear ends a rename that was not completed."""
        async with to(server) as store:
            await fill(store)
            with impatient(page=6), pytest.raises(Killed), killed_after(9):
                await store.rename("new", namespace="old")
            await store.clear(namespace="new")
            await store.mark_seen("k", namespace="new")
            with pytest.raises(ValueError, match="has keys already"):
                await store.rename("new", namespace="old")

    async def test_other_programs_keys_stay(self, server: Server) -> None:
        """A clear removes neither values of other programs nor the layout."""
        async with to(server) as store:
            await fill(store)
            with Values(server) as values:
                names = [redis_key("text", "old"), "seen:%{old", "seen:old:k", "seen2"]
                for name in names:
                    values.set(name, b"hello")
                assert await store.clear(namespace=None) == len(KEYS) + 1
                assert {name.decode() for name in values.all()} == set(names)
            async with to(server) as other:
                assert await other.count() == 0


class TestScans:
    """Scans by pages."""

    async def test_no_record_is_returned_twice(self) -> None:
        """A key is returned once, also if the server's table shrinks meanwhile."""
        names = [f"k{number}" for number in range(4_000)]
        chance = random.Random(1)
        with Valkey(**DURABLE) as server, patch.object(_namespaces, "_PAGE", 100):
            async with to(server) as store:
                for _ in range(25):
                    await store.mark_many(names)
                    kept = set(chance.sample(names, 400))
                    stop, is_shrunk = chance.randrange(400, 3_000), False
                    returned: Counter[str] = Counter()
                    async for record in store.records():
                        returned[record.key] += 1
                        if returned.total() > stop and not is_shrunk:
                            await store.forget_many(set(names) - kept)
                            is_shrunk = True
                    assert kept <= set(returned)
                    assert max(returned.values()) == 1
                    await store.clear()

    async def test_has_any_ends_with_the_first(self) -> None:
        """The scan for a seen key ends where it has found one."""
        with Valkey(**DURABLE) as server:
            async with to(server) as store:
                await store.mark_many(f"k{number}" for number in range(20_000))
                with server.client() as client:
                    client.config_resetstat()
                    assert await store.has_any()
                    assert client.info("commandstats")["cmdstat_scan"]["calls"] == 1
                    assert not await store.has_any(namespace="other")

    async def test_namespace_is_scanned_in_its_slot(self, server: Server) -> None:
        """On a cluster a scan of a namespace does not read the other slots."""
        async with to(server) as store:
            await store.mark_many(f"k{number}" for number in range(5_000))
            await store.mark_many(KEYS, namespace="https://a.b/?q=*")
            nodes = server.nodes if isinstance(server, ValkeyCluster) else [server]
            for node in nodes:
                with node.client() as client:
                    client.config_resetstat()
            assert await store.count(namespace="https://a.b/?q=*") == len(KEYS)
            scans = 0
            for node in nodes:
                with node.client() as client:
                    scans += client.info("commandstats")["cmdstat_scan"]["calls"]
            assert scans == 3 if isinstance(server, ValkeyCluster) else scans >= 5


async def complete(store: AsyncSeenStore) -> None:
    """Rename again, when the lease of the killed attempt has ended."""
    while True:
        try:
            await store.rename("new", namespace="old")
        except StoreUnavailableError as exc:
            if "right now" not in str(exc):
                raise
        else:
            return
