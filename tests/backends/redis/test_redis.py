"""Behaviour of a store that is specific to Redis and Valkey, with real faults."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
import redis
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    OutcomeUnknownError,
    SchemaError,
    SeenStore,
    SeenStoreConfig,
    StoreError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.redis import RedisBackend
from catalyst_seen.backends.redis.pipeline import Arg
from catalyst_seen.backends.redis.session import Session

from ...faults.harness.checker import History, Outcome
from ...faults.harness.report import Fault
from ...support.clock import Clock
from ...support.link import Link
from ...support.redis_stores import DURABLE, MARKER, redis_key, to
from ...support.servers import HOST, Valkey, ValkeyCluster, free_port
from ...support.waiting import waits_for_the_rest_only

SECRET = "s3cret-w0rd"  # noqa: S105 - of a server that lives for a test


def commands(server: Valkey) -> Counter[str]:
    """Count the calls of each command of a server."""
    with server.client() as client:
        stats = client.info("commandstats")
    return Counter(
        {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    )


class TestOpening:
    """The checks at open."""

    @pytest.mark.torture
    @pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
    async def test_open_refuses_an_evicting_server(
        self, policy: str, fault: Fault
    ) -> None:
        """A server that evicts keys is refused, or if that is allowed, warned of."""
        row = fault("H2", f"Valkey with maxmemory-policy {policy}")
        with Valkey(maxmemory_policy=policy, **DURABLE) as server:
            with pytest.raises(ConfigurationError, match=f"has {policy}.*noeviction"):
                await to(server).open()
            with capture_logs() as logs:
                async with to(server, allow_eviction=True) as store:
                    assert await store.check_and_mark("k")
                    (problem,) = (await store.check()).problems
                    assert f"maxmemory-policy is {policy}" in problem
            assert [log["event"] for log in logs] == ["eviction_allowed"]
        row.passed()
        row.note("refused; where it is allowed, a warning")

    async def test_open_warns_without_persistence(self) -> None:
        """Opening warns of a server that writes nothing to the disk."""
        with Valkey() as server, capture_logs() as logs:
            async with to(server) as store:
                (problem,) = (await store.check()).problems
                assert "all marks are lost" in problem
            assert [log["event"] for log in logs] == ["persistence_off"]
            with server.client() as client:
                client.config_set("save", "3600 1")
            async with to(server) as store:
                assert await store.check()
        assert len(logs) == 1

    async def test_open_refuses_an_old_server(self, server: Valkey) -> None:
        """A server version below the minimum is refused."""
        old = to(server, tuning=Tuning(oldest_redis=(99, 0)))
        with pytest.raises(ConfigurationError, match=r"7\.0 is needed"):
            await old.open()

    async def test_open_refuses_a_replica(self, server: Valkey) -> None:
        """A replica is refused, because it accepts no writes."""
        with (
            Valkey(replicaof=f"{HOST} {server.port}", **DURABLE) as replica,
            pytest.raises(StoreUnavailableError, match=r"replica.*the primary"),
        ):
            await to(replica).open()

    async def test_open_fails_fast_then_reopens(self) -> None:
        """An unreachable address fails without retries; the store can open later."""
        port = free_port()
        store = AsyncSeenStore(f"redis://:{SECRET}@{HOST}:{port}")
        with pytest.raises(StoreUnavailableError, match=str(port)) as caught:
            await store.open()
        assert SECRET not in f"{caught.value!r} {caught.value} {store!r}"
        async with at_port(port), store:
            assert await store.check_and_mark("k")

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ("?socket_timeout=long", "make nothing of it"),
            ("?no_such_option=1", "no option .no_such_option"),
        ],
    )
    def test_bad_url_is_not_repeated(self, options: str, problem: str) -> None:
        """A URL that redis-py refuses is refused, and not repeated in the message."""
        for scheme in ("redis", "valkey+cluster"):
            with pytest.raises(ConfigurationError, match=problem) as caught:
                AsyncSeenStore(f"{scheme}://:{SECRET}@{HOST}:1{options}")
            assert SECRET not in str(caught.value)
            assert caught.value.__cause__ is None

    async def test_wrong_password_is_not_retried(self) -> None:
        """A wrong password fails without retries, and appears in no message."""
        with Valkey(requirepass="another", **DURABLE) as server:
            for user in (f":{SECRET}@", ""):
                store = AsyncSeenStore(f"redis://{user}{HOST}:{server.port}")
                async with asyncio.timeout(25):  # that of the store is 30 seconds
                    with pytest.raises(
                        StoreUnavailableError, match="password"
                    ) as caught:
                        await store.open()
                assert SECRET not in f"{caught.value!r} {caught.value} {store!r}"

    async def test_password_is_never_shown(self) -> None:
        """The password appears in no error and no log event of a lost server."""
        with capture_logs() as logs, Valkey(requirepass=SECRET, **DURABLE) as server:
            config = SeenStoreConfig(url=server.url, purge_interval=None, timeout=3)
            async with AsyncSeenStore(config) as store:
                assert await store.check_and_mark("k")
                server.kill()
                with pytest.raises(StoreError) as caught:
                    await store.check_and_mark("another")
                assert not await store.is_seen("a third")
        error = caught.value
        shown = f"{error!r} {error} {error.__cause__!r} {store!r} {config!r} {logs}"
        assert "lookup_failed" in shown
        assert SECRET not in shown

    async def test_missing_database_is_not_retried(self, server: Valkey) -> None:
        """A database that the server does not have fails without retries."""
        with pytest.raises(StoreUnavailableError, match="database that the server has"):
            await to(server, "/99").open()

    async def test_open_names_a_missing_permission(self, server: Valkey) -> None:
        """A user without permission to run scripts is refused with that reason."""
        with server.client() as client:
            client.acl_setuser(
                "poller", enabled=True, passwords=["+pw"], keys=["*"],
                commands=["+@all", "-@scripting"],
            )  # fmt: skip
        store = AsyncSeenStore(f"redis://poller:pw@{HOST}:{server.port}")
        with pytest.raises(StoreUnavailableError, match="may do") as caught:
            await store.open()
        assert isinstance(caught.value.__cause__, NoPermissionError)

    async def test_config_permission_is_optional(self, server: Valkey) -> None:
        """A user without permission to read the configuration can use a store."""
        with server.client() as client:
            client.acl_setuser(
                "poller", enabled=True, passwords=["+pw"], keys=["seen:*"],
                commands=["+@read", "+@write", "+@scripting", "+info", "+time"],
            )  # fmt: skip
        async with AsyncSeenStore(f"redis://poller:pw@{HOST}:{server.port}") as store:
            assert await store.check_and_mark("k")
            assert await store.count() == 1

    async def test_blocking_store_takes_a_url(self, server: Valkey) -> None:
        """SeenStore accepts the same URLs."""
        with SeenStore(server.url) as store:
            assert store.check_and_mark("k")
            assert not store.check_and_mark("k")


@asynccontextmanager
async def at_port(port: int) -> AsyncIterator[Valkey]:
    """Run a server on a port that was free."""
    server = Valkey(**DURABLE)
    server.port = port
    with server:
        yield server


class TestUsersClient:
    """A client that the user passes."""

    async def test_store_uses_the_users_client(self, server: Valkey) -> None:
        """The user's client is used with its settings, and not closed."""
        client = Redis(host=HOST, port=server.port, decode_responses=True)
        async with client:
            config = SeenStoreConfig(prefix="mine", purge_interval=None)
            async with AsyncSeenStore(RedisBackend(client, config)) as store:
                assert await store.check_and_mark("k", namespace="a:b")
                assert not await store.check_and_mark("k", namespace="a:b")
                assert await store.count() == 1
            assert sorted(await client.keys()) == ["mine:%layout", "mine:%{a:b}:k"]
            async with AsyncSeenStore(RedisBackend(client, config)) as store:
                assert await store.is_seen("k", namespace="a:b")

    async def test_store_uses_a_cluster_client(self) -> None:
        """The user's cluster client is used, and not closed."""
        with ValkeyCluster(**DURABLE) as cluster:
            async with RedisCluster.from_url(
                cluster.nodes[1].url.replace("valkey", "redis")
            ) as client:
                async with AsyncSeenStore(RedisBackend(client)) as store:
                    assert await store.check_and_mark("k")
                assert await client.exists(redis_key("k")) == 1

    async def test_users_connections_stay_open(self, server: Valkey) -> None:
        """The connections of the user's client survive the close of the store."""
        async with Redis(host=HOST, port=server.port) as client:
            before = await client.client_id()
            async with AsyncSeenStore(RedisBackend(client)) as store:
                assert await store.check_and_mark("k")
            assert await client.client_id() == before

    async def test_exhausted_pool_is_reported(self, server: Valkey) -> None:
        """If the pool has no free connection for too long, the error says so."""
        pool = BlockingConnectionPool(
            host=HOST, port=server.port, max_connections=1, timeout=0.05
        )
        async with Redis(connection_pool=pool) as client:
            config = SeenStoreConfig(timeout=2, purge_interval=None)
            async with AsyncSeenStore(RedisBackend(client, config)) as store:
                taken = await pool.get_connection()
                with pytest.raises(StoreUnavailableError, match="onnection"):
                    await store.check_and_mark("k")
                await pool.release(taken)
                assert await store.check_and_mark("k")
        await pool.aclose()

    def test_other_targets_are_refused(self) -> None:
        """A target that is neither a URL nor a client is refused."""
        with pytest.raises(TypeError, match="must be a URL"):
            RedisBackend(object())  # type: ignore[arg-type]


