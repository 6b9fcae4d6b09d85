"""The move of names from the layout of earlier releases to the present one."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Iterator
from unittest.mock import AsyncMock, patch

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SchemaError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends.redis import moves
from catalyst_seen.backends.redis.backend import RedisBackend
from catalyst_seen.backends.redis.moves import Mover, TakenOverError
from catalyst_seen.backends.redis.session import Session

from ...support.redis_stores import (
    DURABLE,
    MARKER,
    Killed,
    Values,
    impatient,
    killed_after,
    old_redis_key,
    redis_key,
    to,
)
from ...support.servers import HOST, Valkey, ValkeyCluster

NAMESPACES = ["", "bbc", "a:b", "{x}", "%{bbc}", "é"]
Server = Valkey | ValkeyCluster


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyCluster]:
    """A cluster that the tests of this module share."""
    with ValkeyCluster(**DURABLE) as made:
        yield made


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


@pytest.fixture
def cluster(running: ValkeyCluster) -> ValkeyCluster:
    """The cluster, empty."""
    running.clear()
    return running


@pytest.fixture
def single() -> Iterator[Valkey]:
    """One server."""
    with Valkey(**DURABLE) as made:
        yield made


async def fill(server: Server) -> dict[bytes, tuple[bytes, int]]:
    """Store keys in every state, as an earlier release did; return them."""
    async with to(server) as store:
        for namespace in NAMESPACES:
            feed = store.namespace(namespace) if namespace else store
            await feed.mark_many(["m1", "m2"])
            await feed.mark_seen("m{3}:x", ttl=None)
            await feed.claim("claimed", lease=600)
            await (await feed.claim("released")).release()
            await feed.claim("held", lease=0.001, on_abandoned="hold")
            await (await feed.claim("confirmed")).confirm()
    with Values(server) as values:
        return values.age()


class TestUpgrade:
    """The first open of a server with names of an earlier release."""

    async def test_names_are_moved_once(self, server: Server) -> None:
        """Every value and expiry stays as it is; a second open scans nothing."""
        present = await fill(server)
        with capture_logs() as logs:
            async with to(server) as store:
                with Values(server) as values:
                    assert values.all() == present
                assert await store.count() == 4 * len(NAMESPACES)
                assert len(await store.held()) == len(NAMESPACES)
                claim = await store.claim("released", namespace="a:b")
                assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)
        assert [(log["event"], log.get("keys")) for log in logs] == [
            ("names_moved", len(present))
        ]
        before = calls(server)
        async with to(server):
            assert calls(server)["scan"] == before["scan"]

    async def test_new_server_gets_the_marker(self, server: Server) -> None:
        """An empty server is marked, so that the next open scans nothing."""
        with capture_logs() as logs:
            async with to(server):
                before = calls(server)
            async with to(server):
                assert calls(server)["scan"] == before["scan"]
        assert logs == []
        with Values(server) as values:
            assert b"layout 2: seen:%{namespace}:key" in (values.get(MARKER) or b"")

    async def test_other_programs_keys_stay(self, server: Server) -> None:
        """Values of other programs, and names with other prefixes, are untouched."""
        names = [
            "seen:a:text",
            "seen2:a:k",
            "seen::\N{SNOWMAN}",
            "seen:%25:k",
            "seen:x",
        ]
        with Values(server) as values:
            for name in names:
                values.set(name, b"m" * 60)
            ours = struct.pack("<d", 1.7e9)
            values.set("seen2:a:k", b"\xc5m" + ours)
            before = values.all()
            async with to(server) as store:
                assert await store.count() == 0
                assert values.all() == before

    async def test_prefix_with_special_characters(self, server: Server) -> None:
        """The names of a prefix with braces and wildcards are moved as well."""
        async with to(server, prefix="s{[*%") as store:
            await store.mark_seen("k", namespace="bbc")
        with Values(server) as values:
            values.delete("s%7B%5B%2A%25:%layout")
            value = values.get("s%7B%5B%2A%25:%{bbc}:k")
            assert value is not None
            values.delete("s%7B%5B%2A%25:%{bbc}:k")
            values.set("s{[*%:bbc:k", value)
            async with to(server, prefix="s{[*%") as store:
                assert await store.is_seen("k", namespace="bbc")
            assert values.get("s{[*%:bbc:k") is None

    async def test_stores_that_open_at_once(self, server: Server) -> None:
        """Of several stores one moves the names, and the others wait for it."""
        present = await fill(server)
        stores = [to(server) for _ in range(5)]
        with impatient(), capture_logs() as logs:
            await asyncio.gather(*(store.open() for store in stores))
        with Values(server) as values:
            assert values.all() == present
        assert [log["event"] for log in logs] == ["names_moved"]
        for store in stores:
            assert await store.is_seen("m1", namespace="bbc")
            await store.aclose()


class TestKills:
    """Programs that are killed while they move names."""

    async def test_killed_anywhere(self, server: Server) -> None:
        """A killed upgrade loses nothing, wherever; the next open completes it."""
        requests, is_complete = 0, False
        while not is_complete:
            present = await fill(server)
            with impatient(page=50):
                store = to(server)
                try:
                    with killed_after(requests):
                        await store.open()
                    is_complete = True
                    await store.aclose()
                except Killed:
                    with Values(server) as values:
                        stored = Counter(value for value, _ in values.all().values())
                        assert all(stored[value] for value, _ in present.values())
                async with to(server):
                    with Values(server) as values:
                        assert values.all() == present
            server.clear()
            requests += 1
        assert requests > 8

    async def test_cancelled_open_is_completed(self, server: Server) -> None:
        """A cancelled open loses nothing; the store opens when that is tried again."""
        present = await fill(server)
        for turns in range(0, 400, 40):
            store = to(server)
            with impatient():
                opening = asyncio.create_task(store.open())
                for _ in range(turns):
                    await asyncio.sleep(0)
                opening.cancel()
                await asyncio.wait({opening})
                if opening.cancelled():
                    await store.open()
            with Values(server) as values:
                assert values.all() == present
                await store.aclose()
                values.age()

    async def test_late_copy_is_refused(self, cluster: ValkeyCluster) -> None:
        """A store that lost its lease brings no key back that was forgotten since."""
        await fill(cluster)
        async with to(cluster) as store:
            session = session_of(store)
            with Values(cluster) as values:
                value = values.get(redis_key("m1"))
                assert value is not None
                values.set(old_redis_key("m1"), value)
                await store.forget("m1")
                ended = session.clock.now() - 0.1
                late = Mover(session, b"", "", ended + moves._MARGIN)
                with (
                    patch.object(late, "_renew", AsyncMock()),
                    pytest.raises(TakenOverError),
                ):
                    await late.move(
                        [("", "m1")],
                        [old_redis_key("m1").encode()],
                        [redis_key("m1").encode()],
                    )
                assert values.get(old_redis_key("m1")) == value
            assert not await store.is_seen("m1")

    async def test_newer_copy_stays(self, server: Server) -> None:
        """A row under the new name stays if it is newer, and else is replaced."""
        async with to(server) as store:
            await store.mark_many(["newer", "older"], ts=1_700_000_000, ttl=None)
        with Values(server) as values:
            values.age()
            async with to(server) as store:
                pass
            old = values.get(redis_key("newer"))
            assert old is not None
            values.set(old_redis_key("newer"), old)
            async with to(server) as store:
                await store.mark_seen("newer", ts=1_700_000_001, ttl=None)
            values.set(redis_key("older"), b"\xc5m" + struct.pack("<d", 1.6e9))
            values.set(old_redis_key("older"), old)
            values.delete(MARKER)
            async with to(server) as store:
                last = {one.key: one.last_seen async for one in store.records()}
            assert last == {"newer": 1_700_000_001, "older": 1_700_000_000}
            assert len(values.all()) == 2


class TestOtherReleases:
    """Programs of other releases on the same server."""

    async def test_names_written_later_are_reported(self, server: Server) -> None:
        """Names that an earlier release writes later are reported by every scan."""
        async with to(server) as store:
            await store.mark_seen("k")
            with Values(server) as values:
                value = values.get(redis_key("k"))
                assert value is not None
                values.set(old_redis_key("late", "bbc"), value)
                values.set(old_redis_key("other"), b"another program's")
                assert await store.check()
                with capture_logs() as logs:
                    assert await store.count() == 1
                    (alarm,) = (await store.stats()).alarms
                assert alarm.startswith("1 keys have names of an older release")
                assert [log["event"] for log in logs] == ["old_names_found"]
                assert (await store.check()).problems == (alarm,)
                values.delete(MARKER)  # as the alarm says
                async with to(server) as other:
                    assert await other.is_seen("late", namespace="bbc")
                assert await store.check(full=True)
                assert await store.count() == 2

    async def test_full_check_finds_them(self, server: Server) -> None:
        """A full check scans the names."""
        async with to(server) as store:
            await store.mark_seen("k")
            with Values(server) as values:
                value = values.get(redis_key("k"))
                assert value is not None
                values.set(old_redis_key("late"), value)
            assert await store.check()
            assert not await store.check(full=True)

    async def test_newer_layout_is_refused(self, single: Valkey) -> None:
        """A server that a newer release has marked is refused, and not changed."""
        async with to(single):
            pass
        with Values(single) as values:
            marker = values.get(MARKER)
            assert marker is not None
            newer = marker.replace(b"layout 2", b"layout 3")
            values.set(MARKER, newer)
            with pytest.raises(
                SchemaError, match="layout of its names is newer than 2"
            ):
                await to(single).open()
            assert values.get(MARKER) == newer

    async def test_foreign_marker_is_refused(self, single: Valkey) -> None:
        """A marker of another program is refused, and not changed."""
        with Values(single) as values:
            for text in (b"hello", b"\xc5M" + b"\0" * 9 + b"hello"):
                values.set(MARKER, text)
                with pytest.raises(SchemaError):
                    await to(single).open()
                assert values.get(MARKER) == text


class TestRefusals:
    """Servers that refuse the move."""

    async def test_full_server(self, single: Valkey) -> None:
        """A full server opens if its names have been moved, and else says why not."""
        await fill(single)
        with single.client() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(
                StoreUnavailableError, match="Raise maxmemory"
            ) as caught:
                await to(single).open()
            assert "has to mark the layout" in caught.value.__notes__[0]
            client.config_set("maxmemory", 0)
            async with to(single):
                client.config_set("maxmemory", 1)
                async with to(single) as store:
                    assert await store.is_seen("m1")

    async def test_user_who_may_not_write(self, single: Valkey) -> None:
        """A user who may only read opens a marked server, and no other."""
        with single.client() as client:
            client.acl_setuser(
                "reader", enabled=True, passwords=["+pw"], keys=["seen:*"],
                commands=["+@read", "+@scripting", "+info", "+time"],
            )  # fmt: skip
            reader = f"redis://reader:pw@{HOST}:{single.port}"
            with pytest.raises(StoreUnavailableError, match="may do") as caught:
                await AsyncSeenStore(reader).open()
            assert "has to mark the layout" in caught.value.__notes__[0]
            async with to(single) as store:
                await store.mark_seen("k")
            async with AsyncSeenStore(reader) as store:
                assert await store.is_seen("k")

    async def test_missing_replica_keeps_the_old_names(
        self, cluster: ValkeyCluster
    ) -> None:
        """No name is removed before the replicas have its copy."""
        present = await fill(cluster)
        with pytest.raises(OutcomeUnknownError, match="0 of 1 replicas"):
            await to(cluster, "?socket_timeout=0.2", wait_replicas=1).open()
        with Values(cluster) as values:
            names = [name for name in values.all() if not name.startswith(b"seen:%{")]
            assert len(names) == len(present)
            async with to(cluster):
                assert values.all() == present


def session_of(store: AsyncSeenStore) -> Session:
    """Return the session of an open store."""
    backend = store._lifecycle.backend
    assert isinstance(backend, RedisBackend)
    return backend._connected()


def calls(server: Server) -> Counter[str]:
    """Count the calls of each command, on all nodes."""
    counts: Counter[str] = Counter()
    for node in server.nodes if isinstance(server, ValkeyCluster) else [server]:
        with node.client() as client:
            for name, one in client.info("commandstats").items():
                counts[name.removeprefix("cmdstat_")] += one["calls"]
    return counts
