"""Names of namespaces on PostgreSQL: concurrent inserts, removal, rename, and scans."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from catalyst_seen import AsyncSeenStore, Record, StoreUnavailableError
from catalyst_seen._tuning import Tuning
from catalyst_seen._types import RECORD_STATES
from catalyst_seen.backends._retry import ServerClock
from catalyst_seen.backends.base import Cursor, Selection
from catalyst_seen.backends.operations import CheckAndMark, Mark
from catalyst_seen.backends.postgres import PostgresBackend, scans
from catalyst_seen.backends.postgres.batch import Batch
from catalyst_seen.backends.postgres.tables import Tables

from ...support.clock import Clock
from ...support.postgres_stores import at, connected, places_log, until_blocked
from ...support.targets import Target


async def names(connection: asyncpg.Connection, place: Target) -> list[str]:
    """Return the names in the table of namespaces."""
    table = f'"{place.settings.schema}".namespace'
    rows = await connection.fetch(f"SELECT name FROM {table} ORDER BY name")
    return [name for (name,) in rows]


def tables(place: Target) -> Tables:
    """Return the tables of a place."""
    return Tables(f'"{place.settings.schema}"', ServerClock())


@asynccontextmanager
async def marking(place: Target, namespace: str, key: str) -> AsyncIterator[None]:
    """Hold a transaction open that has marked a key, as a store's batch does."""
    async with connected(place.settings.url) as own, own.transaction():
        batch = Batch([CheckAndMark(namespace, key, None)], tables(place), "here")
        await batch.execute(own, ServerClock())
        yield