class TestRoundTrips:
    """Group commit over the network."""

    async def test_many_tasks_share_a_round_trip(self, server: Valkey) -> None:
        """Calls of a hundred tasks are sent as one or two script calls."""
        async with to(server) as store:
            await store.check_and_mark("before")
            before = commands(server)["evalsha"]
            marks = (store.check_and_mark(f"k{number}") for number in range(100))
            claims = (store.claim(f"c{number}") for number in range(100))
            assert all(await asyncio.gather(*marks, *claims))
            assert commands(server)["evalsha"] - before <= 2

    async def test_duplicates_write_nothing(self, server: Valkey) -> None:
        """A duplicate, and a claim that is refused, write nothing."""
        async with to(server) as store:
            await store.mark_seen("k")
            await store.claim("c")
            with server.client() as client:
                before = client.info("replication")["master_repl_offset"]
                for _ in range(10):
                    assert not await store.check_and_mark("k")
                    assert not await store.claim("c")
                    assert not await store.filter_new(["k"])
                assert client.info("replication")["master_repl_offset"] == before

    @pytest.mark.torture
    async def test_lost_script_is_loaded_again(
        self, server: Valkey, fault: Fault
    ) -> None:
        """A server that has lost the script receives it again, unnoticed by callers."""
        row = fault("H5", "Valkey, SCRIPT FLUSH before a call")
        async with to(server) as store:
            for key in ("a", "b"):
                with server.client() as client:
                    client.script_flush()
                assert await store.check_and_mark(key)
                assert not await store.check_and_mark(key)
                row.passed()


