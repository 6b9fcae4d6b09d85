"""Group D: files that are damaged, cut short, or no store's at all."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import aclosing, closing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, SchemaError, StoreError

from .harness.disks import identity
from .harness.marking import crashed, settings
from .harness.report import Fault

PAGE = 4_096
Damage = Callable[[Path, random.Random], object]


def change(path: Path, place: int, data: bytes) -> None:
    """Write over a part of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def flip(path: Path, first: int, last: int, rng: random.Random) -> None:
    """Flip one bit in a part of a file."""
    place = rng.randrange(first, last)
    change(path, place, bytes([path.read_bytes()[place] ^ 1 << rng.randrange(8)]))


def log_of(path: Path) -> Path:
    """Where the write-ahead log is."""
    return path.with_name(f"{path.name}-wal")


def half(path: Path) -> int:
    """Half its size."""
    return path.stat().st_size // 2


DAMAGES: dict[str, Damage] = {
    "bit in the header": lambda path, rng: flip(path, 0, 100, rng),
    "bit in a page": lambda path, rng: flip(path, 100, path.stat().st_size, rng),
    "bit in the log": lambda path, rng: flip(
        log_of(path), 0, log_of(path).stat().st_size, rng
    ),
    "header zeroed": lambda path, _: change(path, 0, bytes(100)),
    "page zeroed": lambda path, rng: change(
        path, PAGE * rng.randrange(1, path.stat().st_size // PAGE), bytes(PAGE)
    ),
    "cut in half": lambda path, _: os.truncate(path, half(path)),
    "log cut in half": lambda path, _: os.truncate(log_of(path), half(log_of(path))),
    "junk": lambda path, rng: path.write_bytes(rng.randbytes(20_000)),
    "text": lambda path, _: path.write_text("no database\n" * 1_000),
    "another program's": lambda path, _: another_program(path),
}
QUICK = ["bit in the header", "bit in a page", "bit in a page", "bit in the log"]
LONG = 12 * ["bit in the header"] + 16 * ["bit in a page"] + 12 * ["bit in the log"]
OTHERS = [name for name in DAMAGES if not name.startswith("bit")]


def another_program(path: Path) -> None:
    """Put a database of some other program there."""
    path.unlink()
    log_of(path).unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")


def scanned(path: Path, keys: Collection[str]) -> set[str]:
    """Read which keys are still to be found, one after the other, by plain sqlite3.

    It reads a copy: reading is enough to change a file with a log.
    """
    copy = path.with_name("scanned.db")
    for end in ("", "-wal"):
        if Path(f"{path}{end}").exists():
            shutil.copy(f"{path}{end}", f"{copy}{end}")
    found: set[str] = set()
    with suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as db:
        for (key,) in db.execute("SELECT key FROM seen"):
            found.add(key)
    return found & {*keys}


async def examine(path: Path, keys: Collection[str]) -> tuple[str, set[str]]:
    """Say what detected the damage, and which keys were then called new nonetheless."""
    before = path.read_bytes(), identity(path)
    store = AsyncSeenStore(settings(path))
    try:
        await store.open()
    except (SchemaError, StoreError):
        assert (path.read_bytes(), identity(path)) == before
        return "open", set()
    async with aclosing(store):
        detected = await detect(store)
        new = await called_new(store, sorted(keys))
    assert identity(path) == before[1]
    return detected, new


async def detect(store: AsyncSeenStore) -> str:
    """Have a store check its file, and then check it in full."""
    for full, name in ((False, "quick"), (True, "full")):
        try:
            report = await store.check(full=full)
        except (SchemaError, StoreError):
            return name
        if not report:
            assert report.problems or report.integrity
            return name
    return "never"


async def called_new(store: AsyncSeenStore, keys: list[str]) -> set[str]:
    """Ask for keys, a few at a time; an error is no answer."""
    new: set[str] = set()
    for first in range(0, len(keys), 20):
        with suppress(SchemaError, StoreError):
            new.update(await store.filter_new(keys[first : first + 20]))
    return new


async def test_damaged_file_is_never_recreated(
    path: Path, fault: Fault, *, torture: bool
) -> None:
    """A damaged file is never recreated, and a check reports silent damage.

    What no check can see, as a flipped bit in a key, is not seen.
    """
    row = fault("D12", "damaged files")
    rng = random.Random(20_261_125)
    whole = path.with_name("whole.db")
    keys = await asyncio.to_thread(crashed, whole, 2_000, 20)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    hidden = 0
    for number, name in enumerate([*(LONG if torture else QUICK), *OTHERS]):
        folder = path.with_name(str(number))
        folder.mkdir()
        place = Path(shutil.copy(whole, folder / "seen.db"))
        shutil.copy(log_of(whole), log_of(place))
        DAMAGES[name](place, rng)
        left = scanned(place, keys)
        with capture_logs():
            detected, new = await examine(place, keys)
        counts[name][detected] += 1
        assert detected != "never" or not new & left, (name, new & left)
        hidden += len(new & left)
        row.rounds += 1  # and none of them is intact
    for name, count in counts.items():
        found = ", ".join(f"{how} {times}" for how, times in sorted(count.items()))
        row.note(f"{name}: {found}")
    row.note(
        f"called new though a scan finds them, in files a check tells of: {hidden}"
    )


@pytest.mark.parametrize("zeroes", [0, 512, 4_096])
async def test_file_of_zero_bytes_is_refused(
    path: Path, fault: Fault, zeroes: int
) -> None:
    """An empty file is a new store; a file of zero bytes only is refused, untouched."""
    row = fault("D12", f"a file of {zeroes} zero bytes")
    path.write_bytes(bytes(zeroes))
    before = identity(path)
    store = AsyncSeenStore(settings(path))
    if zeroes:
        with pytest.raises((SchemaError, StoreError)) as caught:
            await store.open()
        assert path.read_bytes() == bytes(zeroes)
        row.note(str(caught.value.cause))
    else:
        async with store:
            assert await store.check_and_mark("k")
        row.note("a new store, in the same file")
    assert identity(path) == before
    row.passed()


async def test_truncated_file_beside_its_log_is_refused(
    path: Path, fault: Fault
) -> None:
    """A file truncated beside its log is refused, not taken for a new store."""
    row = fault("D12", "cut to nothing, its log still there")
    await asyncio.to_thread(crashed, path, 5, 5)
    os.truncate(path, 0)
    log = log_of(path).read_bytes()
    # Fails: SQLite throws the log away, and the store begins anew, without a word.
    with pytest.raises((SchemaError, StoreError)) as caught:
        async with AsyncSeenStore(settings(path)) as store:
            assert not await store.check_and_mark("old 1")
    assert (path.read_bytes(), log_of(path).read_bytes()) == (b"", log)
    row.passed()
    row.note(str(caught.value.cause))
