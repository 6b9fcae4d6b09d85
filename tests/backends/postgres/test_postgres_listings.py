"""Listings on PostgreSQL: interrupted, concurrent, and beside locks of others."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    FeedRules,
    Record,
    Source,
    StoreError,
    StoreUnavailableError,
)
from catalyst_seen.backends._retry import ServerClock
from catalyst_seen.backends.postgres import sources
from catalyst_seen.backends.postgres.dsn import quote_identifier
from catalyst_seen.backends.postgres.observation import Observation
from catalyst_seen.backends.postgres.pool import Connections
from catalyst_seen.backends.postgres.tables import Tables

from ...contract.listings.support import Entry, baseline, handled, keys, observe
from ...support.clock import DAY, Clock
from ...support.lossy import Lossy, lossy
from ...support.postgres_stores import at, connected, places_log, until_blocked
from ...support.servers import Postgres
from ...support.targets import Places, Target
from .test_postgres_upgrade import create_version_1

Hook = Callable[[Observation, str], Awaitable[None]]

MOST_STEPS = 20
ON_KEYS = [
    "READ", "READ_LISTED", "COUNT_LISTED", "HAS_LIVE", "WRITE", "COPY_DETAILS",
    "REMOVE_DETAILS", "REMOVE", "LEAVE", "EXPIRE", "COUNT_WAITING", "SOURCE", "WAITING",
]  # fmt: skip
RULES = FeedRules(
    changes=1, absent_polls=1, absent_for="1d", kept_keys=0, kept_listings=1
)
BEFORE = [
    Entry("stays", text="1"),
    Entry("edited", "old", text="1"),
    Entry("leaves", link="/leaves", title="t"),
    Entry("spelled", "text", link="/spelled", title="t"),
]
AFTER = [
    Entry("stays", text="1"),
    Entry("edited", "new", text="2"),
    Entry("renamed", spellings=("spelled",)),
    Entry("replaces", link="/leaves", title="t"),
    Entry("new", "note", link="/new", title="t", text="1"),
]


@pytest.fixture
async def way(places: Places) -> AsyncIterator[Lossy]:
    """A proxy to the server that can lose replies."""
    async with lossy(places.postgres.port) as made:
        yield made


@contextmanager
def before_each_statement(hook: Hook) -> Iterator[None]:
    """Call a hook before each statement of an observation after its first one."""
    fetch = Observation._fetch

    async def hooked(self: Observation, template: str, *parameters: object) -> Any:
        await hook(self, template)
        return await fetch(self, template, *parameters)

    with patch.object(Observation, "_fetch", hooked):
        yield


async def prepare(feed: AsyncSeenStore, clock: Clock) -> None:
    """Observe a listing, so that the next poll is due to expire a key."""
    began = clock.now
    await baseline(feed, ["expires", *BEFORE])
    for _ in range(2):
        await observe(feed, BEFORE)
        clock.advance(DAY)
    clock.now = began


async def state(feed: AsyncSeenStore) -> tuple[list[Record], Source | None]:
    """Return what is stored in a namespace, as if that were called "feed"."""
    records = [replace(one, namespace="feed") async for one in feed.records()]
    records.sort(key=lambda record: record.key)
    source = await feed.source()
    return records, source and replace(source, namespace="feed")


async def texts(place: Target, namespace: str) -> list[tuple[Any, ...]]:
    """Return the details of a namespace in the database."""
    schema = f'"{place.settings.schema}"'
    async with connected(place.settings.url) as other:
        rows = await other.fetch(
            f"""SELECT key, note, alias, digest, last_error FROM {schema}.detail
            WHERE namespace = (SELECT id FROM {schema}.namespace WHERE name = $1)
            ORDER BY key""",
            namespace,
        )
    return [tuple(row) for row in rows]


class TestInterrupted:
    """Observations whose connection is lost."""

    async def test_killed_at_each_step(self, place: Target, clock: Clock) -> None:
        """Whichever statement does not come, nothing is there; a retry does it all."""
        async with at(place, feeds=RULES) as store, at(place, feeds=RULES) as other:
            for step in range(-1, MOST_STEPS):
                await prepare(store.namespace(f"feed {step}"), clock)
            clock.advance(2 * DAY)
            statements: list[str] = []

            async def count(_: Observation, statement: str) -> None:
                statements.append(statement)

            with before_each_statement(count):
                expected = await observe(store.namespace("feed -1"), AFTER)
            assert keys(expected.new) == ["edited", "new"]
            assert keys(expected.replaced) == ["replaces"]
            assert {
                sources.COPY_DETAILS, sources.REMOVE, sources.WRITE_DETAILS,
                sources.MERGE_DETAILS, sources.LEAVE, sources.EXPIRE,
            } <= {*statements}  # fmt: skip
            complete = await state(store.namespace("feed -1"))
            details = await texts(place, "feed -1")
            assert "expires" not in [record.key for record in complete[0]]
            for step in range(len(statements)):
                feed = store.namespace(f"feed {step}")
                theirs = other.namespace(f"feed {step}")
                await self.interrupted(place, feed, theirs, step)
                assert await state(feed) == complete
                assert await texts(place, f"feed {step}") == details

    async def interrupted(
        self, place: Target, feed: AsyncSeenStore, theirs: AsyncSeenStore, step: int
    ) -> None:
        """Observe a listing, whose connection ends before a statement, once."""
        left = step
        before = await state(theirs)

        async def end(one: Observation, _: str) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                assert await state(theirs) == before
                await terminate(place, one)

        with before_each_statement(end):
            seen = await observe(feed, AFTER)
        assert left < -1
        assert keys(seen.new) == ["edited", "new"]
        assert keys(seen.changed) == ["edited"]
        assert keys(seen.replaced) == ["replaces"]

    async def test_failed_attempts_leave_nothing(
        self, place: Target, clock: Clock
    ) -> None:
        """An observation that fails for good has changed nothing."""
        async with at(place, feeds=RULES, timeout=0.2) as store, at(place) as other:
            await prepare(store.namespace("feed"), clock)
            before = await state(other.namespace("feed")), await texts(place, "feed")

            async def end(one: Observation, statement: str) -> None:
                if statement == sources.WRITE_SOURCE:
                    await terminate(place, one)

            with before_each_statement(end), pytest.raises(StoreError):
                await observe(store.namespace("feed"), AFTER)
            assert before == (
                await state(other.namespace("feed")), await texts(place, "feed")
            )  # fmt: skip

    async def test_killed_server(self) -> None:
        """A server that is killed before the end has nothing, and then all of it."""
        with Postgres(durable=True) as server:
            async with at(server, feeds=RULES, timeout=60) as store:
                feed = store.namespace("feed")
                await baseline(feed, BEFORE)
                statements: list[str] = []

                async def kill(_: Observation, statement: str) -> None:
                    statements.append(statement)
                    is_end = statement == sources.WRITE_SOURCE
                    if is_end and statements.count(statement) == 1:
                        server.kill()
                        server.start()

                with before_each_statement(kill):
                    seen = await observe(feed, AFTER)
                assert statements.count(sources.WRITE_SOURCE) == 2
                assert keys(seen.new) == ["edited", "new"]
                assert keys(seen.replaced) == ["replaces"]
                source = await feed.source()
                assert source is not None
                assert (source.polls, source.listed, source.pending) == (2, 5, 2)

    async def test_lost_reply_is_recognised(self, place: Target, way: Lossy) -> None:
        """A commit whose reply is lost counts once, and has its first summary."""
        url = re.sub(r":\d+/", f":{way.port}/", str(place.settings.url))
        async with at(place, feeds=RULES) as other, at(place, url=url) as store:
            feed = store.namespace("feed", first=1, changes=1)
            way.lose_if = b"COMMIT\0"
            seen = await observe(feed, BEFORE)
            assert way.lose_if == b""
            assert (keys(seen.new), seen.baseline) == (["spelled"], 3)
            way.lose_if = b"COMMIT\0"
            await feed.failed("no route")
            assert way.lose_if == b""
            source = await other.namespace("feed").source()
            assert source is not None
            assert (source.polls, source.new, source.failed) == (1, 1, 1)
            way.lose_if = b"COMMIT\0"
            seen = await observe(feed, AFTER)
            assert way.lose_if == b""
            assert keys(seen.changed) == ["edited"]
            assert keys(seen.replaced) == ["replaces"]
            claim = await feed.claim("new")
            way.lose = 1
            await claim.release(error="down")
            record = await other.namespace("feed").get("new")
            assert record is not None
            assert (record.attempt, record.error) == (1, "down")


class TestConcurrent:
    """Stores that observe and handle one namespace at once."""

    async def test_one_baseline(self, place: Target) -> None:
        """Of stores that observe a new source at once, one makes the baseline.

        Every poll and every failure is counted.
        """
        async with at(place) as one, at(place) as two:
            feeds = [
                store.namespace(f"feed {n}") for n in range(5) for store in (one, two)
            ]
            seen = await asyncio.gather(*(observe(feed, "abc") for feed in feeds))
            assert sorted(one.baseline for one in seen) == [0] * 5 + [3] * 5
            assert all(not one.new for one in seen)
            await asyncio.gather(*(observe(feed, "abc") for feed in feeds * 5))
            await asyncio.gather(*(feed.failed("down") for feed in feeds))
            for feed in feeds:
                source = await feed.source()
                assert source is not None
                assert (source.polls, source.failed) == (12, 2)

    async def test_key_that_moved_meanwhile(self, place: Target) -> None:
        """What another store changes between read and write is not overwritten."""
        async with at(place, feeds=RULES) as store, at(place) as other:
            feed, theirs = store.namespace("feed"), other.namespace("feed")
            await baseline(feed, "a")
            await observe(feed, ["a", Entry("edited", "old", text="1")])
            attempts = 0

            async def change(_: Observation, statement: str) -> None:
                nonlocal attempts
                if statement != sources.WRITE:
                    return
                attempts += 1
                if attempts == 1:
                    assert await theirs.check_and_mark("marked")
                    assert await theirs.claim("edited", lease=600)

            listing: list[str | Entry] = [
                "a",
                "marked",
                Entry("edited", "new", text="2"),
                "new",
            ]
            with before_each_statement(change):
                seen = await observe(feed, listing)
            assert attempts == 2
            assert keys(seen.new) == ["new"]
            assert await feed.is_seen("marked")
            record = await feed.get("edited")
            assert record is not None
            assert (record.state, record.note) == ("claimed", "old")

    @pytest.mark.parametrize("seed", range(3))
    async def test_nothing_is_lost_or_doubled(self, place: Target, seed: int) -> None:
        """Each item is handled once, whoever observes, claims, fails and marks."""
        rng = random.Random(seed)
        done: list[str] = []
        deadlocks = places_log(place).count("deadlock")

        async def poll(store: AsyncSeenStore) -> None:
            feed = store.namespace("feed")
            for first in range(0, 120, 4):
                width = rng.randrange(8, 40)
                listing = [f"item {n}" for n in range(first, min(first + width, 140))]
                rng.shuffle(listing)
                await observe(feed, listing)
                if rng.random() < 0.3:
                    await feed.failed("down")

        async def work(store: AsyncSeenStore) -> None:
            feed = store.namespace("feed")
            while polling or (await feed.source()).pending:  # type: ignore[union-attr]
                async for claim in feed.pending():
                    if rng.random() < 0.3:
                        await claim.release(delay=0, error="once more")
                        continue
                    done.append(claim.key)
                    await claim.confirm()
                marks = [f"item {n}" for n in rng.sample(range(140), 5)]
                sightings = await feed.check_and_mark_many(marks)
                done.extend(one.key for one in sightings if one)

        async with at(place) as one, at(place) as two:
            await observe(one.namespace("feed"), ["before"])
            polling = True
            workers = [asyncio.create_task(work(store)) for store in (one, two)]
            await asyncio.gather(poll(one), poll(two))
            await observe(one.namespace("feed"), [f"item {n}" for n in range(140)])
            polling = False
            await asyncio.gather(*workers)
            assert await one.namespace("feed").count() == 141
        assert sorted(done) == sorted(f"item {n}" for n in range(140))
        assert places_log(place).count("deadlock") == deadlocks


class TestLocks:
    """Rows that transactions of others have locked."""

    async def test_key_that_leaves_is_not_waited_for(self, place: Target) -> None:
        """A claim that is confirmed in a transaction leaves its listing later."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as own:
            feed = store.namespace("feed")
            await baseline(feed, "z")
            await observe(feed, "zab")
            claim = await feed.claim("a")
            async with own.transaction():
                await claim.confirm(connection=own)
                assert keys((await observe(feed, "zb")).new) == ["b"]
                left = await own.fetchval(
                    f"SELECT listed_at IS NOT NULL FROM {table} WHERE key = 'a'"
                )
                assert left is False
            await observe(feed, "zb")
            left = await own.fetchval(
                f"SELECT listed_at IS NOT NULL FROM {table} WHERE key = 'a'"
            )
            assert left is True
            source = await feed.source()
            assert source is not None
            assert source.listed == 2

    async def test_locked_row_is_waited_for_until_the_timeout(
        self, place: Target
    ) -> None:
        """A listing that must write a locked row fails in time, and without effect."""
        patient = replace(place.settings.tuning, lock_patience=0.05)
        async with (
            at(place, timeout=0.5, tuning=patient) as store,
            connected(place.settings.url) as own,
        ):
            feed = store.namespace("feed")
            claim = await feed.claim("a")
            async with own.transaction():
                await claim.confirm(connection=own)
                with pytest.raises(StoreUnavailableError, match="pg_stat_activity"):
                    await observe(feed, "ab")
                assert await feed.source() is None
            assert keys((await observe(feed, "ab")).new) == ["b"]

    @pytest.mark.parametrize("verb", ["observe", "failed", "clear"])
    async def test_lock_that_ends_in_time(self, place: Target, verb: str) -> None:
        """A change of a source that another transaction holds is tried again."""
        patient = replace(place.settings.tuning, lock_patience=0.05)
        table = f'"{place.settings.schema}".namespace'
        async with (
            at(place, timeout=20, tuning=patient) as store,
            connected(place.settings.url) as own,
        ):
            feed = store.namespace("feed")
            await baseline(feed, "a")
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "observe": lambda: observe(feed, "ab"),
                "failed": lambda: feed.failed("down"),
                "clear": feed.clear,
            }
            async with own.transaction():
                await own.execute(f"SELECT FROM {table} FOR UPDATE")
                call = asyncio.ensure_future(calls[verb]())
                await asyncio.sleep(0.5)
                assert not call.done()
            await call
            source = await feed.source()
            counts = (source.polls, source.failed) if source else None
            assert counts == {"observe": (2, 0), "failed": (1, 1), "clear": None}[verb]

    async def test_rename_waits_for_an_observation(self, place: Target) -> None:
        """A rename between the statements of an observation deadlocks neither."""
        deadlocks = places_log(place).count("deadlock")
        async with at(place) as store, at(place) as other:
            feed = store.namespace("feed")
            await baseline(feed, "a")
            renaming: list[asyncio.Future[object]] = []

            async def rename(_: Observation, statement: str) -> None:
                if statement == sources.WRITE:
                    call = other.rename("other", namespace="feed")
                    renaming.append(asyncio.ensure_future(call))
                    async with connected(place.settings.url) as watching:
                        await until_blocked(watching)

            with before_each_statement(rename):
                await observe(feed, "ab")
            await asyncio.gather(*renaming)
            assert len(renaming) == 1
            assert await handled(store.namespace("other")) == ["b"]
            assert await feed.source() is None
        assert places_log(place).count("deadlock") == deadlocks


