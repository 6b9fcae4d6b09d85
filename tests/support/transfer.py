"""Moves of whole stores, as they are stored, from one backend to another."""

from __future__ import annotations

from catalyst_seen import AsyncSeenStore
from catalyst_seen.backends import Row, SupportsTransfer
from catalyst_seen.backends.operations import Id

MILLISECOND = 0.001


def transfer(store: AsyncSeenStore) -> SupportsTransfer:
    """Return the backend of an open store."""
    backend = store._lifecycle.backend
    assert isinstance(backend, SupportsTransfer)
    return backend


async def rows_of(store: AsyncSeenStore, *, limit: int = 1_000) -> dict[Id, Row]:
    """Read all rows of a store, page by page."""
    rows: dict[Id, Row] = {}
    cursor = None
    while True:
        page = await transfer(store).read_rows(limit=limit, cursor=cursor)
        rows |= {(one.namespace, one.key): one.row for one in page.rows}
        cursor = page.cursor
        if cursor is None:
            return rows


async def move(source: AsyncSeenStore, target: AsyncSeenStore) -> None:
    """Write the rows of a store, and the states of its sources, to another one."""
    rows = await rows_of(source)
    await transfer(target).write_rows(list(rows.items()))
    states = await transfer(source).read_source_states()
    await transfer(target).write_source_states(states)


def assert_equal(found: Row | None, expected: Row | None) -> None:
    """Compare rows; Redis rounds the instant at which a row expires up."""
    if found is None or expected is None or expected.expires_at is None:
        assert found == expected
        return
    assert found.expires_at is not None
    assert -1e-6 <= found.expires_at - expected.expires_at < MILLISECOND + 1e-6
    assert found._replace(expires_at=expected.expires_at) == expected


def assert_all_equal(found: dict[Id, Row], expected: dict[Id, Row]) -> None:
    """Compare the rows of two stores."""
    assert found.keys() == expected.keys()
    for id_, row in expected.items():
        assert_equal(found[id_], row)
