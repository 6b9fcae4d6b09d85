"""One operation on many keys, in one group of arguments and one record of the reply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any
from unittest.mock import patch

import pytest
from redis.exceptions import TryAgainError

from catalyst_seen import OutcomeUnknownError, SchemaError, SeenStoreConfig
from catalyst_seen._tuning import Tuning
from catalyst_seen._types import OnAbandoned, Record
from catalyst_seen.backends._for_each import Expansion
from catalyst_seen.backends.base import BatchResult, Selection, SupportsForEach
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    Confirm,
    ForEach,
    Forget,
    Get,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
)
from catalyst_seen.backends.redis import RedisBackend, runs

from ...support.clock import NOON, Clock
from ...support.lossy import Lossy
from ...support.redis_stores import DURABLE, SOON, Values, redis_key, to
from ...support.servers import HOST, Valkey, ValkeyCluster

Batch = Sequence[Operation[Any]]

KEYS = [f"key {number}" for number in range(8)]
NAMESPACES = ["", "one", "zwei {und} drei"]
POLICIES: list[OnAbandoned] = ["retry", "hold", "drop"]
TTLS = [None, 3.0, 10.0, 60.0]
SECONDS = [0, 0, 0, 1, 2, 5, 20]


@pytest.fixture(params=["valkey", "cluster"])
def servers(request: pytest.FixtureRequest) -> Iterator[Valkey | ValkeyCluster]:
    """One server, and a cluster."""
    with (
        Valkey(**DURABLE)
        if request.param == "valkey"
        else ValkeyCluster(**DURABLE) as made
    ):
        yield made


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[RedisBackend]:
    """Open a backend."""
    backend = RedisBackend(url, SeenStoreConfig(url=url, timeout=SOON, **settings))
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


async def send(backend: RedisBackend, *operations: Operation[Any]) -> BatchResult:
    """Execute a batch as it is."""
    return await backend.apply(operations, sample_version=False)


class Sequences:
    """Random operations on a few keys, so that every state of a key occurs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._tokens = ["first"]

    def batch(self) -> Batch:
        """Return a few operations, most of them on many keys."""
        return [self._operation() for _ in range(self._random.randint(1, 4))]

    def seconds(self) -> int:
        """Return how much later the next batch is."""
        return self._random.choice(SECONDS)

    def _operation(self) -> Operation[Any]:
        choose, namespace = self._random.choice, self._random.choice(NAMESPACES)
        ttl, token, note = choose(TTLS), choose(self._tokens[-12:]), self._note()
        lease, policy, key = choose([1.0, 4.0, 15.0]), choose(POLICIES), choose(KEYS)
        keys = self._random.choices(KEYS, k=self._random.randint(0, 6))
        # Every claim has its own one, which its store finishes it with.
        own = [f"token {len(self._tokens) + number}" for number in range(1 + len(keys))]
        owners = self._random.choices(self._tokens[-12:], k=len(keys))
        self._tokens += own
        singles: list[Operation[Any]] = [
            Forget(namespace, key),
            Get(namespace, key),
            Release(namespace, key, token, choose([0.0, 2.0]), ttl),
            Renew(namespace, key, token, lease, ttl, policy),
            Resolve(namespace, key, choose([True, False]), ttl),
            CheckAndMark(namespace, key, ttl, note),
            Acquire(namespace, key, own[0], lease, ttl, policy, note),
        ]
        repeated: list[Operation[Any]] = [
            IsSeen(namespace, ""),
            CheckAndMark(namespace, "", ttl, note),
            Mark(namespace, "", ttl, choose([None, NOON - 5, NOON + 5]), note),
            Refresh(namespace, "", ttl),
            Acquire(namespace, "", "", lease, ttl, policy, note),
            Confirm(namespace, "", "", ttl, note),
            Release(namespace, "", "", choose([0.0, 2.0]), ttl),
            Forget(namespace, ""),
        ]
        if self._random.random() < 0.3:
            return choose(singles)
        operation = choose(repeated)
        tokens = own[1:] if isinstance(operation, Acquire) else owners
        return ForEach.of(
            operation, keys, tokens if hasattr(operation, "token") else None
        )

    def _note(self) -> str | None:
        return self._random.choice([None, None, "", "one", "zwei Wörter"])


