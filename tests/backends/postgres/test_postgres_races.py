"""Concurrent transactions on the rows of a PostgreSQL table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    OutcomeUnknownError,
    Sighting,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends.postgres.schema import lock_id

from ...support.postgres_stores import at, connected, named, until_blocked
from ...support.targets import Target

Calls = tuple[tuple[str, Callable[[str], Awaitable[Claim | Sighting]]], ...]


class TestInserts:
    """Uncommitted inserts of the same key."""

    async def test_mark_keeps_later_concurrent_mark(self, place: Target) -> None:
        """A mark that meets a concurrent insert keeps the later sighting."""
        table = f'"{place.settings.schema}".seen'
        later = time.time() + 1_000
        async with at(place) as store, connected(place.settings.url) as other:
            default = await named(other, place)
            async with other.transaction():
                await other.execute(
                    f"INSERT INTO {table} VALUES ({default},"
                    " 'm', 1, $1::float8, $1::float8 + 60, 'theirs')",
                    later,
                )
                await other.execute(
                    f"INSERT INTO {table} VALUES ({default},"
                    " 'c', 1, 1, NULL, 'theirs', 1, $1::float8, 'hold')",
                    later,
                )
                marking = asyncio.create_task(store.mark_many(["m", "c"], ttl=60))
                await until_blocked(other)
                assert not marking.done()
            await marking
            record = await store.get("m")
            assert record is not None
            assert record.last_seen == later
            assert record.expires_at == pytest.approx(later + 60)
            assert await store.is_seen("c")
            token = f"SELECT token FROM {table} WHERE key = 'c'"
            assert await other.fetchval(token) is None

    async def test_concurrent_claim_stays_unchanged(self, place: Target) -> None:
        """A claim that meets a concurrent insert of a claim leaves that unchanged."""
        table = f'"{place.settings.schema}".seen'
        until = time.time() + 1_000
        async with at(place) as store, connected(place.settings.url) as other:
            default = await named(other, place)
            calls: Calls = (("a", store.check_and_mark), ("b", store.claim))
            for key, call in calls:
                async with other.transaction():
                    await other.execute(
                        f"INSERT INTO {table} VALUES ({default}, $1, 1, 1,"
                        " $2::float8 + 9, 'theirs', 1, $2::float8, 'retry')",
                        key,
                        until,
                    )
                    calling = asyncio.ensure_future(call(key))
                    await until_blocked(other)
                    assert not calling.done()
                assert (await calling).verdict is Verdict.IN_FLIGHT
                row = await other.fetchrow(f"SELECT * FROM {table} WHERE key = $1", key)
                kept = [row[one] for one in ("token", "lease_until", "expires_at")]
                assert kept == ["theirs", until, until + 9]

    async def test_ended_concurrent_claim_is_in_flight(self, place: Target) -> None:
        """A claim that loses to an insert is IN_FLIGHT, even if its lease has ended."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            default = await named(other, place)
            calls: Calls = (("a", store.claim), ("b", store.check_and_mark))
            for key, call in calls:
                async with other.transaction():
                    await other.execute(
                        f"INSERT INTO {table} VALUES ({default}, $1, 1, 1, NULL,"
                        " 'theirs', 1, 2, 'retry')",
                        key,
                    )
                    calling = asyncio.ensure_future(call(key))
                    await until_blocked(other)
                    assert not calling.done()
                assert (await calling).verdict is Verdict.IN_FLIGHT
                assert (await store.claim(key)).verdict is Verdict.RETRY