class TestInserts:
    """Names that several batches insert at once."""

    @pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
    async def test_uncommitted_name_is_waited_for(
        self, place: Target, end: str
    ) -> None:
        """A batch that meets an uncommitted name waits, and then uses that, or its own.

        It is one statement all the same.
        """
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_many(["a", "b"], namespace="known")
            table = f'"{place.settings.schema}".namespace'
            await other.execute("BEGIN")
            await other.execute(f"INSERT INTO {table} (name) VALUES ('n')")
            marks = asyncio.gather(
                store.check_and_mark("k", namespace="n"),
                store.check_and_mark("k", namespace="m"),
                store.check_and_mark("a", namespace="known"),
            )
            await until_blocked(other)
            await other.execute(end)
            assert list(map(bool, await marks)) == [True, True, False]
            assert await names(other, place) == ["known", "m", "n"]
            assert not await store.check_and_mark("k", namespace="n")

    async def test_many_stores_insert_many_names(self, place: Target) -> None:
        """Stores that use the same new names at once mark each key once; no deadlock.

        Some of the batches are of several statements, and have the names in another
        order.
        """
        async with at(place, timeout=30) as one, at(place, timeout=30) as two:
            for round_ in range(5):
                ids = [
                    (f"{round_} {number % 50}", str(number)) for number in range(1_500)
                ]
                batches = [
                    [CheckAndMark(*id_, None) for id_ in some]
                    for some in (ids, ids[::-1], ids[::3], [*ids[:9], *ids[:9]])
                ]
                stores = (one, two) * 2
                results = await asyncio.gather(
                    *(
                        store._lifecycle.backend.apply(batch, sample_version=False)
                        for store, batch in zip(stores, batches, strict=True)
                    )
                )
                new = [
                    (sighting.namespace, sighting.key)  # type: ignore[attr-defined]
                    for result in results
                    for sighting in result.results
                    if sighting
                ]
                assert sorted(new) == sorted(ids)
            assert len(await one.namespaces()) == 250
        assert "deadlock" not in places_log(place)

    async def test_names_come_before_rows(self, place: Target) -> None:
        """A batch of several statements waits for a name before it locks any row."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("0", namespace="a")
            table = f'"{place.settings.schema}".namespace'
            async with at(place) as another:
                async with other.transaction():
                    await other.execute(f"INSERT INTO {table} (name) VALUES ('z')")
                    backend = store._lifecycle.backend
                    batch = [Mark("a", str(number), None) for number in range(1_500)]
                    marking_all = asyncio.create_task(
                        backend.apply(
                            [*batch, Mark("z", "k", None)], sample_version=False
                        )
                    )
                    await until_blocked(other)
                    await another.mark_many(["0", "1"], namespace="a")
                    assert not marking_all.done()
                await marking_all
            assert await store.count() == 1_501

    async def test_reads_and_refusals_insert_no_name(self, place: Target) -> None:
        """Only what inserts a row inserts the name of its namespace."""
        async with at(place) as store, connected(place.settings.url) as other:
            assert not await store.is_seen("k", namespace="a")
            assert await store.get("k", namespace="b") is None
            assert not await store.forget("k", namespace="c")
            assert not await store.resolve("k", handled=True, namespace="d")
            assert await store.refresh(["k"], namespace="e") == 0
            await asyncio.gather(
                store.is_seen("k", namespace="f"),
                store.forget("k", namespace="g"),
                store.mark_seen("k", namespace="h"),
            )
            assert await names(other, place) == ["h"]


class TestRemoval:
    """Names of namespaces that have become empty."""

    @pytest.mark.parametrize("verb", ["purge", "cleanup", "clear", "clear all"])
    async def test_empty_namespaces_lose_their_names(
        self, place: Target, verb: str
    ) -> None:
        """The last row's removal takes the name with it, but for that of a source."""
        schema = f'"{place.settings.schema}"'
        async with at(place) as store, connected(place.settings.url) as other:
            for name in ("n", "source"):
                await store.mark_seen("k", ts=1e9, ttl=1, namespace=name)
            await store.mark_seen("k", ttl=None, namespace="other")
            await other.execute(
                f"UPDATE {schema}.namespace SET polls = 3, first_poll = 1, digest = 'x'"
                " WHERE name = 'source'"
            )
            if verb == "purge":
                assert await store.purge_expired() == 2
                assert await names(other, place) == ["other", "source"]
            elif verb == "cleanup":
                assert await store.cleanup_old_entries(1) == 2
                assert await names(other, place) == ["other", "source"]
            elif verb == "clear":
                assert await store.clear(namespace="source") == 0
                assert await names(other, place) == ["n", "other"]
            else:
                assert await store.clear(namespace=None) == 1
                assert await names(other, place) == []

    async def test_name_in_use_stays(self, place: Target) -> None:
        """A name stays while a transaction may have marked a key under it."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("old", namespace="n")
            await store.forget("old", namespace="n")
            async with marking(place, "n", "new"):
                assert await store.purge_expired() == 0
                assert await store.clear(namespace="n") == 0
                assert await names(other, place) == ["n"]
            assert await store.is_seen("new", namespace="n")
            await store.forget("new", namespace="n")
            await store.purge_expired(namespace="another")
            assert await names(other, place) == ["n"]
            await store.purge_expired(namespace="n")
            assert await names(other, place) == []

    async def test_confirm_in_a_long_transaction_keeps_no_name(
        self, place: Target
    ) -> None:
        """A long transaction with a confirm lets names be removed and changed."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k", namespace="n")
            await store.mark_seen("k", ttl=0.001, namespace="gone")
            async with own.transaction():
                await claim.confirm(connection=own)
                await store.purge_expired()
                assert await names(own, place) == ["n"]
                await store.rename("m", namespace="n")
            assert await store.is_seen("k", namespace="m")

    async def test_marks_beside_removals_are_kept(self, place: Target) -> None:
        """Every mark that was acknowledged is there, while its name comes and goes."""
        async with at(place, timeout=30) as one, at(place, timeout=30) as two:
            is_over = False

            async def mark(store: AsyncSeenStore, name: str) -> int:
                number = 0
                while not is_over:
                    number += 1
                    key = f"{name} {number}"
                    assert await store.check_and_mark(key, namespace="n")
                    assert await store.is_seen(key, namespace="n")
                    await store.forget(key, namespace="n")
                return number

            marks = [
                asyncio.create_task(mark(store, f"{store is one} {task}"))
                for store in (one, two)
                for task in range(2)
            ]
            async with at(place, timeout=30) as purger:
                for _ in range(60):
                    await purger.purge_expired(namespace="n")
            is_over = True
            assert sum(await asyncio.gather(*marks)) > 0

    async def test_clear_beside_locked_rows(self, place: Target) -> None:
        """A clear leaves a row that stays locked, and removes the others."""
        async with (
            at(place, tuning=Tuning()) as store,
            connected(place.settings.url) as own,
        ):
            claim = await store.claim("k")
            await store.mark_many(["a", "z"])
            async with own.transaction():
                await claim.confirm(connection=own)
                assert await store.clear() == 2
            assert [one.key async for one in store.records()] == ["k"]
            assert await store.clear() == 1

    async def test_clear_on_a_pool(self, place: Target) -> None:
        """The same on a pool of the user's, where a page is a transaction."""
        async with (
            asyncpg.create_pool(place.settings.url, min_size=1, max_size=2) as pool,
            connected(place.settings.url) as own,
        ):
            config = place.config(purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                claim = await store.claim("k", namespace="n")
                await store.mark_many(["a", "z"], namespace="n")
                async with own.transaction():
                    await claim.confirm(connection=own)
                    assert await store.clear(namespace="n") == 2
                await store.rename("m", namespace="n")
                assert await store.clear(namespace="m") == 1
                assert await names(own, place) == []


class TestRename:
    """rename beside other transactions."""

    async def test_rename_waits_for_marks_of_the_new_name(self, place: Target) -> None:
        """A name under which a key is being marked is occupied as soon as it is."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k", namespace="old")
            await store.mark_seen("k", namespace="new")
            await store.forget("k", namespace="new")
            async with marking(place, "new", "l"):
                renaming = asyncio.ensure_future(store.rename("new", namespace="old"))
                await until_blocked(other)
                assert not renaming.done()
            with pytest.raises(ValueError, match="has keys already"):
                await renaming
            assert await store.is_seen("k", namespace="old")
            assert await store.is_seen("l", namespace="new")

    async def test_rename_gives_up_in_time(self, place: Target) -> None:
        """A rename that waits in vain fails, and has changed nothing."""
        async with at(place, timeout=1, tuning=Tuning()) as store:
            await store.mark_seen("k", namespace="old")
            async with marking(place, "other", "l"):
                with pytest.raises(StoreUnavailableError):
                    await store.rename("new", namespace="old")
            assert await store.namespaces() == ["old", "other"]

    async def test_marks_beside_renames_are_kept(self, place: Target) -> None:
        """A key that was marked under a name is there under the old or the new one."""
        async with at(place, timeout=30) as one, at(place, timeout=30) as two:
            marked: list[str] = []
            is_over = False

            async def mark(task: int) -> None:
                number = 0
                while not is_over:
                    number += 1
                    key = f"{task} {number}"
                    await one.mark_seen(key, namespace="old")
                    marked.append(key)

            marks = [asyncio.create_task(mark(task)) for task in range(3)]
            for round_ in range(20):
                await two.rename(f"new {round_}", namespace="old")
            is_over = True
            await asyncio.gather(*marks)
            records = [one.key async for one in two.records()]
            assert sorted(records) == sorted(marked)


class TestScans:
    """Scans read what an index finds."""

    @pytest.mark.parametrize("limit", [1, 2, 7, 1_000])
    async def test_pages_agree_with_the_definition(
        self, place: Target, clock: Clock, limit: int
    ) -> None:
        """The pages of a selection are what ``Selection.has`` selects, each once."""
        rng = random.Random(limit)
        async with at(place) as store:
            for number in range(60):
                key = "".join(rng.choices("ab\ud7ff\U0010ffff", k=rng.randrange(1, 4)))
                namespace = rng.choice(["", "n", "m"])
                if rng.random() < 0.5:
                    await store.mark_seen(
                        key, ttl=rng.choice([1, 60]), namespace=namespace
                    )
                else:
                    await store.claim(
                        key, lease=rng.choice([1, 60]), namespace=namespace,
                        on_abandoned=rng.choice(["retry", "hold", "drop"]),
                        note=rng.choice([None, "text"]),
                    )  # fmt: skip
                clock.advance(number % 2)
            await store.mark_seen("gone", ttl=1, namespace="expired")
            clock.advance(1)
            everything = [one async for one in store.records()]
            assert len(everything) > 20
            backend = store._lifecycle.backend
            assert isinstance(backend, PostgresBackend)
            for selection in itertools.starmap(
                Selection,
                itertools.product(
                    (None, "n", "nothing"),
                    (None, *RECORD_STATES),
                    ("", "a", "b\ud7ff", "\U0010ffff", "c"),
                    (None, everything[9].last_seen),
                ),
            ):
                found = await all_pages(backend, selection, limit)
                expected = filter(selection.has, everything)
                assert sorted(found, key=repr) == sorted(expected, key=repr)

    async def test_probes_use_indexes(self, place: Target) -> None:
        """What asks for one key, one page or held keys scans no table.

        The statistics say that it would be cheap.
        """
        async with at(place) as store, connected(place.settings.url) as own:
            schema = f'"{place.settings.schema}"'
            for name in ("a", "b"):
                await store.mark_seen("k", namespace=name)
            await own.execute(
                f"INSERT INTO {schema}.seen (namespace, key, first_seen, last_seen)"
                f" SELECT id, n::text, 1, 1 FROM {schema}.namespace,"
                f" generate_series(1, 2000) n; ANALYZE {schema}.seen"
            )
            backend = store._lifecycle.backend
            assert isinstance(backend, PostgresBackend)
            statements = {
                scans.HAS_SEEN: (),
                scans.NAMESPACES: (),
                _records("held", is_one_namespace=False): (0, "", 9),
                _records(None, is_one_namespace=False): (0, "", 9),
                _records(None, is_one_namespace=True): (1, "", 9),
                _records(None, is_one_namespace=False, prefix=True): (
                    0, "", 9, "k", "l",
                ),
            }  # fmt: skip
            async with backend._connections.acquire() as connection:
                for template, parameters in statements.items():
                    statement = tables(place).render(template, scope="true")
                    plan = "\n".join(
                        line
                        for (line,) in await connection.fetch(
                            f"EXPLAIN {statement}", *parameters
                        )
                    )
                    assert "Seq Scan on seen" not in plan, plan
                    if "hold" in statement.partition("ORDER BY")[0]:
                        assert "seen_hold" in plan, plan
                    else:
                        assert "seen_pkey" in plan, plan


async def all_pages(
    backend: PostgresBackend, selection: Selection, limit: int
) -> list[Record]:
    """Return the records of all pages, none of which is too large."""
    found: list[Record] = []
    cursor: Cursor | None = None
    while True:
        page = await backend.records(selection, limit=limit, cursor=cursor)
        assert len(page.records) <= limit
        found += page.records
        cursor = page.cursor
        if cursor is None:
            return found


def _records(state: str | None, *, is_one_namespace: bool, prefix: bool = False) -> str:
    return scans.records(
        state,
        is_one_namespace=is_one_namespace,
        has_prefix=prefix,
        has_end=prefix,
        has_since=False,
    )
