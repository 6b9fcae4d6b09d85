"""``backup`` and ``restore``."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from catalyst_seen import SeenStore

from ..support.tool import Tool
from .conftest import open_store

_KILLED = """
import os, signal, sys
from catalyst_seen import SeenStore
store = SeenStore(sys.argv[1])
store.mark_seen("only in the log")
os.kill(os.getpid(), signal.SIGKILL)
"""


def keys(path: str | Path) -> set[str]:
    """Return the keys of a store in a file."""
    with SeenStore(path, create=False, purge_interval=None) as store:
        return {record.key for record in store.records()}


@pytest.fixture
def backed_up(on_file: Tool) -> Tool:
    """A store with a key, its backup ``copy.db``, and a key that came later."""
    with open_store(on_file) as store:
        store.mark_seen("early")
    assert on_file.run("backup", "copy.db").code == 0
    with open_store(on_file) as store:
        store.mark_seen("late")
    return on_file


def kept(tool: Tool) -> list[Path]:
    """Return the files that were kept by ``restore``."""
    return sorted(tool.folder.glob("seen.db.before-restore-*"))


def test_backup(on_file: Tool) -> None:
    """A backup is made beside an open store, for its owner only; its size is said."""
    with open_store(on_file) as store:
        store.check_and_mark_many([f"key {n}" for n in range(1_000)])
        done = on_file.run("backup", "copy.db")
    copy = on_file.folder / "copy.db"
    (row,) = done.rows
    assert (done.code, row["keys"]) == (0, 1_000)
    assert row["bytes"] == copy.stat().st_size
    assert copy.stat().st_mode & 0o777 == 0o600
    assert keys(copy) == keys(on_file.store)
    assert not list(on_file.folder.glob("copy.db-*"))


def test_backup_is_refused(tool: Tool) -> None:
    """A file that exists is not replaced; servers have tools of their own."""
    with open_store(tool) as store:
        store.mark_seen("a")
    is_server = "://" in tool.store
    (tool.folder / "taken").write_text("mine")
    name = "new.db" if is_server else "taken"
    done = tool.run("backup", name)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert ("pg_dump" in done.err) == is_server
    assert (tool.folder / "taken").read_text() == "mine"
    assert not (tool.folder / "new.db").exists()
    restored = tool.run("restore", "taken")
    assert restored.code == (2 if is_server else 3)


def test_restore(backed_up: Tool) -> None:
    """A backup takes the place of the file, which stays beside it, log included."""
    subprocess.run([sys.executable, "-c", _KILLED, backed_up.store], check=False)
    assert Path(f"{backed_up.store}-wal").stat().st_size > 0
    Path(backed_up.store).chmod(0o640)
    rehearsal = backed_up.run("restore", "--dry-run", "copy.db")
    assert (rehearsal.code, rehearsal.rows[0]["keys"]) == (0, 1)
    assert not kept(backed_up)
    done = backed_up.run("restore", "copy.db")
    (old,) = kept(backed_up)
    assert (done.code, done.rows[0]["kept"]) == (0, str(old))
    assert keys(backed_up.store) == {"early"}
    assert keys(old) == {"early", "late", "only in the log"}
    assert Path(backed_up.store).stat().st_mode & 0o777 == 0o640
    names = {path.name for path in backed_up.folder.iterdir()}
    assert names == {"seen.db", "copy.db", old.name}


def test_restore_of_nothing(backed_up: Tool) -> None:
    """An empty file is said to be none, in words of the tool."""
    (backed_up.folder / "zero.db").touch()
    done = backed_up.run("restore", "zero.db")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "it is empty, and no backup" in done.err
    assert not kept(backed_up)


def test_restore_elsewhere(backed_up: Tool) -> None:
    """A backup can be put where there is no file yet, and through a link."""
    assert backed_up.run("restore", "copy.db", "--to", "other.db").code == 0
    assert keys(backed_up.folder / "other.db") == {"early"}
    (backed_up.folder / "link.db").symlink_to("seen.db")
    assert backed_up.run("restore", "copy.db", "--to", "link.db").code == 0
    assert (backed_up.folder / "link.db").is_symlink()
    assert keys(backed_up.store) == {"early"}
    assert len(kept(backed_up)) == 1


def test_restore_into_a_new_directory(backed_up: Tool) -> None:
    """The directory is made, as a store makes it; a rehearsal makes none."""
    words = ["restore", "copy.db", "--to", "new/sub/seen.db"]
    before = {*backed_up.folder.iterdir()}
    rehearsal = backed_up.run(*words, "--dry-run")
    assert (rehearsal.code, rehearsal.rows[0]["keys"]) == (0, 1)
    assert {*backed_up.folder.iterdir()} == before
    assert backed_up.run(*words).code == 0
    assert keys(backed_up.folder / "new/sub/seen.db") == {"early"}
    (backed_up.folder / "file").touch()
    done = backed_up.run("restore", "copy.db", "--to", "file/seen.db")
    assert (done.code, len(done.err.splitlines())) == (3, 1)


def test_open_store(backed_up: Tool) -> None:
    """While a process has the store open, nothing is replaced."""
    with open_store(backed_up) as store:
        done = backed_up.run("restore", "copy.db")
        assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
        assert store.is_seen("late")
        rehearsal = backed_up.run("restore", "--dry-run", "copy.db")
        assert (rehearsal.code, rehearsal.rows[0]["keys"]) == (0, 1)
        assert "the backup is whole; nothing was replaced" in rehearsal.err
        assert store.is_seen("late")
    assert not kept(backed_up)
    assert backed_up.run("restore", "copy.db").code == 0


@pytest.mark.parametrize("what", ["cut", "text", "empty", "foreign", "newer", "log"])
def test_bad_backup(backed_up: Tool, what: str) -> None:
    """What is no whole backup is refused in a line, and nothing is replaced."""
    copy = backed_up.folder / "copy.db"
    content = copy.read_bytes()
    if what == "cut":
        copy.write_bytes(content[: len(content) // 2])
    elif what == "text":
        copy.write_text("no database")
    elif what == "empty":
        copy.write_bytes(b"")
    elif what == "log":
        Path(f"{copy}-wal").write_bytes(b"something")
    else:
        statement = "PRAGMA user_version = 99"
        if what == "foreign":
            copy.unlink()
            statement = "CREATE TABLE mine (a)"
        with sqlite3.connect(copy) as db:
            db.execute(statement)
        db.close()
    before = copy.read_bytes()
    done = backed_up.run("restore", "copy.db")
    assert (done.code, done.out) == (2 if what == "log" else 3, "")
    assert len(done.err.splitlines()) == 1
    assert "copy.db" in done.err
    assert copy.read_bytes() == before
    assert keys(backed_up.store) == {"early", "late"}
    assert not list(backed_up.folder.glob("seen.db?*"))


def test_damaged_store(backed_up: Tool) -> None:
    """A damaged file is replaced as well, and stays beside the new one."""
    Path(backed_up.store).write_text("this was a database")
    assert backed_up.run("restore", "copy.db").code == 0
    assert keys(backed_up.store) == {"early"}
    assert kept(backed_up)[0].read_text() == "this was a database"


def test_foreign_store(backed_up: Tool) -> None:
    """The database of another program is not replaced."""
    other = backed_up.folder / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (a)")
    db.close()
    before = other.read_bytes()
    for more in ([], ["--dry-run"]):
        done = backed_up.run("restore", "copy.db", "--to", str(other), *more)
        assert (done.code, len(done.err.splitlines())) == (3, 1)
        assert other.read_bytes() == before


def test_usage(backed_up: Tool) -> None:
    """A missing backup, a folder, and the store itself are wrong usage."""
    for name in ("missing.db", ".", "seen.db"):
        done = backed_up.run("restore", name)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert keys(backed_up.store) == {"early", "late"}


def test_killed(backed_up: Tool) -> None:
    """Killed at any moment, the old file is there or the new one, and none is lost."""
    chance = random.Random(0)
    for _ in range(12):
        with backed_up.start(
            "restore", "copy.db", stdout=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(chance.uniform(0.2, 1.2))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        found = keys(backed_up.store)
        assert found in ({"early", "late"}, {"early"})
        assert any(
            "late" in keys(path) for path in [Path(backed_up.store), *kept(backed_up)]
        )
    assert backed_up.run("restore", "copy.db").code == 0
    assert keys(backed_up.store) == {"early"}