class TestFailures:
    """A server that fails or refuses."""

    async def test_stalled_server_leaves_it_unknown(self, server: Valkey) -> None:
        """A change sent to a server that stalls is unknown; a read is unavailable."""
        async with to(
            server, "/0?socket_timeout=0.5&socket_connect_timeout=0.5", timeout=2
        ) as store:
            server.pause()
            with pytest.raises(OutcomeUnknownError, match="nobody knows"):
                await store.check_and_mark("k")
            with pytest.raises(StoreUnavailableError) as caught:
                await store.get("k")
            assert not isinstance(caught.value, OutcomeUnknownError)
            server.resume()
            assert not await store.check_and_mark("k")

    async def test_claim_waits_for_the_timeout_alone(self, server: Valkey) -> None:
        """A claim that a frozen server does not answer fails in time.

        Its release goes on in the background, and gives the key back.
        """
        async with to(server, timeout=1.5) as store:
            server.pause()
            started = time.monotonic()
            with pytest.raises(OutcomeUnknownError):
                await store.claim("k", lease=600)
            assert time.monotonic() - started < 2.5
            server.resume()
            async with asyncio.timeout(30):
                assert await store.claim("k", wait=30)

    async def test_call_that_waited_before_waits_for_the_rest_only(
        self, server: Valkey
    ) -> None:
        """A batch gets what its calls have left of the timeout, and no new one."""
        async with to(server, timeout=600) as store:
            await waits_for_the_rest_only(store, server)

    @pytest.mark.torture
    async def test_full_server_still_reads(self, fault: Fault) -> None:
        """A full server stores no new mark, and still reports the stored ones."""
        row = fault("H2", "Valkey full, noeviction")
        with Valkey(**DURABLE) as server:
            async with to(server) as store:
                await store.mark_seen("before")
                with server.client() as client:
                    client.config_set("maxmemory", 1)
                with pytest.raises(StoreUnavailableError, match="Raise maxmemory"):
                    await store.check_and_mark("k")
                with pytest.raises(StoreUnavailableError):
                    await store.mark_many(f"{number}" for number in range(10))
                assert not await store.check_and_mark("before")
                assert await store.is_seen("before")
                seen, marked = await asyncio.gather(
                    store.is_seen("before"),
                    store.mark_seen("k"),
                    return_exceptions=True,
                )
                assert seen is True
                assert isinstance(marked, StoreUnavailableError)
                with server.client() as client:
                    client.config_set("maxmemory", 0)
                assert await store.check_and_mark("k")
        row.passed()

    @pytest.mark.parametrize(
        ("setting", "advice"),
        [
            ("maxmemory", "Raise maxmemory"),
            ("min-replicas-to-write", "Too few replicas"),
        ],
    )
    async def test_refused_write_fails_its_own_key_only(
        self, server: Valkey, setting: str, advice: str
    ) -> None:
        """A server that refuses writes answers what needs none, in the same batch."""
        old = [f"old{number}" for number in range(9)]
        async with to(server) as store:
            await store.mark_many(old)
            claim = await store.claim("claimed")
            with server.client() as client:
                client.config_set(setting, 1)
                _, marked, confirmed, *told = await asyncio.gather(
                    store.get("old0"),
                    store.mark_seen("new"),
                    claim.confirm(),
                    *map(store.check_and_mark, old),
                    store.claim("old1"),
                    store.claim("claimed"),
                    return_exceptions=True,
                )
                for refused in (marked, confirmed):
                    assert isinstance(refused, StoreUnavailableError)
                    assert advice in str(refused)
                verdicts = [getattr(one, "verdict", one) for one in told]
                assert verdicts == [Verdict.DUPLICATE] * 10 + [Verdict.IN_FLIGHT]
                assert not any(await store.check_and_mark_many(old))
                # Nothing was changed, so the outcome of the call is known.
                with pytest.raises(StoreUnavailableError, match=advice):
                    await store.check_and_mark_many([*old, "new"])
                client.config_set(setting, 0)
            assert await store.check_and_mark("new")
            await claim.confirm()

    async def test_forget_counts_under_every_name(self, server: Valkey) -> None:
        """What a store forgets counts at once under every name of the server."""
        other_name = server.url.replace("127.0.0.1", "localhost")
        other_name = other_name.replace("valkey://", "redis://")
        async with AsyncSeenStore(server.url) as store:
            async with AsyncSeenStore(other_name) as other:
                await store.mark_seen("k")
                assert await store.is_seen("k")
                await other.forget("k")
            assert await store.check_and_mark("k")

    async def test_demoted_primary_is_reported(self, server: Valkey) -> None:
        """A primary that became a replica is reported; its promotion mends that."""
        with Valkey(**DURABLE) as other:
            async with to(server) as store:
                with server.client() as client:
                    client.replicaof(HOST, other.port)
                    with pytest.raises(StoreUnavailableError, match="name the primary"):
                        await store.check_and_mark("k")
                    client.replicaof("NO", "ONE")
                assert await store.check_and_mark("k")

    async def test_loading_server_is_retried(self) -> None:
        """Calls are retried while a restarted server loads its data."""
        with Valkey(
            key_load_delay="50000", loading_process_events_interval_bytes="1024"
        ) as server:
            async with to(server, timeout=60) as store:
                await store.mark_many(f"k{number}" for number in range(200))
                with server.client() as client:
                    client.save()
                server.kill()
                starting = asyncio.create_task(asyncio.to_thread(server.start))
                marks: list[object] = []
                while not starting.done():
                    marks.append(await store.check_and_mark(f"k{len(marks)}"))
                await starting
                assert marks
                assert not any(marks)
                with server.client() as client:
                    assert "errorstat_LOADING" in client.info("errorstats")

    async def test_cancelled_claim_is_released(self, server: Valkey) -> None:
        """A claim cancelled while the server stalls is released afterwards."""
        async with to(server) as store:
            server.pause()
            claiming = asyncio.ensure_future(store.claim("k"))
            await asyncio.sleep(0.05)
            claiming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await claiming
            server.resume()
            while (claim := await store.claim("k")).verdict is Verdict.IN_FLIGHT:
                assert claim.retry_after is not None
            assert claim.verdict in {Verdict.NEW, Verdict.RETRY}


