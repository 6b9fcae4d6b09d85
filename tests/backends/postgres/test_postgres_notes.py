"""Notes on PostgreSQL: races, transactions, and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import asyncpg
import pytest

from catalyst_seen import AsyncSeenStore, LeaseLostError, Verdict
from catalyst_seen.backends.operations import (
    Acquire,
    CheckAndMark,
    Get,
    IsSeen,
    Mark,
    Operation,
    Row,
)

from ...support.postgres_stores import at, connected, named, until_blocked
from ...support.targets import Target

T = TypeVar("T")


async def note(store: AsyncSeenStore, key: str) -> str | None:
    """Return the note of a key that is not unseen."""
    record = await store.get(key)
    assert record is not None
    return record.note


async def details(connection: asyncpg.Connection, place: Target) -> list[str]:
    """Return the keys in the table of details."""
    table = f'"{place.settings.schema}".detail'
    rows = await connection.fetch(f"SELECT key FROM {table} ORDER BY key")
    return [key for (key,) in rows]


class TestRaces:
    """Notes of keys whose rows other transactions insert or change."""

    async def test_claim_that_waited_returns_latest_note(self, place: Target) -> None:
        """A claim that waited for the lock of its row returns the note as it is then.

        The note may be newer than the snapshot of the claim, as may be its row.
        """
        schema = f'"{place.settings.schema}"'
        async with at(place) as store, connected(place.settings.url) as other:
            for key, before in (("a", None), ("b", "old")):
                await (await store.claim(key, note=before)).release()
                async with other.transaction():
                    await other.execute(
                        f"UPDATE {schema}.seen SET has_detail = true WHERE key = $1",
                        key,
                    )
                    await other.execute(
                        f"""INSERT INTO {schema}.detail (namespace, key, note)
                        SELECT namespace, key, 'new' FROM {schema}.seen WHERE key = $1
                        ON CONFLICT (namespace, key) DO UPDATE SET note = 'new'""",
                        key,
                    )
                    claiming = asyncio.ensure_future(store.claim(key))
                    await until_blocked(other)
                    assert not claiming.done()
                claim = await claiming
                assert (claim.verdict, claim.note) == (Verdict.RETRY, "new")

    async def test_loser_of_an_insert_writes_no_note(self, place: Target) -> None:
        """A call that meets a concurrent insert of its key writes no note; a mark does.

        So does a mark that removes the note.
        """
        schema = f'"{place.settings.schema}"'
        async with at(place) as store, connected(place.settings.url) as other:
            default = await named(other, place)

            async def meet(key: str, call: Callable[[], Awaitable[T]]) -> T:
                """Insert a row with a note, and commit when a call waits for it."""
                lease = 1e10 if key == "b" else None
                async with other.transaction():
                    await other.execute(
                        f"""INSERT INTO {schema}.seen (namespace, key, first_seen,
                            last_seen, token, attempt, lease_until, on_abandoned,
                            has_detail)
                        VALUES ({default}, $1, 1, 1, 'theirs', 1, $2::float8,
                            CASE WHEN $2 IS NULL THEN NULL ELSE 'retry' END, true)""",
                        key,
                        lease,
                    )
                    await other.execute(
                        f"INSERT INTO {schema}.detail VALUES ({default}, $1, 'theirs')",
                        key,
                    )
                    calling = asyncio.ensure_future(call())
                    await until_blocked(other)
                return await calling

            loser = await meet("a", partial(store.check_and_mark, "a", note="mine"))
            assert loser.verdict is Verdict.DUPLICATE
            claim = await meet("b", partial(store.claim, "b", note="mine"))
            assert (claim.verdict, claim.note) == (Verdict.IN_FLIGHT, None)
            for key, mine in (("c", "mine"), ("d", ""), ("e", None)):
                await meet(key, partial(store.mark_seen, key, note=mine))
            notes = [await note(store, key) for key in "abcde"]
        assert notes == ["theirs", "theirs", "mine", None, "theirs"]

    async def test_rows_removed_by_others_leave_no_note(self, place: Target) -> None:
        """If another program deletes the row of a key, its note does not come back."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_many(["a", "b"], note="old")
            await other.execute(f'DELETE FROM "{place.settings.schema}".seen')
            assert await store.check_and_mark("a")
            assert await store.check_and_mark("b", note="new")
            assert [await note(store, key) for key in "ab"] == [None, "new"]


