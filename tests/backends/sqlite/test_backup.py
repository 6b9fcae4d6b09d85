"""Copies of a database that is in use."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    SeenStore,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
)
from catalyst_seen.restoring import restore

from ...support.figures import Figures
from ...support.targets import SERVERS, Places

TASKS = 50


def keys_in(path: Path) -> set[str]:
    """Read the keys of a copy by plain sqlite3, and see that it is intact."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {key for (key,) in db.execute("SELECT key FROM seen")}


def names(folder: Path) -> set[str]:
    """What is in a folder, without a store's log and its index."""
    return {
        one.name for one in folder.iterdir() if not one.name.endswith(("-wal", "-shm"))
    }


class Marks:
    """Tasks that mark keys of their own, all the time."""

    def __init__(self, store: AsyncSeenStore) -> None:
        self.asked: set[str] = set()
        self.acknowledged: set[str] = set()
        self.longest = 0.0
        self._store = store
        self._is_over = False

    async def run(self) -> None:
        """Mark until ``end``."""
        await asyncio.gather(*map(self._mark, range(TASKS)))

    def end(self) -> None:
        """Let each finish the mark that is under way."""
        self._is_over = True

    async def _mark(self, task: int) -> None:
        number = 0
        while not self._is_over:
            key = f"{task}-{number}"
            self.asked.add(key)
            started = time.monotonic()
            await self._store.mark_seen(key)
            self.longest = max(self.longest, time.monotonic() - started)
            self.acknowledged.add(key)
            number += 1


@pytest.mark.parametrize("form", ["wal", "no wal", "memory"])
@pytest.mark.slow
async def test_while_others_mark(path: Path, form: str, figures: Figures) -> None:
    """A copy holds what was acknowledged before it began, and nothing unheard of."""
    place = ":memory:" if form == "memory" else path
    config = SeenStoreConfig(place, wal_mode=form != "no wal", purge_interval=None)
    copy = path.with_name("copy.db")
    async with AsyncSeenStore(config) as store:
        await store.mark_many(f"old {number}" for number in range(30_000))
        marks = Marks(store)
        running = asyncio.create_task(marks.run())
        while len(marks.acknowledged) < TASKS:
            await asyncio.sleep(0.001)
        meanwhile, copies = 0, 0
        while not meanwhile and copies < (10 if form == "wal" else 1):
            copy.unlink(missing_ok=True)
            before, started = {*marks.acknowledged}, time.monotonic()
            marks.longest = 0
            await store.backup(copy)
            took, asked = time.monotonic() - started, {*marks.asked}
            meanwhile = len(marks.acknowledged) - len(before)
            copies += 1
        marks.end()
        await running
        assert await store.count() == 30_000 + len(marks.acknowledged)
    copied = keys_in(copy)
    old = {f"old {number}" for number in range(30_000)}
    assert old <= copied
    assert before
    assert before <= copied
    assert copied <= old | asked
    assert form != "wal" or meanwhile > 0
    figures(
        f"backup, {form}: {took * 1e3:.0f} ms, {meanwhile:,} marks meanwhile, the"
        f" longest {marks.longest * 1e3:.0f} ms"
    )


async def test_restored(path: Path) -> None:
    """A copy is a store of its own: it is restored by opening it."""
    copy = path.with_name("copy.db")
    async with AsyncSeenStore(path) as store:
        await store.mark_seen("k", ttl=None, namespace="n")
        claim = await store.claim("c", lease=60, on_abandoned="hold")
        record = await store.get("k", namespace="n")
        await store.backup(str(copy))
        await store.mark_seen("later")
        await claim.confirm()
    async with AsyncSeenStore(copy) as store:
        assert await store.get("k", namespace="n") == record
        assert not await store.check_and_mark("k", namespace="n")
        assert (await store.claim("c")).verdict == "in_flight"
        assert await store.check_and_mark("later")
        assert await store.check(full=True)
    async with AsyncSeenStore(path) as store:
        assert await store.is_seen("c")


async def test_mode(path: Path) -> None:
    """Nobody but its owner may read a copy, and nothing else is left beside it."""
    copy = path.with_name("copy.db")
    async with AsyncSeenStore(SeenStoreConfig(path, file_mode=0o644)) as store:
        await store.mark_seen("k")
        await store.backup(copy)
        assert names(path.parent) == {path.name, copy.name}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["file", "folder", "link", "itself"])
async def test_something_is_there(path: Path, what: str) -> None:
    """What is at the place of a copy is left as it is."""
    place = path.with_name("there")
    if what == "file":
        place.write_text("mine")
    elif what == "folder":
        place.mkdir()
    elif what == "link":
        place.symlink_to("nowhere")
    else:
        place = path
    async with AsyncSeenStore(path) as store:
        await store.mark_seen("k")
        with pytest.raises(ConfigurationError, match="is there already"):
            await store.backup(place)
        assert names(path.parent) == {path.name, place.name}
        assert await store.is_seen("k")
    assert what != "file" or place.read_text() == "mine"


@pytest.mark.slow
async def test_something_comes(path: Path) -> None:
    """What comes to the place while the copy is made is left as it is, too."""
    copy = path.with_name("copy.db")
    async with AsyncSeenStore(path, purge_interval=None) as store:
        await store.mark_many(f"k{number}" for number in range(60_000))
        while not copy.exists():
            copying = asyncio.create_task(store.backup(copy))
            while names(path.parent) == {path.name}:
                await asyncio.sleep(0)
            try:
                with copy.open("x") as mine:
                    mine.write("mine")
            except FileExistsError:  # the copy was faster
                await copying
                copy.unlink()
        with pytest.raises(ConfigurationError, match="is there already"):
            await copying
    assert copy.read_text() == "mine"
    assert names(path.parent) == {path.name, copy.name}


