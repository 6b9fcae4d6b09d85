"""Group D: disks that are full, and files that may not grow."""

from __future__ import annotations

import resource
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, StoreError, StoreUnavailableError

from .harness.checker import History
from .harness.disks import fill, limited, small_disk
from .harness.marking import mark, settings
from .harness.processes import stored
from .harness.report import Fault


async def test_full_disk_refuses_marks(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A full disk refuses marks; the same store works at once when there is space."""
    row = fault("D1", "disk full, then room again")
    errors = 0
    for number in range(20 if torture else 2):
        folder = path.parent / f"disk-{number}"
        with small_disk(folder, "4m"):
            history = History()
            errors += await fill_under(folder, history)
            keys, intact = stored(folder / "seen.db")
            row.add(history, keys, intact=intact)
    assert errors
    row.note(f"{errors:,} marks refused, each with the advice to free some space")


async def fill_under(folder: Path, history: History) -> int:
    """Fill the disk under an open store, and make room; count what it refused."""
    async with AsyncSeenStore(settings(folder / "seen.db")) as store:
        for key in range(50):
            assert not await mark(store, history, f"before {key}")
        await store.mark_many((f"expired {key}" for key in range(500)), ttl=0.001)
        filler = fill(folder)
        errors = await mark_until_refused(store, history)
        assert await store.is_seen("before 0")
        assert await store.count() == len(history.keys("new"))
        with pytest.raises(StoreUnavailableError):
            await store.purge_expired()
        filler.unlink()
        assert not await mark(store, history, "after")
        assert await store.purge_expired() == 500
    return errors


async def mark_until_refused(store: AsyncSeenStore, history: History) -> int:
    """Mark keys until none fits any more; count what was refused, and how."""
    refused = 0
    for number in range(5_000):
        error = await mark(store, history, f"{number} {'x' * 1_000}")
        refused += bool(error)
        assert not error or "Free some space" in error, error
        if refused == 50:
            return refused
    raise AssertionError("the disk is not full")


async def test_full_at_open(path: Path, fault: Fault, *, torture: bool) -> None:
    """A store that finds no room at open says so, and leaves no half file behind."""
    row = fault("D2", "open on a full disk")
    refused = 0
    for spare in range(0, 32, 1 if torture else 4):
        folder = path.parent / f"disk-{spare}"
        with small_disk(folder, "256k"):
            history = History()
            filler = fill(folder, spare)
            refused += await open_and_mark(folder / "seen.db", history)
            filler.unlink()
            async with AsyncSeenStore(settings(folder / "seen.db")) as store:
                assert not await mark(store, history, "after")
            keys, intact = stored(folder / "seen.db")
            row.add(history, keys, intact=intact)
    assert refused
    row.note(f"open refused in {refused} of {row.rounds}, with 0 to 31 pages free")


async def open_and_mark(path: Path, history: History) -> bool:
    """Open a store and mark some keys, as far as there is room; was it refused?"""
    store = AsyncSeenStore(settings(path))
    try:
        await store.open()
    except StoreError:
        return True
    async with aclosing(store):
        for key in range(20):
            await mark(store, history, str(key))
    return False


async def test_file_may_not_grow(path: Path, fault: Fault, *, torture: bool) -> None:
    """At a limit of the size of files marks fail; when it is lifted, all is well."""
    row = fault("D3", "RLIMIT_FSIZE, then lifted")
    refused = 0
    for number in range(30 if torture else 3):
        place = path.with_name(f"{number}.db")
        history = History()
        with capture_logs(), ExitStack() as until_lifted:
            async with AsyncSeenStore(settings(place)) as store:
                most = 100_000 + number * 20_000
                until_lifted.enter_context(limited(resource.RLIMIT_FSIZE, most))
                for key in range(200):
                    text = f"{key} {'x' * 1_000}"
                    refused += bool(await mark(store, history, text))
                until_lifted.close()
                assert not await mark(store, history, "after")
                assert await store.is_seen("after")
        keys, intact = stored(place)
        row.add(history, keys, intact=intact)
    assert refused
    row.note(f"{refused:,} marks refused")
