"""When an open makes a new file, and when it refuses to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    SchemaError,
    SeenStore,
    SeenStoreConfig,
    StoreUnavailableError,
)

from ...support.scripts import Run
from ...support.sqlite_files import read, write

REFUSED = "there is no store, and create=False.*open it with create=True"
OLD = "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)"


async def test_missing_file(path: Path) -> None:
    """Without ``create`` a missing file is refused; neither file nor directory is made.

    The same store can be opened when the file is there.
    """
    place = path.parent / "folder" / "seen.db"
    store = AsyncSeenStore(place, create=False)
    with pytest.raises(StoreUnavailableError, match=REFUSED):
        await store.open()
    assert list(path.parent.iterdir()) == []
    async with AsyncSeenStore(place):
        pass
    async with store:
        assert await store.check_and_mark("k")


async def test_created_file_is_logged(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file is a warning with its absolute path, once; structlog stays out."""
    monkeypatch.chdir(path.parent)
    for _ in range(2):
        async with AsyncSeenStore(path.name):
            pass
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"store_created location={path}"


async def test_no_new_file_is_logged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither memory, nor a copy, nor an upgraded file is a new store."""
    caplog.set_level("INFO", "catalyst_seen")
    write(path, OLD)
    async with AsyncSeenStore(path) as store:
        await store.backup(path.with_name("copy.db"))
    async with AsyncSeenStore(":memory:"), AsyncSeenStore(path.with_name("copy.db")):
        pass
    assert [vars(one)["seen_event"] for one in caplog.records] == ["schema_upgraded"]


def test_created_file_reaches_standard_error(path: Path) -> None:
    """A program without any logging shows it on standard error, and imports nothing."""
    script = "import sys, catalyst_seen as c; c.SeenStore(sys.argv[1]).close();"
    script += "assert 'structlog' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", f"store_created location={path}\n")


def test_blocking_store(path: Path) -> None:
    """The blocking store has the keyword as well, and a configuration has it."""
    with pytest.raises(StoreUnavailableError, match=REFUSED):
        SeenStore(path, create=False)
    with pytest.raises(StoreUnavailableError, match=REFUSED):
        SeenStore(SeenStoreConfig(path, create=False))
    assert not path.exists()


async def test_empty_file(path: Path) -> None:
    """Without ``create`` an empty file is no store, and stays empty."""
    path.touch()
    with pytest.raises(StoreUnavailableError, match=REFUSED):
        await AsyncSeenStore(path, create=False).open()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b""


async def test_memory() -> None:
    """What is in memory is always new, so that ``create=False`` cannot be."""
    with pytest.raises(StoreUnavailableError, match=REFUSED):
        await AsyncSeenStore(":memory:", create=False).open()


async def test_upgrade(path: Path) -> None:
    """A file of the old store is a database: it is upgraded."""
    write(path, OLD, "INSERT INTO seen VALUES ('k', 4000000000)")
    async with AsyncSeenStore(path, create=False) as store:
        assert await store.is_seen("k")
    assert read(path, "PRAGMA user_version") == [(4,)]


@pytest.mark.parametrize("create", [False, True])
def test_deleted_file_with_a_log(path: Path, run_script: Run, *, create: bool) -> None:
    """A deleted file whose log is left is called deleted, and nothing is made."""
    script = """
        import os, sys
        from catalyst_seen import SeenStore
        store = SeenStore(sys.argv[1])
        store.mark_seen("k")
        os._exit(0)
    """
    assert run_script(script, str(path)).returncode == 0
    path.unlink()
    log = path.with_name("seen.db-wal")
    before = log.read_bytes()
    assert before
    with pytest.raises(SchemaError, match="it was deleted, but its log"):
        SeenStore(path, create=create)
    assert not path.exists()
    assert log.read_bytes() == before
    log.unlink()
    with SeenStore(path) as store:
        assert store.check_and_mark("k")
