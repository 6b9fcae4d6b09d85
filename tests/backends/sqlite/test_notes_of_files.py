"""Notes in a file: a table of their own, which only those calls use that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen.backends.operations import Acquire, Get, IsSeen, Mark
from catalyst_seen.backends.sqlite.backend import SqliteBackend

from ...support.clock import Clock
from ...support.sqlite_files import read, write
from ...support.sqlite_statements import SqliteStatements

NOTES = "SELECT name, key, note FROM detail JOIN namespace ON id = namespace"


@pytest.fixture
def statements() -> SqliteStatements:
    """The statements of the stores with ``config``."""
    return SqliteStatements()


@pytest.fixture
def config(path: Path, clock: Clock, statements: SqliteStatements) -> SeenStoreConfig:
    """Settings of a store that answers nothing from its cache."""
    return SeenStoreConfig(
        path, clock=clock, recent_keys=0, purge_interval=None, tuning=statements.tuning
    )


async def test_answers_without_notes_read_none(
    config: SeenStoreConfig, statements: SqliteStatements
) -> None:
    """What returns no note reads none, and what changes none writes none."""
    keys = ["a", "b", "c"]
    async with AsyncSeenStore(config) as store:
        await store.mark_many(keys, note="text")
        await store.claim("claimed", lease=60, note="text")
        with statements.recorded("detail") as used:
            assert await store.is_seen("a")
            assert await store.filter_new([*keys, "new"]) == ["new"]
            assert not await store.check_and_mark("a", note="other")
            assert not any(await store.check_and_mark_many(keys, note="other"))
            assert not any([*await store.claim_many(keys, note="other")])
            assert not await store.claim("a")
            await store.mark_seen("a")
            await store.mark_many([*keys, "plain"])
            await store.refresh(keys)
            await store.count()
            await store.stats()
        assert used == []
        with statements.recorded("detail") as used:
            assert not await store.claim("claimed", note="other")
        assert all(sql.startswith("SELECT") for sql in used)
        assert len(await store.claim_many(["claimed"])) == 1


async def test_only_what_changes_is_written(
    config: SeenStoreConfig, statements: SqliteStatements, path: Path
) -> None:
    """A claim that keeps its note, and a confirm that does, leave it where it is."""
    async with AsyncSeenStore(config) as store:
        claim = await store.claim("k", note="text")
        with statements.recorded("detail") as used:
            await claim.renew()
            await claim.release()
            claim = await store.claim("k")
            await claim.confirm()
        assert all(sql.startswith("SELECT") for sql in used)
        assert claim.note == "text"
        with statements.recorded("detail") as used:
            await store.mark_seen("k", note="other")
        assert len(used) == 1
        assert read(path, NOTES) == [("", "k", "other")]


async def test_no_note_stays_behind(
    config: SeenStoreConfig, clock: Clock, path: Path
) -> None:
    """Whatever makes a key unseen removes its note, and no other note."""
    async with AsyncSeenStore(config) as store:
        for name in ("kept", "n"):
            await store.mark_many([*"abcd"], note=f"in {name}", namespace=name)
        await store.mark_seen("a", note="", namespace="n")
        await store.forget("b", namespace="n")
        await store.mark_many([*"xy"], ttl=60, note="expires", namespace="n")
        assert len(read(path, NOTES)) == 8
        clock.advance(60)
        await store.mark_seen("x", namespace="n")
        assert len(read(path, NOTES)) == 7
        await store.purge_expired()
        assert len(read(path, NOTES)) == 6
        clock.advance(60)
        await store.refresh([*"abcd"], namespace="kept")
        await store.cleanup_old_entries(1 / 86_400)
        await store.clear(namespace="n")
        await store.clear(namespace="other")
        kept = [("kept", key, "in kept") for key in "abcd"]
        assert sorted(read(path, NOTES)) == kept
        await store.mark_many([*"pq"], ttl=60, note="expires", namespace="new")
        clock.advance(60)
        await store.rename("new", namespace="kept")
        assert sorted(read(path, NOTES)) == [("new", *row[1:]) for row in kept]
    assert read(path, "SELECT count(*) FROM detail") == [(len(kept),)]
    assert set(read(path, "SELECT has_detail FROM seen")) == {(1,)}


async def test_stray_notes(config: SeenStoreConfig, path: Path) -> None:
    """A note whose row another program has deleted is never shown again."""
    async with AsyncSeenStore(config) as store:
        await store.mark_many([*"abc"], note="old")
        write(path, "DELETE FROM seen")
        await store.mark_many([*"ab"])
        await store.mark_seen("b", note="new")
        notes = {one.key: one.note async for one in store.records()}
        assert notes == {"a": None, "b": "new"}
        claim = await store.claim("c")
        assert claim.note is None


@pytest.mark.parametrize("place", ["file", ":memory:"])
async def test_mixed_batch(path: Path, place: str) -> None:
    """In a batch of many kinds, those that return notes return the right ones."""
    backend = SqliteBackend(
        path if place == "file" else place, SeenStoreConfig(path), None
    )
    await backend.open()
    marks = [Mark("n", key, None, note=f"note of {key}") for key in "abc"]
    claim = Acquire("n", "c", "t", 60, None, "retry", note="claimed")
    await backend.apply(marks, sample_version=False)
    batch = [
        IsSeen("n", "a"), Get("n", "b"), Mark("n", "a", None), Get("n", "a"), claim,
        Mark("n", "d", None, note="first"), Mark("n", "d", None), Get("n", "d"),
        Acquire("n", "e", "t", 60, None, "retry", note="claimed"), Get("m", "a"),
    ]  # fmt: skip
    result = await backend.apply(batch, sample_version=False)
    notes = [getattr(one, "note", one) for one in result.results]
    expected = [True, "note of b", None, "note of a", None, None, None, "first"]
    assert notes == [*expected, "claimed", None]
    await backend.aclose()


async def test_pages_of_notes_are_shorter(
    config: SeenStoreConfig, clock: Clock, path: Path
) -> None:
    """A page of a purge removes fewer rows where each has a note, which may be long."""
    backend = SqliteBackend(path, config, None)
    async with AsyncSeenStore(backend) as store:
        await store.mark_many([f"a{one:03}" for one in range(100)], ttl=60)
        await store.mark_many([f"b{one:03}" for one in range(100)], ttl=60, note="x")
        clock.advance(60)
        removed, cursor = [], None
        while True:
            page = await backend.purge(
                namespace=None, limit=40, cursor=cursor, lock_timeout=None
            )
            removed.append(page.removed)
            cursor = page.cursor
            if cursor is None or not cursor[0]:
                break
        assert sum(removed) == 200
        assert removed[0] == 40
        assert max(removed[4:]) == 10
        assert await store.count() == 0
    assert read(path, "SELECT count(*) FROM detail") == [(0,)]


async def test_freed_pages_are_not_written(
    config: SeenStoreConfig, clock: Clock, path: Path
) -> None:
    """The log does not grow by the notes that a purge removes."""
    async with AsyncSeenStore(config) as store:
        keys = list(map(str, range(200)))
        await store.mark_many(keys, ttl=60, note="x" * 60_000)
    async with AsyncSeenStore(config) as store:
        clock.advance(60)
        assert path.stat().st_size > 12_000_000
        assert await store.purge_expired() == 200
        assert (await store.stats()).wal_bytes < 2_000_000
