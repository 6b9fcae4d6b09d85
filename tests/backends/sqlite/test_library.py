"""Which SQLite library a store uses: as its settings say, never because it is there."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, ConfigurationError, SeenStoreConfig

from ...support.targets import PYSQLITE3

installed = pytest.mark.skipif(
    not PYSQLITE3, reason="pysqlite3 has no wheel here, or the extra is not installed"
)


async def test_pythons_own_is_the_default(path: Path) -> None:
    """A store that does not ask for another library has Python's."""
    async with AsyncSeenStore(path) as store:
        assert (await store.check()).engine == f"SQLite {sqlite3.sqlite_version}"


@installed
async def test_configuration_chooses(path: Path) -> None:
    """The engine of the store is the library of the settings."""
    from pysqlite3 import dbapi2

    config = SeenStoreConfig(path, sqlite="pysqlite3")
    async with AsyncSeenStore(config) as store:
        assert await store.check_and_mark("k")
        assert (await store.check()).engine == f"SQLite {dbapi2.sqlite_version}"
        assert (await store.stats()).engine == f"SQLite {dbapi2.sqlite_version}"
    async with AsyncSeenStore(path) as store:
        assert await store.is_seen("k")


@installed
async def test_two_libraries_on_one_file_are_refused(path: Path) -> None:
    """While one has the file open, the other is refused; nothing is changed."""
    async with AsyncSeenStore(path) as store:
        other = AsyncSeenStore(SeenStoreConfig(path, sqlite="pysqlite3"))
        with pytest.raises(ConfigurationError, match="'stdlib' has open"):
            await other.open()
        assert await store.check_and_mark("k")


@installed
async def test_backup_of_the_other_library(path: Path, tmp_path: Path) -> None:
    """A copy is made by the library of the store, and opened by either."""
    copy = tmp_path / "copy.db"
    async with AsyncSeenStore(SeenStoreConfig(path, sqlite="pysqlite3")) as store:
        await store.mark_seen("k")
        await store.backup(copy)
    async with AsyncSeenStore(copy) as store:
        assert await store.is_seen("k")


@installed
async def test_errors_of_the_other_library_are_translated(path: Path) -> None:
    """What is no store is refused as by Python's own library."""
    path.write_bytes(b"no database" * 1_000)
    store = AsyncSeenStore(SeenStoreConfig(path, sqlite="pysqlite3"))
    with pytest.raises(Exception, match="not a SQLite database"):
        await store.open()


def test_missing_library_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the error says how to get it, before any I/O."""
    from catalyst_seen.backends.sqlite import driver

    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", None)
    monkeypatch.delitem(driver._libraries, "pysqlite3", raising=False)
    with pytest.raises(ConfigurationError, match="pip install pysqlite3"):
        AsyncSeenStore(SeenStoreConfig(path, sqlite="pysqlite3"))
    assert not path.exists()
