"""The table of namespaces in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen.backends.sqlite.backend import SqliteBackend

from ...support.clock import DAY, Clock
from ...support.sqlite_faults import SqliteFaults
from ...support.sqlite_files import a_row, read, write
from ...support.sqlite_statements import SqliteStatements

NAMES = "SELECT name FROM namespace ORDER BY name"
STATE = "UPDATE namespace SET {} WHERE name = 'n'"
STATES = [
    "polls = 1", "poll_clock = 0.5", "recipe = 'guid'", "first_poll = 1.5",
    "last_poll = 1.5", "digest = x'00'", "listed = 0", "largest = 0",
    "recent_sizes = '[]'", "baseline_at = 1.5", "validators = '{}'",
    "poller_state = ''", "last_error = 'e'", "observation = 'i'", "summary = '{}'",
    "totals = '{}'",
]  # fmt: skip
COLUMNS = "SELECT name FROM pragma_table_info('namespace')"


@pytest.fixture
def config(path: Path, clock: Clock) -> SeenStoreConfig:
    """Settings of a store that purges only when it is asked to."""
    return SeenStoreConfig(path, clock=clock, purge_interval=None, recent_keys=0)


async def test_states_are_all_columns(config: SeenStoreConfig, path: Path) -> None:
    """Every column of a namespace is part of the state of its source."""
    async with AsyncSeenStore(config):
        pass
    columns = {state.partition(" = ")[0] for state in STATES} | {"id", "name"}
    assert {(column,) for column in columns} == {*read(path, COLUMNS)}


async def test_namespaces_without_rows_are_removed(
    config: SeenStoreConfig, clock: Clock, path: Path
) -> None:
    """A purge, a cleanup and a clear remove the namespaces that they leave empty."""
    names = [f"n{number:03}" for number in range(300)]
    async with AsyncSeenStore(config) as store:
        for number, name in enumerate(names):
            await store.mark_many([*"abcd"], ttl=60, namespace=name)
            if number % 3 == 0:
                await store.mark_seen("kept", namespace=name)
        assert len(read(path, NAMES)) == 300
        clock.advance(60)
        assert await store.purge_expired() == 1_200
        assert read(path, NAMES) == [(name,) for name in names[::3]]
        assert await store.clear(namespace="n000") == 1
        assert await store.clear(namespace="unknown") == 0
        assert len(read(path, NAMES)) == 99
        clock.advance(DAY)
        assert await store.cleanup_old_entries(1, namespace="n003") == 1
        assert len(read(path, NAMES)) == 98
        assert await store.cleanup_old_entries(1) == 98
        assert read(path, NAMES) == []
        await store.mark_many([*"ab"], namespace="n")
        await store.forget_many([*"ab"], namespace="n")
        assert await store.purge_expired() == 0
        assert read(path, NAMES) == []


@pytest.mark.parametrize("state", STATES)
async def test_state_of_a_source(
    config: SeenStoreConfig, clock: Clock, path: Path, state: str
) -> None:
    """A namespace with the state of a source stays without rows, until it is cleared.

    It is no name to rename to.
    """
    async with AsyncSeenStore(config) as store:
        await store.mark_seen("k", ttl=60, namespace="n")
        await store.mark_seen("k", namespace="other")
        write(path, STATE.format(state))
        clock.advance(60)
        assert await store.purge_expired() == 1
        assert await store.cleanup_old_entries(1) == 0
        assert read(path, NAMES) == [("n",), ("other",)]
        with pytest.raises(ValueError, match="has keys already"):
            await store.rename("n", namespace="other")
        assert await store.namespaces() == ["other"]
        assert await store.clear(namespace="n") == 0
        assert read(path, NAMES) == [("other",)]
        await store.rename("n", namespace="other")


@pytest.mark.parametrize("state", STATES)
async def test_clear_between_marks(
    config: SeenStoreConfig, path: Path, state: str
) -> None:
    """A clear ends the state of a source though a key stays that is marked meanwhile.

    The state of other sources stays.
    """
    async with AsyncSeenStore(config) as store:
        await store.mark_many([*"bcde"], namespace="n")
        await store.mark_seen("k", namespace="other")
        write(path, STATE.format(state), "UPDATE namespace SET polls = 7 WHERE id = 2")
        backend = store._lifecycle.backend
        assert isinstance(backend, SqliteBackend)
        page = await backend.clear(namespace="n", limit=2, cursor=None)
        assert page.removed == 2
        await store.mark_seen("a", namespace="n")
        page = await backend.clear(namespace="n", limit=2, cursor=page.cursor)
        assert page.removed == 2
        assert await store.count(namespace="n") == 1
        await store.mark_seen("b", namespace="fresh")
    column = state.partition(" = ")[0]
    values = f"SELECT {column} FROM namespace WHERE name = '{{}}'"
    expected = read(path, values.format("fresh"))
    if column == "recipe":  # the next listing is a baseline, whatever is left
        expected = [("cleared",)]
    assert read(path, values.format("n")) == expected
    assert read(path, "SELECT polls FROM namespace WHERE name = 'other'") == [(7,)]


async def test_many_namespaces_of_short_lives(
    config: SeenStoreConfig, clock: Clock, path: Path
) -> None:
    """A program with a new namespace for each task does not grow without end."""
    async with AsyncSeenStore(config) as store:
        for number in range(2_000):
            await store.mark_seen("k", ttl=60, namespace=f"task {number}")
            clock.advance(1)
            if number % 500 == 499:
                await store.purge_expired()
        assert len(read(path, NAMES)) < 100


async def test_rename_is_one_update(config: SeenStoreConfig, path: Path) -> None:
    """A rename changes one row, whatever the number of keys; the rows stay."""
    statements = SqliteStatements()
    rows = "SELECT * FROM seen ORDER BY namespace, key"
    async with AsyncSeenStore(replace(config, tuning=statements.tuning)) as store:
        await store.mark_many(map(str, range(100)), note="text", namespace="old")
        before = read(path, rows)
        for table in ("seen", "detail"):
            with statements.recorded(table) as used:
                (name,) = await store.namespaces()
                await store.rename(f"new {table}", namespace=name)
            assert [sql for sql in used if not sql.startswith("SELECT")] == []
        assert read(path, rows) == before
        assert read(path, NAMES) == [("new detail",)]


async def test_rename_by_another_process(config: SeenStoreConfig) -> None:
    """What another process renames or removes is noticed by the next call."""
    async with AsyncSeenStore(config) as store, AsyncSeenStore(config) as other:
        await store.mark_seen("k", namespace="old")
        await other.rename("new", namespace="old")
        assert not await store.is_seen("k", namespace="old")
        assert await store.is_seen("k", namespace="new")
        assert await store.check_and_mark("k", note="text", namespace="old")
        await other.clear(namespace="old")
        assert await store.check_and_mark("k", namespace="old")
        assert await store.count(namespace="old") == 1
        assert await store.count(namespace="new") == 1


async def test_namespace_that_appears_between_read_and_write(
    config: SeenStoreConfig, path: Path
) -> None:
    """A namespace that another process makes just now gets no second id."""
    is_first = True

    def meanwhile(insert: Callable[[], object]) -> object:
        nonlocal is_first
        if is_first:
            is_first = False
            write(path, *a_row("n", "k"))
        return insert()

    faults = SqliteFaults()
    faults.replace("INSERT INTO namespace", meanwhile)
    async with AsyncSeenStore(replace(config, tuning=faults.tuning)) as store:
        sightings = await store.check_and_mark_many(["k", "l"], namespace="n")
        assert [bool(one) for one in sightings] == [False, True]
    assert read(path, NAMES) == [("n",)]