class TestForeignKeys:
    """Keys of other programs and of other stores in the same database."""

    async def test_foreign_value_is_untouched(self, server: Valkey) -> None:
        """Another program's value is untouched, and fails only its own key."""
        async with to(server) as store:
            with server.client() as client:
                client.set(redis_key("text"), "hello")
                client.lpush(redis_key("list"), "hello")
            for key in ("text", "list"):
                foreign, own = await asyncio.gather(
                    store.check_and_mark(key),
                    store.check_and_mark(f"beside {key}"),
                    return_exceptions=True,
                )
                assert isinstance(foreign, SchemaError)
                assert "choose another prefix" in str(foreign)
                assert key not in str(foreign)  # for it is logged
                assert foreign.__notes__ == [f"It is {key!r}."]
                assert own
            assert await store.count() == 2
            with server.client() as client:
                assert client.get(redis_key("text")) == "hello"

    @pytest.mark.parametrize("size", [1, 60])
    @pytest.mark.parametrize("letter", "msMS")
    async def test_similar_value_is_foreign(
        self, server: Valkey, letter: str, size: int
    ) -> None:
        """A text with the letter or the size of our values is another program's."""
        text = letter * size
        async with to(server) as store:
            with server.client() as client:
                client.set(redis_key("k"), text)
                for call in (
                    store.check_and_mark, store.claim, store.mark_seen, store.forget,
                ):  # fmt: skip
                    before, foreign, after = await asyncio.gather(
                        store.check_and_mark(f"before {call.__name__}"),
                        call("k"),
                        store.check_and_mark(f"after {call.__name__}"),
                        return_exceptions=True,
                    )
                    assert isinstance(foreign, SchemaError)
                    for own in (before, after):
                        assert getattr(own, "verdict", own) is Verdict.NEW
                    assert client.get(redis_key("k")) == text
            assert await store.cleanup_old_entries(0) == 8

    async def test_foreign_key_among_claims(self, server: Valkey) -> None:
        """If one key of many is foreign, the claims of the others are released."""
        async with to(server) as store:
            with server.client() as client:
                client.set(redis_key("text"), "message")
            with pytest.raises(OutcomeUnknownError, match="1 of 3 keys failed"):
                await store.claim_many(["a", "text", "b"], lease=60)
            verdicts = [(await store.claim(key)).verdict for key in ("a", "b")]
            assert verdicts == [Verdict.RETRY] * 2
            with pytest.raises(SchemaError):
                await store.claim("text")

    async def test_foreign_names_are_not_listed(self, server: Valkey) -> None:
        """Keys of other programs that match the prefix are skipped by every listing."""
        names = [
            b"seen", b"seen:", b"seen:abc", b"seen:a:k", b"seen:\xff:k", b"seen:%{}:",
            b"seen:%{}k", b"seen:%{a:k", b"seen:%{a}", b"seen:%{\xff}:k",
            b"seen:%{}:\xff\xfe", b"seen:%{%41}:k", b"seen:%{a}b}:k",
        ]  # fmt: skip
        async with to(server) as store:
            with server.client() as client:
                for name in names:
                    client.set(name, "hello")
                await store.mark_seen("k")
                await store.claim("h", lease=0.001, on_abandoned="hold")
                while not (held := await store.held()):
                    await asyncio.sleep(0.005)
                assert [record.key for record in held] == ["h"]
                for namespace in (None, ""):
                    assert await store.count(namespace=namespace) == 1
                    stats = await store.stats(namespace=namespace)
                    assert stats.keys_by_namespace == {"": 1}
                assert await store.cleanup_old_entries(0) == 1
                assert client.exists(*names) == len(names)

    async def test_longer_prefix_is_another_store(self, server: Valkey) -> None:
        """A prefix that begins with another prefix belongs to another store."""
        async with to(server) as store, to(server, prefix="seen2") as other:
            await other.mark_many(["a", "b"])
            assert await store.count() == 0
            assert await store.cleanup_old_entries(0) == 0
            await store.mark_seen("a")
            assert await store.cleanup_old_entries(0) == 1
            assert await other.count() == 2

    async def test_wildcards_match_only_themselves(self, server: Valkey) -> None:
        """Wildcards in a prefix or a namespace match only themselves."""
        namespaces = ["a*", "ab", "a?", "[ab]", "a", "\\", "^"]
        async with to(server, prefix="s[ab]*") as store:
            with server.client() as client:
                client.set("sab:%{}:k", "hello")
            for namespace in namespaces:
                await store.mark_seen("k", namespace=namespace)
            for namespace in namespaces:
                assert await store.count(namespace=namespace) == 1
            assert await store.count() == len(namespaces)

    async def test_escaped_namespaces_are_distinct(self, server: Valkey) -> None:
        """Namespaces that look alike when escaped stay distinct."""
        namespaces = ["a:b", "a%3Ab", "a%253Ab", "a"]
        async with to(server) as store:
            for namespace in namespaces:
                assert await store.check_and_mark("k", namespace=namespace)
                assert await store.check_and_mark("b:k", namespace=namespace)
            stats = await store.stats()
            assert stats.keys_by_namespace == dict.fromkeys(namespaces, 2)