async def records(backend: RedisBackend) -> dict[tuple[str, str], Record]:
    """Return every record of a backend."""
    found, cursor = {}, None
    while True:
        page = await backend.records(Selection(), limit=1_000, cursor=cursor)
        found.update({(one.namespace, one.key): one for one in page.records})
        cursor = page.cursor
        if cursor is None:
            return found


async def clear(backend: RedisBackend) -> None:
    """Remove every record."""
    page = await backend.clear(namespace=None, limit=1_000, cursor=None)
    while page.cursor is not None:
        page = await backend.clear(namespace=None, limit=1_000, cursor=page.cursor)


def check_summary(
    operation: Operation[Any], known: AllSeen | None, expected: AllSeen | None
) -> None:
    """Check what is known of all keys of a ``ForEach``."""
    assert (known is None) == (expected is None), operation
    if known is not None and expected is not None:
        assert known.expires_at == expected.expires_at, operation
        assert known.first_seen is None or known == expected, operation


class TestSameAsSingles:
    """A ``ForEach`` does what the operations do that it stands for."""

    @pytest.mark.parametrize("weight", [3, 1_000])
    async def test_random_sequences(
        self, servers: Valkey | ValkeyCluster, clock: Clock, weight: int
    ) -> None:
        """Any sequence has the results, and leaves the rows, of single operations.

        With a small weight the keys of one ``ForEach`` are on several script calls.
        """
        tuning = Tuning(server_time=clock)
        async with AsyncExitStack() as stack:
            whole, single = [
                await stack.enter_async_context(
                    opened(servers.url, prefix=prefix, tuning=tuning)
                )
                for prefix in ("whole", "single")
            ]
            for seed in range(8):
                reference = MemoryBackend(SeenStoreConfig(clock=clock))
                sequences = Sequences(seed)
                for _ in range(40):
                    batch = sequences.batch()
                    expanded = Expansion(batch)
                    with patch.object(runs, "_MAX_WEIGHT", weight):
                        result = await send(whole, *batch)
                    now = clock()
                    expected, model = [
                        expanded.regroup_batch(
                            await backend.apply(
                                expanded.operations, sample_version=False
                            ),
                            now,
                        )
                        for backend in (single, reference)
                    ]
                    assert result.results == expected.results == model.results, seed
                    for operation, known, other in zip(
                        batch, result.rows, expected.rows, strict=True
                    ):
                        if not isinstance(operation, ForEach):
                            assert known == other
                        elif operation.keys:
                            check_summary(operation, known, other)  # type: ignore[arg-type]
                    clock.advance(sequences.seconds())
                assert await records(whole) == await records(single), seed
                for backend in (whole, single):
                    await clear(backend)
                assert await records(whole) == await records(single) == {}

    async def test_known_listing_has_its_instants(
        self, server: Valkey, clock: Clock
    ) -> None:
        """Of keys that are all seen, the earliest expiry and the instants are known."""
        async with opened(server.url, tuning=Tuning(server_time=clock)) as backend:
            await send(backend, Mark("n", "a", 60.0), Mark("n", "b", None))
            clock.advance(10)
            check = ForEach.of(CheckAndMark("n", "", 100.0), ["a", "b", "c"])
            await send(backend, check)
            (sightings,), (known,), _ = await send(backend, check)
        assert not any(sightings)  # type: ignore[arg-type]
        assert isinstance(known, AllSeen)
        assert known.expires_at == NOON + 60
        assert known.first_seen is not None
        assert list(known.first_seen) == [NOON, NOON, NOON + 10]
        assert known.last_seen is None
        assert known.attempts is None


