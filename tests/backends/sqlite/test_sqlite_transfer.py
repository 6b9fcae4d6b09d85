"""Rows that are written for a move, into a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreUnavailableError
from catalyst_seen.backends.operations import Row
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
