"""What only Redis and Valkey can do to a store; real servers, real faults."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
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
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends.redis import RedisBackend

from .conftest import Figures
from .link import Link
from .servers import HOST, Valkey, ValkeyCluster, free_port

SECRET = "s3cret-w0rd"  # noqa: S105 - of a server that lives for a test
DURABLE = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "repl_diskless_sync_delay": "0",
}
SOON = 3.0


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A server of this test's own."""
    with Valkey(**DURABLE) as made:
        yield made


def to(
    server: Valkey | ValkeyCluster, options: str = "", **settings: object
) -> AsyncSeenStore:
    """A store on a server, with options of redis-py, without a purge or a memory."""
    config = {
        "purge_interval": None,
        "recent_staleness": 0,
        "timeout": SOON,
        **settings,
    }
    return AsyncSeenStore(SeenStoreConfig(url=server.url + options, **config))  # type: ignore[arg-type]


def commands(server: Valkey) -> Counter[str]:
    """How often the server was asked for what."""
    with server.client() as client:
        stats = client.info("commandstats")
    return Counter(
        {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    )


class TestOpening:
    """What is looked at before anything is promised."""

    @pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
    async def test_eviction(self, policy: str) -> None:
        """A server that evicts is refused; if that is allowed, it is warned of."""
        with Valkey(maxmemory_policy=policy, **DURABLE) as server:
            with pytest.raises(ConfigurationError, match=f"has {policy}.*noeviction"):
                await to(server).open()
            with capture_logs() as logs:
                async with to(server, allow_eviction=True) as store:
                    assert await store.check_and_mark("k")
            assert [log["event"] for log in logs] == ["eviction_allowed"]

    async def test_persistence(self) -> None:
        """A server that writes nothing to the disk is warned of."""
        with Valkey() as server, capture_logs() as logs:
            async with to(server):
                pass
            assert [log["event"] for log in logs] == ["persistence_off"]
            with server.client() as client:
                client.config_set("save", "3600 1")
            async with to(server):
                pass
        assert len(logs) == 1

    async def test_replica(self, server: Valkey) -> None:
        """A replica is refused: it could mark nothing."""
        with (
            Valkey(replicaof=f"{HOST} {server.port}", **DURABLE) as replica,
            pytest.raises(StoreUnavailableError, match=r"replica.*the primary"),
        ):
            await to(replica).open()

    async def test_nobody_there(self) -> None:
        """An address where nobody answers is said at once, and may be tried again."""
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
            ("?no_such_option=1", "make nothing of it"),
        ],
    )
    def test_bad_url(self, options: str, problem: str) -> None:
        """A URL of which redis-py can make nothing is refused without showing it."""
        for scheme in ("redis", "valkey+cluster"):
            with pytest.raises(ConfigurationError, match=problem) as caught:
                AsyncSeenStore(f"{scheme}://:{SECRET}@{HOST}:1{options}")
            assert SECRET not in str(caught.value)
            assert caught.value.__cause__ is None

    async def test_wrong_password(self) -> None:
        """A wrong password is said at once, and appears nowhere."""
        with Valkey(requirepass="another", **DURABLE) as server:
            for user in (f":{SECRET}@", ""):
                store = AsyncSeenStore(f"redis://{user}{HOST}:{server.port}")
                begun = time.monotonic()
                with pytest.raises(StoreUnavailableError, match="password") as caught:
                    await store.open()
                assert time.monotonic() - begun < SOON
                assert SECRET not in f"{caught.value!r} {caught.value} {store!r}"

    async def test_password(self) -> None:
        """The right one appears nowhere either, in errors and logs of a lost server."""
        with capture_logs() as logs, Valkey(requirepass=SECRET, **DURABLE) as server:
            config = SeenStoreConfig(url=server.url, purge_interval=None, timeout=0.1)
            async with AsyncSeenStore(config) as store:
                assert await store.check_and_mark("k")
                server.kill()
                with pytest.raises(StoreUnavailableError) as caught:
                    await store.check_and_mark("another")
                assert not await store.is_seen("a third")
        error = caught.value
        shown = f"{error!r} {error} {error.__cause__!r} {store!r} {config!r} {logs}"
        assert "lookup_failed" in shown
        assert SECRET not in shown

    async def test_wrong_database(self, server: Valkey) -> None:
        """A database that the server does not have is said at once."""
        with pytest.raises(StoreUnavailableError, match="database that the server has"):
            await to(server, "/99").open()

    async def test_forbidden(self, server: Valkey) -> None:
        """A user who may not run scripts is told so."""
        with server.client() as client:
            client.acl_setuser(
                "poller", enabled=True, passwords=["+pw"], keys=["*"],
                commands=["+@all", "-@scripting"],
            )  # fmt: skip
        store = AsyncSeenStore(f"redis://poller:pw@{HOST}:{server.port}")
        with pytest.raises(StoreUnavailableError, match="may do") as caught:
            await store.open()
        assert isinstance(caught.value.__cause__, NoPermissionError)

    async def test_few_rights(self, server: Valkey) -> None:
        """A user who may not look at the configuration can use a store all the same."""
        with server.client() as client:
            client.acl_setuser(
                "poller", enabled=True, passwords=["+pw"], keys=["seen:*"],
                commands=["+@read", "+@write", "+@scripting", "+info", "+time"],
            )  # fmt: skip
        async with AsyncSeenStore(f"redis://poller:pw@{HOST}:{server.port}") as store:
            assert await store.check_and_mark("k")
            assert await store.count() == 1

    async def test_blocking_twin(self, server: Valkey) -> None:
        """SeenStore takes the same URLs."""
        with SeenStore(server.url) as store:
            assert store.check_and_mark("k")
            assert not store.check_and_mark("k")