class TestTransaction:
    """claim.confirm(connection=…, note=…)."""

    async def test_note_is_written_in_the_transaction(self, place: Target) -> None:
        """A note is committed or rolled back with the transaction of its confirm."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k", note="before")
            transaction = own.transaction()
            await transaction.start()
            await claim.confirm(connection=own, note="after")
            assert await note(store, "k") == "before"
            await transaction.rollback()
            assert await note(store, "k") == "before"
            async with own.transaction():
                await claim.confirm(connection=own, note="after")
            assert await note(store, "k") == "after"

    async def test_lost_claim_writes_no_note(self, place: Target) -> None:
        """A lost claim writes no note in a transaction."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            await store.mark_seen("k", note="theirs")
            async with own.transaction():
                with pytest.raises(LeaseLostError):
                    await claim.confirm(connection=own, note="mine")
            assert await note(store, "k") == "theirs"


class TestReads:
    """Which results carry a note."""

    async def test_notes_are_read_for_results_only(self, place: Target) -> None:
        """The text is read for a Get and for the owner of a claim, for nobody else."""
        async with at(place) as store:
            await store.mark_many(["a", "b", "c"], note="text")
            await (await store.claim("d", note="text")).release()
            operations: list[Operation[object]] = [
                Get("", "a"),
                IsSeen("", "b"),
                CheckAndMark("", "c", None),
                Acquire("", "d", "token", 60, 60, "retry"),
            ]
            backend = store._lifecycle.backend
            one_by_one = [
                (await backend.apply([operation], sample_version=False)).rows[0]
                for operation in operations[:3]
            ]
            batch = await backend.apply(operations, sample_version=False)
            for rows in ([*one_by_one, batch.rows[3]], batch.rows):
                notes = [row.note if isinstance(row, Row) else None for row in rows]
                assert notes == ["text", None, None, "text"]

    async def test_repeated_keys_of_a_batch(self, place: Target) -> None:
        """In a batch, what reads a note sees what came before it, of any operation."""
        async with at(place) as store:
            await store.mark_seen("a", note="text")
            operations: list[Operation[object]] = [
                IsSeen("", "a"), Get("", "a"), Mark("", "a", None), Get("", "a"),
                Mark("", "a", None, note=""), Get("", "a"),
                CheckAndMark("", "b", None, note="b"), Get("", "b"),
                CheckAndMark("", "b", None, note="c"), Get("", "b"),
            ]  # fmt: skip
            backend = store._lifecycle.backend
            result = await backend.apply(operations, sample_version=False)
        notes = [getattr(one, "note", "no record") for one in result.results]
        assert [notes[index] for index in (1, 3, 5, 7, 9)] == [
            "text", "text", None, "b", "b",
        ]  # fmt: skip


class TestRemains:
    """What stays in the table of details."""

    async def test_removed_rows_leave_no_detail(self, place: Target) -> None:
        """Forget, purge, cleanup and clear delete details with the rows, and only so.

        So does a mark of an expired key.
        """
        async with at(place) as store, connected(place.settings.url) as other:
            keys = ["forgotten", "old", "live", "cleared"]
            await store.mark_many(keys, ts=1e9, ttl=None, note="text")
            await store.mark_seen("live", note="text")
            await store.mark_many(["expired", "new"], ttl=0.001, note="text")
            await store.mark_seen("cleared", ttl=None, note="text", namespace="n")
            await asyncio.sleep(0.01)
            await store.forget("forgotten")
            assert await store.check_and_mark("new", ttl=None)
            assert await details(other, place) == [
                "cleared", "cleared", "expired", "live", "old",
            ]  # fmt: skip
            assert await store.purge_expired() == 1
            assert await details(other, place) == ["cleared", "cleared", "live", "old"]
            assert await store.cleanup_old_entries(1) == 2
            assert await details(other, place) == ["cleared", "live"]
            await store.clear(namespace="n")
            assert await details(other, place) == ["live"]
            await store.clear()
            assert await details(other, place) == []