class TestExpiry:
    """Expiry by the server."""

    async def test_expired_rows_need_no_purge(self, server: Valkey) -> None:
        """Expired marks and abandoned claims disappear without a purge."""
        async with to(server, ttl_days=0.2 / 86_400) as store:
            await store.mark_many(["a", "b"])
            await store.claim("c", lease=0.1)
            await store.mark_seen("stays", ttl=None)
            assert await store.purge_expired() == 0
            with server.client() as client:
                deadline = time.monotonic() + 60
                while client.dbsize() > 2 and time.monotonic() < deadline:
                    await asyncio.sleep(0.01)
                assert sorted(client.keys()) == [MARKER, redis_key("stays")]
            assert await store.count() == 1

    @pytest.mark.parametrize("part", [0.0, 0.0004, 0.0005])
    async def test_no_row_expires_early(
        self, server: Valkey, clock: Clock, part: float
    ) -> None:
        """No row expires before its TTL, even where that is no whole millisecond."""
        clock.advance(part)
        async with to(server, tuning=Tuning(server_time=clock)) as store:
            await store.mark_seen("k", ttl=1)
            clock.advance(1 - 0.0001)
            assert await store.is_seen("k")
            clock.advance(0.0012)
            assert not await store.is_seen("k")

    async def test_scan_repeats_are_counted_once(self, server: Valkey) -> None:
        """A key that SCAN returns twice is counted once."""
        command = Session.command

        async def twice(session: Session, primary: str, *args: Arg) -> Any:
            _, names = await command(session, primary, *args)
            return (b"7" if args[1] == "0" else b"0"), [*names, *names]

        async with to(server) as store:
            await store.mark_many(["a", "b"])
            with patch.object(Session, "command", twice):
                assert await store.count() == 2
                assert len([one async for one in store.records()]) == 2

    async def test_attempt_counter_saturates(self, server: Valkey) -> None:
        """The attempt counter stops at 65,535, and the next claim still succeeds."""
        stored = b"\xc5c" + struct.pack("<ddHdB", 1, 1, 65_535, 1, 0) + b"token"
        async with to(server) as store:
            with redis.Redis(port=server.port) as client:
                client.set(redis_key("k"), stored)
            for _ in range(2):
                claim = await store.claim("k")
                assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 65_535)
                assert await claim.release()

    async def test_marks_proceed_during_a_count(self, server: Valkey) -> None:
        """Marks of other tasks proceed while all keys are counted."""
        async with to(server) as store:
            await store.mark_many(f"k{number}" for number in range(30_000))
            counting = asyncio.create_task(store.count())
            marks = 0
            while not counting.done():
                assert await store.check_and_mark(f"m{marks}")
                marks += 1
            assert marks > 5
            assert 30_000 <= await counting <= 30_000 + marks