@asynccontextmanager
async def at_port(port: int) -> AsyncIterator[Valkey]:
    """A server on a port that was free."""
    server = Valkey(**DURABLE)
    server.port = port
    with server:
        yield server


class TestOwnClient:
    """A client that the user brings along."""

    async def test_server(self, server: Valkey) -> None:
        """It is used with its settings, and not closed."""
        client = Redis(host=HOST, port=server.port, decode_responses=True)
        async with client:
            config = SeenStoreConfig(prefix="mine", purge_interval=None)
            async with AsyncSeenStore(RedisBackend(client, config)) as store:
                assert await store.check_and_mark("k", namespace="a:b")
                assert not await store.check_and_mark("k", namespace="a:b")
                assert await store.count() == 1
            assert await client.keys() == ["mine:a%3Ab:k"]
            async with AsyncSeenStore(RedisBackend(client, config)) as store:
                assert await store.is_seen("k", namespace="a:b")

    async def test_cluster(self) -> None:
        """The same for a client of a cluster."""
        with ValkeyCluster(**DURABLE) as cluster:
            async with RedisCluster.from_url(
                cluster.nodes[1].url.replace("valkey", "redis")
            ) as client:
                async with AsyncSeenStore(RedisBackend(client)) as store:
                    assert await store.check_and_mark("k")
                assert await client.exists("seen::k") == 1

    async def test_pool_is_used_up(self, server: Valkey) -> None:
        """Without a free connection for too long, that is what is said."""
        pool = BlockingConnectionPool(
            host=HOST, port=server.port, max_connections=1, timeout=0.05
        )
        async with Redis(connection_pool=pool) as client:
            config = SeenStoreConfig(timeout=0.3, purge_interval=None)
            async with AsyncSeenStore(RedisBackend(client, config)) as store:
                taken = await pool.get_connection()
                with pytest.raises(StoreUnavailableError, match="onnection"):
                    await store.check_and_mark("k")
                await pool.release(taken)
                assert await store.check_and_mark("k")
        await pool.aclose()

    def test_no_client(self) -> None:
        """What is neither a URL nor a client is refused."""
        with pytest.raises(TypeError, match="must be a URL"):
            RedisBackend(object())  # type: ignore[arg-type]


class TestRoundTrips:
    """Group commit, to a server."""

    async def test_one_for_many(self, server: Valkey) -> None:
        """What a hundred tasks ask at once is one call of the script, or two."""
        async with to(server) as store:
            await store.check_and_mark("before")
            before = commands(server)["evalsha"]
            marks = (store.check_and_mark(f"k{number}") for number in range(100))
            claims = (store.claim(f"c{number}") for number in range(100))
            assert all(await asyncio.gather(*marks, *claims))
            assert commands(server)["evalsha"] - before <= 2

    async def test_duplicates_write_nothing(self, server: Valkey) -> None:
        """A duplicate, and a claim that is not given, write nothing."""
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

    async def test_script_is_forgotten(self, server: Valkey) -> None:
        """A server that has lost the script gets it again, and nobody notices."""
        async with to(server) as store:
            for key in ("a", "b"):
                with server.client() as client:
                    client.script_flush()
                assert await store.check_and_mark(key)
                assert not await store.check_and_mark(key)