class TestTraffic:
    """What is sent, and how long a script call is."""

    async def test_no_operation_for_each_key(self, server: Valkey) -> None:
        """The client makes no operation for each key."""
        made = 0

        def counted(operation: Operation[Any]) -> Operation[Any]:
            nonlocal made
            made += 1
            return copy(operation)

        with patch("catalyst_seen.backends.operations.copy", counted):
            async with to(server) as store:
                keys = [f"k{number}" for number in range(100)]
                assert all(await store.check_and_mark_many(keys))
                assert await store.filter_new(keys) == []
                assert await store.refresh(keys) == 100
                await store.mark_many(keys)
        assert isinstance(store._lifecycle.backend, SupportsForEach)
        assert not made

    async def test_reply_is_compact(self, server: Valkey) -> None:
        """The reply to a question has about a byte for each key."""
        async with to(server) as store:
            keys = [f"k{number}" for number in range(900)]
            await store.mark_many(keys)
            with server.client() as client:
                before = client.info("stats")["total_net_output_bytes"]
                assert await store.filter_new(keys) == []
                between = client.info("stats")["total_net_output_bytes"]
                answer = between - before
                client.info("stats")
                after = client.info("stats")["total_net_output_bytes"]
                assert answer - (after - between) / 2 < 2 * len(keys)

    @pytest.mark.parametrize("namespace", ["", "n"])
    async def test_long_list_is_divided(self, server: Valkey, namespace: str) -> None:
        """No script call has more keys than one of single operations had."""
        keys = [f"k{number}" for number in range(2_500)]
        async with opened(server.url) as backend:
            with server.client() as client:
                tokens = [f"token {number}" for number in range(2_500)]
                for operation, calls in (
                    (CheckAndMark(namespace, "", None), 3),
                    (IsSeen(namespace, ""), 3),
                    (Acquire(namespace, "", "", 1.0, None, "retry"), 10),
                    (Mark(namespace, "", None, note="x" * 9_000), 25),
                ):
                    client.config_resetstat()
                    each = ForEach.of(operation, keys)
                    if isinstance(operation, Acquire):
                        each.tokens = tokens
                    result = await send(backend, each)
                    assert len(result.results[0]) == 2_500  # type: ignore[arg-type]
                    stats = client.info("commandstats")["cmdstat_evalsha"]
                    assert stats["calls"] == calls

    async def test_short_lists_share_a_call(self, server: Valkey) -> None:
        """Lists that fit into a script call together are not divided."""
        async with opened(server.url) as backend:
            lists = [
                ForEach.of(CheckAndMark(f"n{number}", "", None), KEYS * 50)
                for number in range(5)
            ]
            with server.client() as client:
                client.config_resetstat()
                await send(backend, *lists)
                stats = client.info("commandstats")["cmdstat_evalsha"]
                assert stats["calls"] == 3  # of two, two and one


class TestFailedKeys:
    """Keys on which the operation fails alone."""

    async def test_foreign_key_fails_alone(self, server: Valkey) -> None:
        """A key of another program is an error at its own place."""
        async with opened(server.url) as backend:
            with Values(server) as values:
                values.set(redis_key("b"), b"somebody else's")
            result = await send(
                backend, ForEach.of(CheckAndMark("", "", None), ["a", "b", "c"])
            )
            (sightings,) = result.results
            assert result.rows == [None]
            assert isinstance(sightings, list)
            first, error, last = sightings
            assert first
            assert last
            assert isinstance(error, SchemaError)
            assert error.__notes__ == ["It is 'b'."]

    async def test_refused_key_fails_alone(self, server: Valkey) -> None:
        """On a full server the keys that are seen are answered."""
        async with to(server) as store:
            await store.mark_many(["a", "b"])
            with server.client() as client:
                client.config_set("maxmemory", 1)
                assert not any(await store.check_and_mark_many(["a", "b"]))
                with pytest.raises(Exception, match="maxmemory"):
                    await store.check_and_mark_many(["a", "new", "b"])
                client.config_set("maxmemory", 0)
            assert await store.filter_new(["a", "b", "new"]) == ["new"]


