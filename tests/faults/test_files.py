"""Group D: rights, modes, and files that vanish."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, SeenStore, StoreUnavailableError

from .harness.checker import History
from .harness.disks import as_another, folder_of_another, mode
from .harness.marking import crashed, mark, settings
from .harness.processes import stored
from .harness.report import Fault

Logs = list[MutableMapping[str, Any]]


def read_only_file(folder: Path) -> Path:
    """Somebody has taken the right to write from the database."""
    SeenStore(folder / "seen.db").close()
    (folder / "seen.db").chmod(0o444)
    return folder / "seen.db"


def read_only_folder(folder: Path) -> Path:
    """The log can be made by nobody."""
    SeenStore(folder / "seen.db").close()
    folder.chmod(0o555)
    return folder / "seen.db"


def read_only_empty_folder(folder: Path) -> Path:
    """Neither can the database."""
    folder.chmod(0o555)
    return folder / "seen.db"


def read_only_log(folder: Path) -> Path:
    """A crash of another user's process left a log that only can be read."""
    crashed(folder / "seen.db", 5, 5)
    (folder / "seen.db-wal").chmod(0o444)
    return folder / "seen.db"


def a_folder(folder: Path) -> Path:
    """Where the file should be there is a folder."""
    (folder / "seen.db").mkdir()
    return folder / "seen.db"


@pytest.mark.parametrize(
    "spoil",
    [read_only_file, read_only_folder, read_only_empty_folder, read_only_log, a_folder],
)
async def test_no_right_to_write(spoil: Callable[[Path], Path], fault: Fault) -> None:
    """A place where nothing can be marked is refused at open, by name and cause."""
    row = fault("D9", f"{spoil.__name__.replace('_', ' ')}, as a user without rights")
    folder = folder_of_another()
    path = spoil(folder)
    before = contents(folder)
    with as_another(folder):
        # With a log that can only be read it opens, and fails from the first mark on.
        with pytest.raises(StoreUnavailableError) as caught:
            async with AsyncSeenStore(settings(path)):
                pass
        assert caught.value.location == str(path)
        assert caught.value.advice.startswith(("Make the file", "Name a file"))
        assert contents(folder) == before
    row.passed()
    row.note(str(caught.value).partition(": ")[2])


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file there."""
    return {
        entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()
    }


async def test_missing_folder(fault: Fault) -> None:
    """A directory that is missing is made, whole ways of them."""
    row = fault("D9", "no directory, as a user without rights elsewhere")
    folder = folder_of_another()
    history = History()
    path = folder / "a" / "b" / "seen.db"
    with as_another(folder):
        async with AsyncSeenStore(settings(path)) as store:
            assert not await mark(store, history, "k")
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
async def test_modes(path: Path, fault: Fault, umask: int) -> None:
    """A new database and its log have the mode that is set; an old one keeps its own.

    That is so whatever the umask: nobody else may read the keys, unless told so.
    """
    row = fault("D10", f"umask {umask:03o}")
    before = os.umask(umask)
    try:
        by_default = await modes(path)
        chosen = await modes(path.with_name("chosen.db"), file_mode=0o640)
    finally:
        os.umask(before)
    assert by_default == ["0o600"] * 3
    assert chosen == ["0o640"] * 3
    path.chmod(0o640)
    assert await modes(path) == ["0o640"] * 3
    row.passed(3)
    row.note("0600; 0640 where chosen, and where the file had it")


async def modes(path: Path, **changes: Any) -> list[str]:
    """Read the modes of an open store's three files."""
    async with AsyncSeenStore(settings(path, **changes)) as store:
        await store.mark_seen("k")
        return [mode(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")]


def unlinked(path: Path) -> None:
    """``rm`` the database and what belongs to it."""
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink()


def renamed(path: Path) -> None:
    """``mv`` the database away."""
    path.rename(path.with_name("away.db"))


def replaced(path: Path) -> None:
    """``mv`` another database, which has the key "other", over it."""
    words = [sys.executable, "-c", _OTHER, f"{path}.other"]
    subprocess.run(words, check=True, timeout=120)
    Path(f"{path}.other").replace(path)


_OTHER = """
import sys
from catalyst_seen import SeenStore
with SeenStore(sys.argv[1]) as store:
    store.mark_seen("other")
"""


def log_unlinked(path: Path) -> None:
    """``rm`` only the write-ahead log."""
    Path(f"{path}-wal").unlink()


GONE = (unlinked, renamed, replaced, log_unlinked)


async def test_file_gone(path: Path, fault: Fault, *, torture: bool) -> None:
    """A file that is moved, deleted or replaced is noticed in a second, idle or not.

    From then on nothing is acknowledged that would go into nowhere.
    """
    row = fault("D11", "database unlinked, renamed, replaced, or only its log unlinked")
    rounds = []
    with capture_logs() as logs:
        for number in range(5 if torture else 1):
            for lose in GONE:
                for is_busy in (False, True):
                    name = f"{lose.__name__}-{is_busy}-{number}"
                    place = path.with_name(name) / "seen.db"
                    rounds.append(lose_file(place, lose, logs, is_busy=is_busy))
        outcomes = await asyncio.gather(*rounds)
    for place, history, _ in outcomes:
        keys, intact = stored(place) if place.exists() else (set[str](), True)
        row.add(history, keys & history.keys("new", "fail", "unknown"), intact=intact)
    delays = [delay for _, _, delay in outcomes]
    assert max(delays) < 30  # one second is promised, on a machine that does not stall
    row.note(f"noticed after at most {max(delays):.2f} s")


async def lose_file(
    path: Path, lose: Callable[[Path], None], logs: Logs, *, is_busy: bool
) -> tuple[Path, History, float]:
    """Take a store's file away; return what it said then, and when it noticed."""
    history, before = History(), set(map(str, range(20)))
    async with AsyncSeenStore(settings(path)) as store:
        await store.mark_many(before)
        await asyncio.to_thread(lose, path)
        started = time.monotonic()
        number = 0
        while not noticed(logs, path):
            if is_busy:
                await mark(store, history, f"meanwhile {number}")
                number += 1
            await asyncio.sleep(0.02)
            assert time.monotonic() < started + 60, "nobody noticed"
        delay = time.monotonic() - started
        for key in range(3):
            assert await mark(store, history, f"after {key}")
        with pytest.raises(StoreUnavailableError, match="not there any more"):
            await store.stats()
    assert path.exists() == (lose not in {unlinked, renamed})
    if lose is renamed:  # and put back
        path.with_name("away.db").rename(path)
    if lose in {renamed, log_unlinked}:
        assert stored(path)[0] >= before
    if lose is replaced:
        assert stored(path)[0] == {"other"}
    return path, history, delay


def noticed(logs: Logs, path: Path) -> bool:
    """Was it logged that the file is gone?"""
    return any(
        log["event"] == "file_gone" and log["location"] == str(path)
        for log in list(logs)
    )