class TestOwnRetries:
    """A call that is sent again, for its answer did not come."""

    @pytest.mark.torture
    async def test_stalled(
        self, server: Valkey, figures: Figures, *, torture: bool
    ) -> None:
        """A server that stalls longer than its client waits calls nothing seen."""
        rounds, verdicts = 200 if torture else 10, Counter[str]()
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            for number in range(rounds):
                server.pause()
                asyncio.get_running_loop().call_later(0.35, server.resume)
                answers = await asyncio.gather(
                    *(store.check_and_mark(f"m{number}-{one}") for one in range(3)),
                    *(store.claim(f"c{number}-{one}") for one in range(3)),
                )
                verdicts.update(str(getattr(one, "verdict", one)) for one in answers)
            confirmed = await store.confirm_many([await store.claim("last", lease=60)])
            assert confirmed == [True]
        assert verdicts == {"new": 6 * rounds}
        figures(
            f"Valkey stalled 0.35 s, socket timeout 0.2 s, {rounds} times: own marks"
            f" and claims called duplicate or in flight 0 of {6 * rounds}"
        )

    async def test_retried_claim(self, server: Valkey) -> None:
        """What was a retry is one when it is sent again, with the same attempt."""
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            for key in ("marked", "claimed"):
                await (await store.claim(key)).release()
            server.pause()
            asyncio.get_running_loop().call_later(0.35, server.resume)
            sighting, claim = await asyncio.gather(
                store.check_and_mark("marked"), store.claim("claimed")
            )
            assert (sighting.verdict, sighting.attempt) == (Verdict.RETRY, 1)
            assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)

    async def test_cannot_tell(self, server: Valkey) -> None:
        """Who cannot know whether a first attempt was carried out is told so."""
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            await store.mark_many(["a", "b"])
            claim = await store.claim("c")
            server.pause()
            asyncio.get_running_loop().call_later(0.35, server.resume)
            forgotten, seen = await asyncio.gather(
                store.forget("a"), store.is_seen("b"), return_exceptions=True
            )
            assert isinstance(forgotten, OutcomeUnknownError)
            assert "forget" in str(forgotten)
            assert seen is True
            assert not await store.is_seen("a")
            server.pause()
            asyncio.get_running_loop().call_later(0.35, server.resume)
            await claim.confirm()