class TestReplicas:
    """``wait_replicas``."""

    async def test_change_waits_for_replicas(self, server: Valkey) -> None:
        """A change is acknowledged only after a replica has it; else it is unknown."""
        with Valkey(replicaof=f"{HOST} {server.port}", **DURABLE) as replica:
            with replica.client() as client:
                while client.info("replication")["master_link_status"] != "up":
                    await asyncio.sleep(0.01)
            async with to(server, "/0?socket_timeout=1", wait_replicas=1) as store:
                assert await store.check_and_mark("k")
                async with store.claim("c") as claim:
                    assert claim
                with replica.client() as client:
                    assert client.exists(redis_key("k"), redis_key("c")) == 2
                replica.pause()
                with pytest.raises(OutcomeUnknownError, match="0 of 1 replicas"):
                    await store.check_and_mark("another")
                with pytest.raises(OutcomeUnknownError):
                    await store.mark_many(["x", "y"])
                assert not await store.check_and_mark("k")
                assert await store.is_seen("another")
                with pytest.raises(OutcomeUnknownError):
                    await store.claim("d", on_abandoned="hold")
                replica.resume()
                assert (await store.claim("d")).verdict is Verdict.RETRY
                assert await store.check_and_mark("again")

    async def test_resent_change_waits_for_replicas(self) -> None:
        """A change resent after the script was loaded waits for replicas both times."""
        async with replicated() as (primary, replica, link):
            async with to(primary, "/0?socket_timeout=2", wait_replicas=1) as store:
                await store.check_and_mark("before")
                link.cut()
                with primary.client() as client:
                    client.script_flush()
                    marking = asyncio.create_task(store.check_and_mark("k"))
                    while not client.exists(redis_key("k")):
                        await asyncio.sleep(0)
                assert not marking.done()
                primary.kill()
                with pytest.raises(OutcomeUnknownError):
                    await marking
            with replica.client() as client:
                assert not client.exists(redis_key("k"))

    async def test_missing_replica_is_reported(self, server: Valkey) -> None:
        """A missing replica is logged at open, and makes each change unknown."""
        with capture_logs() as logs:
            async with to(server, wait_replicas=1) as store:
                with pytest.raises(OutcomeUnknownError):
                    await store.check_and_mark("k")
        assert [log["event"] for log in logs] == ["replicas_missing"]