async def terminate(place: Target, observation: Observation) -> None:
    """End the connection of an observation."""
    pid = observation._connection.get_server_pid()
    async with connected(place.settings.url) as other:
        await other.execute(f"SELECT pg_terminate_backend({pid}, 10000)")


def planning(store: AsyncSeenStore) -> AbstractAsyncContextManager[Any]:
    """Return a connection of a store, with its settings of the planner."""
    backend: Any = store._lifecycle.backend
    connections: Connections = backend._connections
    return connections.acquire()


async def test_texts_of_a_listing_outlive_the_note(place: Target) -> None:
    """A note that is removed takes neither digest nor alias along."""
    async with at(place, feeds=RULES) as store:
        feed = store.namespace("feed")
        await baseline(feed, [Entry("a", link="/a", title="t", text="1"), "z"])
        for note in ("text", ""):
            await feed.mark_seen("a", note=note)
        ((_, note, alias, digest, _),) = await texts(place, "feed")
        assert note is None
        assert alias
        assert digest
        seen = await observe(feed, [Entry("b", link="/a", title="t"), "z"])
        assert keys(seen.replaced) == ["b"]


async def test_note_outlives_a_new_alias(place: Target) -> None:
    """What waits keeps its note when it is listed again, with other texts."""
    async with at(place) as store:
        feed = store.namespace("feed")
        await baseline(feed, "z")
        await observe(feed, ["z", Entry("b", "note", text="1")])
        await observe(feed, "z")
        await observe(feed, ["z", Entry("b", link="/b", title="t", text="1")])
        ((_, note, alias, digest, _),) = await texts(place, "feed")
        assert note == "note"
        assert alias
        assert digest
        assert await handled(feed) == ["note"]