class TestLocks:
    """Row locks of other transactions."""

    async def test_keys_are_locked_in_order(self, place: Target) -> None:
        """A batch that waits for a key has not locked or inserted a later one.

        That holds for the keys of one call, and of several, in whatever order they are
        given.
        """
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            default = await named(other, place)
            await store.mark_many(["b", "d"])
            for first, later in (("a", "c"), ("b", "d")):
                insert = f"""INSERT INTO {table} VALUES ({default}, $1, 1, 1)
                    ON CONFLICT (namespace, key) DO UPDATE SET attempt = 7"""
                async with other.transaction():
                    await other.execute("SET LOCAL lock_timeout = 100")
                    await other.execute(insert, first)
                    marking = asyncio.gather(
                        store.is_seen("sent alone"),
                        store.mark_many([later, first]),
                        store.check_and_mark_many(["z", "e"]),
                    )
                    await until_blocked(other)
                    # Else it would wait for the batch, which waits for it.
                    await other.execute(insert, later)
                await marking
                assert await other.fetchval(f"SELECT count(*) FROM {table}") >= 4

    async def test_row_is_read_again_under_its_lock(self, place: Target) -> None:
        """After a wait for a row lock, the row as it is then decides."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            claim = await store.claim("k")
            await claim.release()
            async with other.transaction():
                await other.execute(
                    f"UPDATE {table} SET token = 'theirs', lease_until = $1,"
                    " attempt = 2, on_abandoned = 'retry'",
                    time.time() + 60,
                )
                claiming = asyncio.ensure_future(store.claim("k"))
                await until_blocked(other)
                assert not claiming.done()
            assert (await claiming).verdict is Verdict.IN_FLIGHT
            assert await other.fetchval(f"SELECT token FROM {table}") == "theirs"

    async def test_lease_starts_after_a_lock_wait(self, place: Target) -> None:
        """A lease starts when the row lock is acquired, not before the wait."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, at(place) as another:
            await (await store.claim("k")).release()
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                claiming = asyncio.ensure_future(store.claim("k", lease=60))
                await until_blocked(other)
                await asyncio.sleep(1.5)
                assert not claiming.done()
                freed = time.time()
            claim = await claiming
            assert claim.verdict is Verdict.RETRY
            assert claim.lease_until is not None
            assert claim.lease_until > freed + 59.5
            assert (await another.claim("k")).verdict is Verdict.IN_FLIGHT
            await claim.confirm()

    async def test_counts_run_beside_a_lock_wait(self, place: Target) -> None:
        """Counts and statistics do not wait for a batch that waits for a lock."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            claim = await store.claim("k")
            async with other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                confirming = asyncio.ensure_future(claim.confirm())
                await until_blocked(other)
                async with asyncio.timeout(60):
                    assert await store.count() == 0
                    assert (await store.stats()).claimed == 1
                assert not confirming.done()
            await confirming

    async def test_count_in_another_loop_is_refused(self, place: Target) -> None:
        """A count in another event loop is refused, as every call is."""
        async with at(place) as store:
            with pytest.raises(StoreClosedError, match="another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(store.count()))

    async def test_cleanup_spares_concurrent_mark(self, place: Target) -> None:
        """A row that another transaction is marking stays, and nothing waits for it."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k", ts=1e9, ttl=None)
            async with other.transaction():
                await other.execute(f"UPDATE {table} SET last_seen = $1", time.time())
                assert await store.cleanup_old_entries(30) == 0
            assert await store.is_seen("k")

    async def test_requested_purge_waits_for_another(self, place: Target) -> None:
        """A purge by call waits for a purge of another process."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k", ttl=0.001)
            await asyncio.sleep(0.01)
            async with other.transaction():
                lock = lock_id(table, "purge")
                await other.execute(f"SELECT pg_advisory_xact_lock({lock})")
                purging = asyncio.create_task(store.purge_expired())
                await until_blocked(other)
                assert not purging.done()
            assert await purging == 1


class TestGivenUp:
    """Row locks that outlast the timeout."""

    async def test_failed_large_batch_stores_nothing(self, place: Target) -> None:
        """A failed batch of several statements stores nothing; the store works on."""
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=2) as store:
            await store.mark_seen("z", ttl=1)
            claim = await store.claim("a")
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} WHERE key = 'z' FOR UPDATE")
                keys = [f"k{number:04}" for number in range(1_500)]
                with pytest.raises(
                    StoreUnavailableError, match="pg_stat_activity"
                ) as caught:
                    await store.mark_many([*keys, "z"])
                assert not isinstance(caught.value, OutcomeUnknownError)
                assert len(await store.filter_new(keys)) == 1_500
            assert await store.check_and_mark("b")
            await claim.confirm()

    async def test_failed_transaction_is_rolled_back(self, place: Target) -> None:
        """A failed transaction is rolled back before its connection is released."""
        table = f'"{place.settings.schema}".seen'
        reports: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with (
            at(place, timeout=2) as store,
            connected(place.settings.url) as own,
        ):
            await store.mark_many(["a", "b"])
            for _ in range(2):
                async with own.transaction():
                    await own.execute(
                        f"SELECT 1 FROM {table} WHERE key = 'b' FOR UPDATE"
                    )
                    with pytest.raises(StoreUnavailableError, match="pg_stat_activity"):
                        await store.mark_many(["a", "b", "b"])
                assert await store.is_seen("b")
            assert await store.check_and_mark("c")
        assert reports == []


class TestPlans:
    """Statements are planned once."""

    async def test_plan_stays_fast_in_a_grown_table(self, place: Target) -> None:
        """A statement that was planned for an empty table is fast in a large one.

        The statistics of the table stay those of the empty one.
        """
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=30) as store, connected(place.settings.url) as own:
            await own.execute(
                f"ALTER TABLE {table} SET (autovacuum_enabled = off); ANALYZE {table}"
            )
            default = await named(own, place)
            for _ in range(8):  # a plan is kept from the sixth time on, if ever
                await store.forget("k")
            await own.execute(
                f"INSERT INTO {table} SELECT {default}, 'old ' || n, 1, 1, NULL"
                " FROM generate_series(1, 40000) n"
            )
            ours = min([await seconds(store, number) for number in range(3)])
            await own.execute(f"ANALYZE {table}")
        async with at(place, timeout=30) as fresh:
            control = min([await seconds(fresh, number) for number in range(3, 6)])
        assert ours < 10 * control


async def seconds(store: AsyncSeenStore, number: int) -> float:
    """Measure how long it takes to mark 500 new and 500 old keys."""
    started = time.monotonic()
    new = await store.check_and_mark_many(f"new {number} {n}" for n in range(500))
    assert all(new)
    await store.mark_many(f"old {500 * number + n}" for n in range(1, 501))
    return time.monotonic() - started