class TestFailures:
    """A server that is gone, or says no."""

    async def test_killed_and_restarted(self, server: Valkey, figures: Figures) -> None:
        """Marks go on when it is back; none that was acknowledged is lost."""
        won: Counter[str] = Counter()
        unknown: set[str] = set()
        async with to(server, timeout=20) as store:

            async def mark(task: int) -> None:
                for number in range(200):
                    key = f"{task}-{number}"
                    try:
                        won[key] += bool(await store.check_and_mark(key))
                    except OutcomeUnknownError:
                        unknown.add(key)

            async def disturb() -> None:
                for _ in range(3):
                    await asyncio.sleep(random.uniform(0.05, 0.1))
                    server.kill()
                    server.start()

            await asyncio.gather(disturb(), *(mark(task) for task in range(20)))
            keys = [f"{task}-{number}" for task in range(20) for number in range(200)]
            assert await store.filter_new(keys) == []
        lost = [key for key in keys if key not in unknown and won[key] != 1]
        assert lost == []
        assert not unknown
        figures(
            f"Valkey (AOF) killed 3 times under load: {len(keys)} marks, lost or"
            f" doubled {len(lost)}, unknown {len(unknown)}"
        )

    async def test_time_is_over(self, server: Valkey) -> None:
        """Gone for longer than the timeout it is unavailable; later it works again."""
        async with to(server, timeout=0.3) as store:
            assert await store.check_and_mark("before")
            server.kill()
            begun = time.monotonic()
            with pytest.raises(StoreUnavailableError, match=r"tried for 0\.3 seconds"):
                await store.check_and_mark("k")
            with pytest.raises(StoreUnavailableError):
                await store.claim("k")
            assert not await store.is_seen("before")
            assert time.monotonic() - begun < SOON
            server.start()
            assert not await store.check_and_mark("before")
            assert await store.check_and_mark("k")

    async def test_unknown(self, server: Valkey) -> None:
        """What was sent to a server that does not answer any more is unknown."""
        async with to(
            server, "/0?socket_timeout=0.1&socket_connect_timeout=0.1", timeout=0.3
        ) as store:
            server.pause()
            with pytest.raises(OutcomeUnknownError, match="nobody knows"):
                await store.check_and_mark("k")
            with pytest.raises(StoreUnavailableError) as caught:
                await store.get("k")
            assert not isinstance(caught.value, OutcomeUnknownError)
            server.resume()
            assert not await store.check_and_mark("k")

    @pytest.mark.parametrize("how", ["kill", "pause"])
    async def test_close_without_it(self, server: Valkey, how: str) -> None:
        """A store whose server is gone closes within five seconds, calls under way."""
        store = to(server, timeout=60)
        await store.open()
        await store.mark_seen("k")
        getattr(server, how)()
        calls = [
            asyncio.create_task(store.check_and_mark(f"{one}")) for one in range(3)
        ]
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await store.aclose()
        assert time.monotonic() - begun < 5.5
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, StoreClosedError | StoreUnavailableError)
        server.resume() if how == "pause" else server.start()

    async def test_out_of_memory(self) -> None:
        """A full server marks nothing more; what is seen is still answered."""
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

    async def test_becomes_a_replica(self, server: Valkey) -> None:
        """A primary that is one no more says so; when it is again, marks go on."""
        with Valkey(**DURABLE) as other:
            async with to(server) as store:
                with server.client() as client:
                    client.replicaof(HOST, other.port)
                    with pytest.raises(StoreUnavailableError, match="name the primary"):
                        await store.check_and_mark("k")
                    client.replicaof("NO", "ONE")
                assert await store.check_and_mark("k")

    async def test_foreign_key(self, server: Valkey) -> None:
        """Another program's key under our name is left alone, and hinders no other."""
        async with to(server) as store:
            with server.client() as client:
                client.set("seen::text", "hello")
                client.lpush("seen::list", "hello")
            for key in ("text", "list"):
                foreign, own = await asyncio.gather(
                    store.check_and_mark(key),
                    store.check_and_mark(f"beside {key}"),
                    return_exceptions=True,
                )
                assert isinstance(foreign, SchemaError)
                assert "choose another prefix" in str(foreign)
                assert own
            assert await store.count() == 2
            with server.client() as client:
                assert client.get("seen::text") == "hello"

    async def test_cancelled_claim(self, server: Valkey) -> None:
        """A claim that is cancelled while the server stalls is given back after it."""
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


class TestClock:
    """Whose clock counts."""

    @pytest.mark.parametrize("hours", [-1, 1])
    async def test_of_the_client(self, server: Valkey, hours: int) -> None:
        """A client whose clock is an hour off changes nothing."""
        config = SeenStoreConfig(url=server.url, purge_interval=None)
        wrong = AsyncSeenStore(
            config, ttl=60, clock=lambda: time.time() + 3_600 * hours
        )
        async with wrong, AsyncSeenStore(config, ttl=60) as right:
            await wrong.mark_seen("k")
            record = await right.get("k")
            assert record is not None
            assert abs(record.last_seen - time.time()) < 60
            assert not await right.check_and_mark("k")
            claim = await wrong.claim("c", lease=30)
            assert 20 < claim.remaining() <= 30
            assert (await right.claim("c")).verdict is Verdict.IN_FLIGHT
            await claim.confirm()
            assert await right.is_seen("c")


class TestExpiry:
    """Rows that go by themselves."""

    async def test_rows_go(self, server: Valkey) -> None:
        """What has expired, marks and abandoned claims, is gone without a purge."""
        async with to(server, ttl_days=0.2 / 86_400) as store:
            await store.mark_many(["a", "b"])
            await store.claim("c", lease=0.1)
            await store.mark_seen("stays", ttl=None)
            assert await store.purge_expired() == 0
            with server.client() as client:
                assert client.dbsize() == 4
                deadline = time.monotonic() + SOON
                while client.dbsize() > 1 and time.monotonic() < deadline:
                    await asyncio.sleep(0.01)
                assert client.keys() == ["seen::stays"]
            assert await store.count() == 1

    async def test_count_of_many(self, server: Valkey) -> None:
        """While all keys are counted, others are marked: nobody waits for the end."""
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
    """wait_replicas."""

    async def test_wait(self, server: Valkey) -> None:
        """With a replica that takes over in time, a change is acknowledged."""
        with Valkey(replicaof=f"{HOST} {server.port}", **DURABLE) as replica:
            with replica.client() as client:
                while client.info("replication")["master_link_status"] != "up":
                    await asyncio.sleep(0.01)
            async with to(server, "/0?socket_timeout=0.4", wait_replicas=1) as store:
                assert await store.check_and_mark("k")
                async with store.claim("c") as claim:
                    assert claim
                with replica.client() as client:
                    assert client.exists("seen::k", "seen::c") == 2
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

    async def test_missing(self, server: Valkey) -> None:
        """Without a replica that is said at opening, and at each change."""
        with capture_logs() as logs:
            async with to(server, wait_replicas=1) as store:
                with pytest.raises(OutcomeUnknownError):
                    await store.check_and_mark("k")
        assert [log["event"] for log in logs] == ["replicas_missing"]