class TestLostReplies:
    """A ``ForEach`` that was applied, and whose reply was lost."""

    async def lost(
        self,
        way: Lossy,
        operation: Operation[Any],
        keys: list[str],
        tokens: list[str] | None = None,
    ) -> list[Any]:
        """Lose the reply, and return the results of the retry."""
        async with opened(f"redis://{HOST}:{way.port}") as backend:
            way.lose = 1
            result = await send(backend, ForEach.of(operation, keys, tokens))
            assert not way.lose
        (results,) = result.results
        assert isinstance(results, list)
        return results

    @pytest.mark.parametrize("weight", [1, 1_000])
    async def test_marks_are_recognised(self, way: Lossy, weight: int) -> None:
        """A retry reports its own marks as new, and a repeated key as a duplicate."""
        with patch.object(runs, "_MAX_WEIGHT", weight):
            sightings = await self.lost(
                way, CheckAndMark("n", "", 60.0, "note"), ["a", "b", "a"]
            )
        assert [one.verdict for one in sightings] == ["new", "new", "duplicate"]

    async def test_marks_are_recognised_in_a_migrating_slot(self, way: Lossy) -> None:
        """Also if the retry has to send each key by itself."""
        async with opened(f"redis://{HOST}:{way.port}") as backend:
            connection = backend._connection
            assert connection is not None
            topology = connection.session.topology
            send_commands, attempts = topology.send, 0

            async def send_once_in_vain(commands: Any, *rest: Any) -> None:
                nonlocal attempts
                attempts += 1
                if attempts == 2:
                    for command in commands:
                        command.reply = TryAgainError("TRYAGAIN")
                else:
                    await send_commands(commands, *rest)

            way.lose = 1
            check = CheckAndMark("n", "", 60.0)
            with patch.object(topology, "send", send_once_in_vain):
                result = await send(backend, ForEach.of(check, ["a", "b", "a"]))
            assert attempts > 2
        sightings: Any = result.results[0]
        assert [one.verdict for one in sightings] == ["new", "new", "duplicate"]

    @pytest.mark.parametrize("weight", [1, 1_000])
    async def test_claims_are_recognised(self, way: Lossy, weight: int) -> None:
        """A retry owns what it claimed, once for a repeated key, by its tokens."""
        with patch.object(runs, "_MAX_WEIGHT", weight):
            acquire = Acquire("n", "", "", 60.0, None, "retry", "x")
            claims = await self.lost(way, acquire, ["a", "b", "a"], ["1", "two", "3"])
            assert [one.verdict for one in claims] == ["new", "new", "in_flight"]
            assert [one.note for one in claims] == ["x", "x", None]
            confirm = Confirm("n", "", "", 60.0)
            keys, tokens = ["a", "b", "a", "c"], ["1", "two", "3", "1"]
            confirmed = await self.lost(way, confirm, keys, tokens)
        assert confirmed == [True, True, False, False]

    async def test_forgets_are_not_repeated(self, way: Lossy, server: Valkey) -> None:
        """A retry forgets nothing that was marked since, and the outcome is unknown."""
        async with opened(f"redis://{HOST}:{way.port}") as backend, to(server) as other:
            await other.mark_many(["a", "b"])
            way.lose, way.refuse = 1, 1_000_000
            forget = ForEach.of(Forget("", ""), ["a", "b"])
            forgetting = asyncio.ensure_future(send(backend, forget))
            while way.lose:
                await asyncio.sleep(0.001)
            assert await other.check_and_mark("a")
            way.refuse = 0
            (unknown,) = (await forgetting).results
            assert isinstance(unknown, list)
            assert all(isinstance(one, OutcomeUnknownError) for one in unknown)
            assert await other.filter_new(["a", "b"]) == ["b"]

    async def test_releases_are_unknown(self, way: Lossy) -> None:
        """A retried release is done, or its outcome is unknown, for each key."""
        acquire = Acquire("n", "", "", 60.0, None, "retry")
        await self.lost(way, acquire, ["a"], ["1"])
        release = Release("n", "", "", 0.0, None)
        done, unknown = await self.lost(way, release, ["a", "b"], ["1", "2"])
        assert done is True
        assert isinstance(unknown, OutcomeUnknownError)

    async def test_unknown_outcome_is_reported(self, way: Lossy) -> None:
        """Without a reply to any attempt, the outcome is unknown, but for a read."""
        config = SeenStoreConfig(timeout=0.4, purge_interval=None, recent_staleness=0)
        backend = RedisBackend(f"redis://{HOST}:{way.port}", config)
        await backend.open()
        way.lose, way.refuse = 1, 1_000
        with pytest.raises(OutcomeUnknownError):
            await send(backend, ForEach.of(CheckAndMark("n", "", None), ["a", "b"]))
        assert not way.lose
        way.refuse = 0
        seen = ForEach.of(IsSeen("n", ""), ["a", "b"])
        assert (await send(backend, seen)).results == [[True, True]]
        way.lose, way.refuse = 1, 1_000
        with pytest.raises(Exception, match="tried for") as caught:
            await send(backend, seen)
        assert not isinstance(caught.value, OutcomeUnknownError)
        await backend.aclose()