class TestFailover:
    """A replica that replaces its primary."""

    @pytest.mark.torture
    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("replicas", [0, 1])
    async def test_failover_loses_no_replicated_mark(
        self, fault: Fault, replicas: int, *, torture: bool
    ) -> None:
        """A failover loses marks that were not replicated, and none that were."""
        row = fault(
            "H4", f"failover, link to the replica cut before, wait_replicas={replicas}",
            may_lose=not replicas,
        )  # fmt: skip
        for _ in range(10 if torture else 1):
            seen, history = await fail_over(replicas)
            row.add(history, seen, intact=True)
        if replicas:
            assert row.unknown
        else:
            assert row.lost


async def fail_over(replicas: int) -> tuple[set[str], History]:
    """Mark from many tasks while the replica is cut off and then promoted.

    Returns:
        The keys that are seen in the end, and the outcomes that the tasks received.
    """
    history = History()
    is_over = asyncio.Event()
    async with replicated() as (primary, replica, link):
        options = "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        async with to(primary, options, timeout=20, wait_replicas=replicas) as store:

            async def mark(task: int) -> None:
                number = 0
                while not is_over.is_set():
                    key = f"{task}-{number}"
                    begun = time.monotonic()
                    outcome: Outcome
                    try:
                        outcome = "new" if await store.check_and_mark(key) else "dup"
                    except OutcomeUnknownError:
                        outcome = "unknown"
                    history.tell(key, outcome, time.monotonic() - begun)
                    number += 1

            async def disturb() -> None:
                await asyncio.sleep(0.2)
                link.cut()
                await asyncio.sleep(0.3)
                primary.kill()
                with replica.client() as client:
                    client.replicaof("NO", "ONE")
                    client.config_set("port", primary.port)
                await asyncio.sleep(0.5)
                is_over.set()

            await asyncio.gather(disturb(), *(mark(task) for task in range(20)))
            tried = {key for key, _ in history.told}
            unseen = set(await store.filter_new(sorted(tried)))
    return tried - unseen, history


@asynccontextmanager
async def replicated() -> AsyncIterator[tuple[Valkey, Valkey, Link]]:
    """Run a primary, a replica in sync with it, and the link between them."""
    with (
        Valkey(**DURABLE) as primary,
        Link(primary.port) as link,
        Valkey(replicaof=f"{HOST} {link.port}", **DURABLE) as replica,
    ):
        with replica.client() as client:
            while client.info("replication")["master_link_status"] != "up":
                await asyncio.sleep(0.01)
        yield primary, replica, link