class TestFailover:
    """A replica that takes its primary's place."""

    @pytest.mark.torture
    @pytest.mark.parametrize("replicas", [0, 1])
    async def test_in_the_middle(
        self, figures: Figures, replicas: int, *, torture: bool
    ) -> None:
        """What replicas did not have is lost; nothing is that was waited for."""
        rounds, lost, acked, unknown = (10, 0, 0, 0) if torture else (1, 0, 0, 0)
        for _ in range(rounds):
            seen, told, doubtful = await fail_over(replicas)
            acked += len(told)
            lost += len(told - seen)
            unknown += len(doubtful)
        if replicas:
            assert lost == 0
            assert unknown
        else:
            assert lost
        figures(
            f"failover in the middle, link to the replica cut before, wait_replicas="
            f"{replicas}, {rounds} times: acknowledged {acked}, lost {lost}, unknown"
            f" {unknown}"
        )


async def fail_over(replicas: int) -> tuple[set[str], set[str], set[str]]:
    """Mark from many tasks while the replica is cut off, and then takes over.

    Returns:
        The keys that are seen in the end; those that were acknowledged as marked; and
        those of which nobody knows.
    """
    told: set[str] = set()
    doubtful: set[str] = set()
    is_over = asyncio.Event()
    async with replicated() as (primary, replica, link):
        options = "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        async with to(primary, options, timeout=20, wait_replicas=replicas) as store:

            async def mark(task: int) -> None:
                number = 0
                while not is_over.is_set():
                    key = f"{task}-{number}"
                    try:
                        if await store.check_and_mark(key):
                            told.add(key)
                    except OutcomeUnknownError:
                        doubtful.add(key)
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
            asked = sorted(told | doubtful)
            unseen = set(await store.filter_new(asked))
    return set(asked) - unseen, told, doubtful


@asynccontextmanager
async def replicated() -> AsyncIterator[tuple[Valkey, Valkey, Link]]:
    """A primary and its replica, that has all that it has, and the link between."""
    with (
        Valkey(**DURABLE) as primary,
        Link(primary.port) as link,
        Valkey(replicaof=f"{HOST} {link.port}", **DURABLE) as replica,
    ):
        with replica.client() as client:
            while client.info("replication")["master_link_status"] != "up":
                await asyncio.sleep(0.01)
        yield primary, replica, link


class TestCluster:
    """Keys on three primaries."""

    async def test_spread(self) -> None:
        """A batch goes to every node, and comes back in order."""
        with ValkeyCluster(**DURABLE) as cluster:
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
                assert sum(sizes) == await store.count() == 500
                assert await store.cleanup_old_entries(0) == 500

    async def test_slot_moves(self) -> None:
        """While slots move from node to node, every key has one true verdict."""
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

    async def test_node_is_gone(self) -> None:
        """A node that is gone fails its keys only, in time; they come back with it."""
        with ValkeyCluster(cluster_require_full_coverage="no", **DURABLE) as cluster:
            async with to(cluster, timeout=0.5) as store:
                keys = [f"k{number}" for number in range(60)]
                assert all(await store.check_and_mark_many(keys))
                cluster.nodes[2].kill()
                calls = [store.check_and_mark(key) for key in keys]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                failed = [one for one in answers if isinstance(one, Exception)]
                assert all(isinstance(one, StoreUnavailableError) for one in failed)
                assert 0 < len(failed) < 60
                assert not any(one for one in answers if not isinstance(one, Exception))
                with pytest.raises(StoreUnavailableError):
                    await store.check_and_mark_many(keys)
                cluster.nodes[2].start()
                assert not any([await until_known(store, key) for key in keys])


async def until_known(store: AsyncSeenStore, key: str) -> object:
    """Ask until the answer is one."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return await store.check_and_mark(key)
        except StoreUnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def move(
    cluster: ValkeyCluster, slot: int, source: int, target: int, *, finish: bool
) -> None:
    """Move a slot and its keys from one node to another; or stop halfway."""
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