async def test_rename_refuses_the_name_of_a_source(place: Target) -> None:
    """A source without a key occupies its name as well."""
    async with at(place) as store:
        await store.namespace("failed").failed("no route")
        await baseline(store.namespace("feed"), "a")
        with pytest.raises(ValueError, match="failed"):
            await store.rename("failed", namespace="feed")
        assert await store.namespace("feed").is_seen("a")


async def test_keys_of_the_first_schema_are_known(place: Target) -> None:
    """What an earlier release has marked is not handled again, nor marked anew.

    A schema without the index of the listed keys works as well.
    """
    schema = quote_identifier(str(place.settings.schema))
    async with connected(place.settings.url) as other:
        await create_version_1(other, schema)
        async with at(place) as store:
            await other.execute(f"DROP INDEX {schema}.seen_listed")
            feed = store.namespace("n")
            four = Entry("four", "four", spellings=("4",))
            seen = await observe(feed, [*"123", four, "5"])
            assert (keys(seen.new), seen.baseline) == (["four", "5"], 0)
            record = await feed.get("3")
            assert record is not None
            assert (record.state, record.first_seen) == ("seen", 1e9 + 3)
            seen = await observe(feed, "35")
            assert keys(seen.new) == ["5"]
            assert await handled(feed) == ["four", "5"]


async def test_plans_made_on_empty_tables_use_indexes(place: Target) -> None:
    """Each statement on the keys of a source searches an index from the beginning."""
    async with at(place) as store, planning(store) as one:
        tables = Tables(f'"{place.settings.schema}"', ServerClock())
        for name in ON_KEYS:
            statement = tables.render(getattr(sources, name))
            await one.execute(f"PREPARE {name} AS {statement}")
            count = await one.fetchval(
                "SELECT cardinality(parameter_types) FROM pg_prepared_statements"
                " WHERE name = $1",
                name.lower(),
            )
            values = ", ".join(["NULL"] * count)
            rows = await one.fetch(f"EXPLAIN EXECUTE {name} ({values})")
            plan = "\n".join(line for (line,) in rows)
            assert "Seq Scan" not in plan, plan
            assert "Join" not in plan.replace("Left Join", ""), plan
            if name in {"READ_LISTED", "COUNT_LISTED", "LEAVE"}:
                assert "seen_listed" in plan, plan
            if name in {"WAITING", "COUNT_WAITING"}:
                assert "seen_seq" in plan, plan