async def test_no_folder(path: Path) -> None:
    """The directory has to be there; none is made."""
    async with AsyncSeenStore(path) as store:
        with pytest.raises(ConfigurationError, match="no directory"):
            await store.backup(path.with_name("missing") / "copy.db")
    assert names(path.parent) == {path.name}


@pytest.mark.slow
async def test_cancelled(path: Path) -> None:
    """A backup that is cancelled leaves nothing behind, and disturbs nobody."""
    copy, kept = path.with_name("copy.db"), 0
    async with AsyncSeenStore(path, purge_interval=None) as store:
        await store.mark_many(f"k{number}" for number in range(60_000))
        for number in range(8):
            copying = asyncio.create_task(store.backup(copy))
            await asyncio.sleep(number * 0.004)
            is_done = copying.done()
            copying.cancel()
            answers = await asyncio.gather(copying, return_exceptions=True)
            assert is_done or isinstance(answers[0], asyncio.CancelledError)
            assert await store.check_and_mark(f"after {number}")
            async with asyncio.timeout(60):
                while not names(path.parent) <= {path.name, copy.name}:
                    await asyncio.sleep(0.005)
            if copy.exists():  # it was complete when it was cancelled
                assert len(keys_in(copy)) >= 60_000
                copy.unlink()
                kept += not is_done
            assert names(path.parent) == {path.name}
    assert kept < 8


@pytest.mark.slow
async def test_closed_meanwhile(path: Path) -> None:
    """Of a store that closes meanwhile, the copy is whole or is not there."""
    copy = path.with_name("copy.db")
    store = AsyncSeenStore(path, purge_interval=None)
    await store.open()
    await store.mark_many(f"k{number}" for number in range(60_000))
    copying = asyncio.create_task(store.backup(copy))
    await asyncio.sleep(0)
    await store.aclose()
    (answer,) = await asyncio.gather(copying, return_exceptions=True)
    if answer is None:
        assert len(keys_in(copy)) == 60_000
    else:
        assert isinstance(answer, StoreClosedError | StoreUnavailableError)
    assert names(path.parent) == {path.name} | (
        {copy.name} if answer is None else set()
    )


async def test_misuse(path: Path) -> None:
    """What is no path, or of a store that is not open, is refused."""
    async with AsyncSeenStore(path) as store:
        for place, error in ((5, TypeError), ("", ValueError), ("a://b", ValueError)):
            with pytest.raises(error):
                await store.backup(place)  # type: ignore[arg-type]
    with pytest.raises(StoreClosedError):
        await store.backup(path.with_name("copy.db"))


async def test_servers(places: Places, path: Path) -> None:
    """A server's data is copied by the means that it has, which the error says."""
    for name in SERVERS:
        with places.target(name, path) as target:
            async with AsyncSeenStore(target.config()) as store:
                with pytest.raises(ConfigurationError, match="copies itself"):
                    await store.backup(path)
    assert not path.exists()


def test_blocking_twin(path: Path) -> None:
    """SeenStore copies as well."""
    copy = path.with_name("copy.db")
    with SeenStore(path) as store:
        store.mark_many(["a", "b"])
        store.backup(copy)
        with pytest.raises(ConfigurationError):
            store.backup(copy)
    assert keys_in(copy) == {"a", "b"}


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
async def test_left_over(path: Path, suffix: str) -> None:
    """A log that an earlier copy has left would be read with the new one: refused."""
    copy = path.with_name("copy.db")
    left = copy.with_name(f"copy.db{suffix}")
    left.write_bytes(b"old")
    async with AsyncSeenStore(path, purge_interval=None) as store:
        await store.mark_seen("k")
        with pytest.raises(ConfigurationError, match=f"{suffix} is there already"):
            await store.backup(copy)
        assert not copy.exists()
        left.unlink()
        await store.backup(copy)
    assert keys_in(copy) == {"k"}


@pytest.mark.slow
async def test_two_at_once(path: Path) -> None:
    """Of backups to one name, exactly one makes it, and none replaces another."""
    async with AsyncSeenStore(path, purge_interval=None) as store:
        await store.mark_many(map(str, range(1_000)))
        for number in range(20):
            copy = path.with_name(f"copy-{number}.db")
            answers = await asyncio.gather(
                *(store.backup(copy) for _ in range(3)), return_exceptions=True
            )
            assert answers.count(None) == 1
            assert sum(isinstance(one, ConfigurationError) for one in answers) == 2
            assert len(keys_in(copy)) == 1_000
    assert len(list(path.parent.glob("*.partial"))) == 0


async def test_restored_copy_that_is_not_on_the_disk(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that cannot be written to the disk replaces nothing."""
    copy = tmp_path / "copy.db"
    async with AsyncSeenStore(path) as store:
        await store.backup(copy)
        await store.mark_seen("later")
    sync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StoreUnavailableError):
        await restore(copy, SeenStoreConfig(path))
    monkeypatch.undo()
    async with AsyncSeenStore(path) as store:
        assert await store.is_seen("later")
