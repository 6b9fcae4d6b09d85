"""A path that the system refuses is an error in our words, at open and at a backup."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    SeenError,
    SeenStoreConfig,
    StoreUnavailableError,
)

NOBODY = 65_534


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user whom permissions concern, where root runs the tests."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def closed(folder: Path) -> Path:
    """A file in a directory that may not be entered."""
    inside = folder / "closed"
    inside.mkdir(mode=0o000)
    return inside / "seen.db"


def read_only(folder: Path) -> Path:
    """A file in a directory that may not be changed."""
    inside = folder / "read-only"
    inside.mkdir(mode=0o555)
    return inside / "seen.db"


def too_long(folder: Path) -> Path:
    """A file whose name no file system takes."""
    return folder / ("n" * 300 + ".db")


def nearly_too_long(folder: Path) -> Path:
    """A file whose name leaves no room for a suffix."""
    return folder / ("n" * 250 + ".db")


def in_a_file(folder: Path) -> Path:
    """A file in what is no directory."""
    (folder / "file").touch()
    return folder / "file" / "seen.db"


def in_proc(_: Path) -> Path:
    """A file where the kernel makes the files."""
    return Path("/proc/catalyst-seen.db")


PATHS = [closed, read_only, too_long, nearly_too_long, in_a_file, in_proc]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that anybody may use; those of pytest are its user's only."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("make", PATHS)
async def test_open(folder: Path, make: Callable[[Path], Path]) -> None:
    """An open names the path, the cause and what to do."""
    place = make(folder)
    with nobody(), pytest.raises(StoreUnavailableError) as caught:
        await AsyncSeenStore(place).open()
    assert str(place) in str(caught.value)
    assert caught.value.cause
    assert caught.value.advice


@pytest.mark.parametrize("make", PATHS)
async def test_backup(folder: Path, make: Callable[[Path], Path]) -> None:
    """A backup is refused in our words, and the store goes on."""
    place = make(folder)
    config = SeenStoreConfig(folder / "seen.db", file_mode=0o666, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        with nobody(), pytest.raises(SeenError) as caught:
            await store.backup(place)
        assert place.name in str(caught.value) or str(place.parent) in str(caught.value)
        assert await store.check_and_mark("k")
        assert (await store.stats()).alarms == ()
