"""Rows that are written for a move, into a file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreUnavailableError
from catalyst_seen.backends.operations import Listed, Row
from catalyst_seen.backends.sqlite.backend import SqliteBackend

from ...support.clock import NOON
from ...support.transfer import rows_of, transfer

MARK = Row(NOON, NOON, None)


async def test_all_or_nothing(path: Path) -> None:
    """A row that cannot be stored keeps all others of its call out."""
    async with AsyncSeenStore(path) as store:
        bad = MARK._replace(first_seen=None)  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailableError, match="NOT NULL"):
            await transfer(store).write_rows(
                [(("n", "a"), MARK), (("n", "b"), bad), (("m", "c"), MARK)]
            )
        assert await rows_of(store) == {}
        assert await store.namespaces() == []


async def test_log_is_bounded(path: Path) -> None:
    """The write-ahead log of many rows ends up in the file, with or without a store."""
    backend = SqliteBackend(path, SeenStoreConfig(), None)
    await backend.open()
    log = path.with_name(f"{path.name}-wal")
    for number in range(9):
        rows = [
            (("n", f"{number} {key}"), MARK._replace(note="n" * 60_000))
            for key in range(200)
        ]
        await backend.write_rows(rows)
        assert log.stat().st_size < 80_000_000
    await backend.aclose()
    assert path.stat().st_size > 9 * 200 * 60_000


async def test_details_end_with_their_rows(path: Path) -> None:
    """A row without texts has no detail, whatever had been there."""
    listed = MARK._replace(note="text", listed=Listed(3, 1, None, None, "a", "0:b"))
    async with AsyncSeenStore(path) as store:
        await transfer(store).write_rows([(("n", key), listed) for key in "abc"])
        await transfer(store).write_rows([(("n", "a"), MARK), (("n", "b"), None)])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT key FROM detail").fetchall() == [("c",)]


async def test_pages_are_bounded(path: Path) -> None:
    """A page ends early when its notes are long, and the next one goes on there."""
    rows = {("n", f"{key}"): MARK._replace(note="n" * 65_000) for key in range(100)}
    async with AsyncSeenStore(path) as store:
        await transfer(store).write_rows(list(rows.items()))
        page = await transfer(store).read_rows(limit=1_000, cursor=None)
        assert 0 < len(page.rows) < 100
        assert page.cursor is not None
        assert await rows_of(store) == rows
