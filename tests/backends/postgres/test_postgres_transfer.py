"""Rows that are written for a move, beside other programs on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from catalyst_seen import AsyncSeenStore, StoreUnavailableError
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.listings import SourceState, Totals
from catalyst_seen.backends.operations import Id, Row

from ...support.postgres_stores import at, connected
from ...support.targets import Target
from ...support.transfer import rows_of, transfer

STATE = SourceState(totals=Totals(polls=1))


def rows_at(store: AsyncSeenStore, keys: Iterable[str]) -> list[tuple[Id, Row | None]]:
    """Return marks of keys."""
    now = store._lifecycle.backend.now()
    return [(("n", key), Row(now, now, None, note=key)) for key in keys]


async def test_locked_row_is_waited_for(place: Target) -> None:
    """A row that stays locked fails in time with the remedy, and nothing is written."""
    async with at(place, timeout=1, tuning=Tuning()) as store:
        await store.mark_seen("b", namespace="n")
        rows = rows_at(store, "abc")
        table = f'"{place.settings.schema}"'
        async with connected(place.settings.url) as own, own.transaction():
            await own.execute(f"SELECT FROM {table}.seen FOR UPDATE")
            await own.execute(f"SELECT FROM {table}.namespace FOR UPDATE")
            for written in (rows, [(id_, None) for id_, _ in rows]):
                with pytest.raises(StoreUnavailableError, match="pg_stat_activity"):
                    await transfer(store).write_rows(written)
            with pytest.raises(StoreUnavailableError, match="pg_stat_activity"):
                await transfer(store).write_source_states({"n": STATE})
            assert set(await rows_of(store)) == {("n", "b")}
        await transfer(store).write_rows(rows)
        await transfer(store).write_source_states({"n": STATE})
        assert set(await rows_of(store)) == {("n", key) for key in "abc"}
        assert await transfer(store).read_source_states() == {"n": STATE}


async def test_lock_that_ends_in_time(place: Target) -> None:
    """A lock that ends before the timeout only delays the call."""
    async with at(place, timeout=60, tuning=Tuning()) as store:
        await store.mark_seen("b", namespace="n")
        async with connected(place.settings.url) as own:
            async with own.transaction():
                await own.execute(
                    f'SELECT FROM "{place.settings.schema}".seen FOR UPDATE'
                )
                writing = asyncio.create_task(
                    transfer(store).write_rows(rows_at(store, "abc"))
                )
                await store.is_seen("b", namespace="n")
                assert not writing.done()
            await writing
        assert len(await rows_of(store)) == 3


async def test_beside_batches(place: Target) -> None:
    """Writes, removals and batches on the same keys all complete."""
    keys = [f"k{number}" for number in range(300)]
    async with at(place, timeout=60) as store, at(place, timeout=60) as other:
        now = store._lifecycle.backend.now()
        mark = Row(now, now, None)
        for number in range(10):
            rows = [
                (("n", key), None if (index + number) % 3 == 0 else mark)
                for index, key in enumerate(keys)
            ]
            await asyncio.gather(
                transfer(store).write_rows(rows[::-1]),
                other.mark_many(keys[::-1], namespace="n"),
                other.check_and_mark_many(keys, namespace="m"),
            )
        assert await other.count(namespace="n") >= 200


async def test_pages_are_bounded(place: Target) -> None:
    """A page ends early when its notes are long, and the next one goes on there."""
    async with at(place) as store:
        rows = [
            (id_, row and row._replace(note="n" * 65_000))
            for number in range(50)
            for id_, row in rows_at(store, [f"{number} a", f"{number} b"])
        ]
        await transfer(store).write_rows(rows)
        page = await transfer(store).read_rows(limit=1_000, cursor=None)
        assert 0 < len(page.rows) < 100
        assert page.cursor is not None
        assert await rows_of(store) == dict(rows)
