"""How the public API is typed; checked by the type checkers, never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import assert_type

import asyncpg
from redis.asyncio import Redis

from catalyst_seen import (
    AsyncSeenStore,
    Backend,
    BlockingClaim,
    BlockingClaims,
    CallFailures,
    CheckReport,
    Claim,
    Duration,
    OnAbandoned,
    Once,
    Record,
    SeenStore,
    SeenStoreConfig,
    Sighting,
    Source,
    StoreStats,
    Unawaited,
    UnawaitedClaim,
    UnawaitedClaims,
    Verdict,
    __version__,
    should_filter,
)
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.postgres import PostgresBackend
from catalyst_seen.backends.redis import RedisBackend

assert_type(__version__, str)


def every_backend(
    client: Redis, pool: asyncpg.Pool, lease: Duration, policy: OnAbandoned
) -> list[Backend]:
    AsyncSeenStore(on_abandoned=policy).claim("k", lease=lease)
    return [MemoryBackend(), RedisBackend(client), PostgresBackend(pool)]


AsyncSeenStore()
AsyncSeenStore(None)
AsyncSeenStore(Path("seen.db"), ttl=60)
AsyncSeenStore("sqlite:///seen.db", ttl=timedelta(days=1), purge_interval=None)
AsyncSeenStore(SeenStoreConfig(Path("seen.db"), 7), ttl=None, on_error="raise")
AsyncSeenStore(1)  # type: ignore[arg-type]
AsyncSeenStore("seen.db", 60)  # type: ignore[call-arg]
AsyncSeenStore(on_abandoned="drop")
AsyncSeenStore(on_error="ignore")  # type: ignore[arg-type]
SeenStoreConfig(synchronous="SOMETIMES")  # type: ignore[arg-type]


async def double(number: int) -> int:
    return 2 * number


async def asynchronous(items: Iterator[tuple[str, int]]) -> None:
    async with AsyncSeenStore("seen.db") as store:
        assert_type(store, AsyncSeenStore)
        assert_type(await store.is_seen("k", namespace="n"), bool)
        await store.mark_seen("k", 1, ttl=None)
        await store.mark_many({"a", "b"}, ttl=timedelta(1))
        sighting = await store.check_and_mark("k")
        assert_type(sighting, Sighting)
        assert_type(sighting.verdict, Verdict)
        assert_type(await store.check_and_mark_many(iter("ab")), list[Sighting])
        assert_type(await store.filter_new(["k"]), list[str])
        fresh = await store.filter_new(items, key=lambda item: item[0])
        assert_type(fresh, list[tuple[str, int]])
        await store.filter_new([1, 2])  # type: ignore[list-item]
        claim = await store.claim("k", lease=timedelta(minutes=1), wait=5)
        assert_type(claim, Claim)
        assert_type(claim.verdict, Verdict)
        assert_type(claim.lease_until, float | None)
        assert_type(claim.remaining(), float)
        assert_type(await claim.release(timedelta(seconds=1)), bool)
        await claim.confirm(ttl=None)
        await claim.renew(30)
        async with store.claim("k", keep_alive=True, on_abandoned="hold") as entered:
            assert_type(entered, Claim)
        claims = await store.claim_many({"a", "b"})
        assert_type(claims, list[Claim])
        assert_type(await store.confirm_many(claims, ttl=60), list[bool])
        assert_type(await store.release_many(iter(claims), delay=1), list[bool])
        assert_type(await store.held(namespace="n"), list[Record])
        assert_type(await store.resolve("k", handled=False), bool)
        await store.claim("k", lease=None)  # type: ignore[arg-type]
        await store.claim("k", on_abandoned="forget")  # type: ignore[arg-type]
        store.claim("k").confirm()  # type: ignore[attr-defined]
        assert_type(await store.forget("k"), bool)
        assert_type(await store.get("k"), Record | None)
        assert_type(await store.count(), int)
        assert_type(await store.sources(), list[Source])
        assert_type(await store.stats(), StoreStats)
        assert_type((await store.stats()).alarms, tuple[str, ...])
        assert_type((await store.stats()).failures["read"], CallFailures)
        assert_type(await store.check(full=True), CheckReport)
        assert_type(await store.backup(Path("copy.db")), None)
        assert_type((await store.stats()).keys_by_namespace, Mapping[str, int])
        assert_type(await store.purge_expired(), int)
        assert_type(await store.cleanup_old_entries(30), int)
        await store.check(1)  # type: ignore[arg-type,call-arg]
        await store.is_seen(1)  # type: ignore[arg-type]
        await store.is_seen("k", "n")  # type: ignore[call-arg]


async def claiming() -> None:
    async with AsyncSeenStore("seen.db") as store:
        assert_type(store.claim_many(["k"]), UnawaitedClaims)
        async with store.claim_many(["k"], lease=5) as owned:
            assert_type(owned, list[Claim])
        assert_type(store.claim("k", required=True), UnawaitedClaim)
        assert_type(store.is_seen("k"), Unawaited[bool])
        assert_type(await store.once("k", partial(double, 21), lease=5), Once[int])
        assert_type(await store.once("k", lambda: "text"), Once[str])
        await store.once("k", double(21))  # type: ignore[call-overload]
        await store.once("k", partial(double, 21), lesae=5)  # type: ignore[call-overload]
        assert_type(await store.refresh(iter(["k"])), int)
        assert_type(store.namespace("n", ttl=None), AsyncSeenStore)


def servers(client: Redis, pool: asyncpg.Pool) -> None:
    config = SeenStoreConfig(prefix="bot", wait_replicas=1)
    assert_type(AsyncSeenStore(RedisBackend(client, config)), AsyncSeenStore)
    assert_type(AsyncSeenStore(PostgresBackend(pool)), AsyncSeenStore)
    assert_type(SeenStore(RedisBackend("valkey://localhost")), SeenStore)
    RedisBackend(pool, 1)  # type: ignore[arg-type]
    AsyncSeenStore(client)  # type: ignore[arg-type]


def blocking(items: Iterator[tuple[str, int]]) -> None:
    with SeenStore("seen.db") as store:
        assert_type(store, SeenStore)
        assert_type(store.is_seen("k"), bool)
        assert_type(store.check_and_mark("k"), Sighting)
        with store.claim("k", wait=5) as claim:
            assert_type(claim, BlockingClaim)
            assert_type(claim.attempt, int)
        claims = store.claim_many("k")
        assert_type(claims, BlockingClaims)
        with claims as owned:
            assert_type(owned, list[BlockingClaim])
        assert_type(store.once("k", lambda: 42), Once[int])
        assert_type(store.refresh(["k"]), int)
        assert_type(store.sources(), list[Source])
        assert_type(store.namespace("n", ttl=60, lease="5s"), SeenStore)
        assert_type(store.confirm_many(claims), list[bool])
        assert_type(store.filter_new(["k"]), list[str])
        assert_type(
            store.filter_new(items, key=lambda item: item[0]), list[tuple[str, int]]
        )
        assert_type(should_filter("k", store), bool)
