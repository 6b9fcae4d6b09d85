"""Group D: limits of a process, and disks that are none for SQLite."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, StoreUnavailableError

from ..support.processes import other_user
from ..support.scripts import Run
from .harness.checker import History
from .harness.disks import folder_of_another, no_more_files
from .harness.marking import mark, settings
from .harness.processes import stored, strace
from .harness.report import Fault


@pytest.mark.usefixtures("nothing_left")
async def test_no_file_descriptors(path: Path, fault: Fault) -> None:
    """Without a free descriptor an open is refused, leaks nothing, and works after."""
    row = fault("D13", "RLIMIT_NOFILE used up")
    history = History()
    causes = set()
    for spare in (0, 1, 2):
        with no_more_files(spare), pytest.raises(StoreUnavailableError) as caught:
            await AsyncSeenStore(settings(path)).open()
        causes.add(caught.value.cause)
    async with AsyncSeenStore(settings(path)) as store:
        assert not await mark(store, history, "before")
        with no_more_files():
            assert not await mark(store, history, "meanwhile")
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.note(f"at open: {', '.join(sorted(causes))}")


_LITTLE_MEMORY = """
import asyncio, resource, sys
from pathlib import Path
from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreUnavailableError

async def main(path):
    config = SeenStoreConfig(path, purge_interval=None, recent_keys=0)
    refused = stored = 0
    async with AsyncSeenStore(config) as store:
        await store.mark_seen("before")
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        for spare in (0, 1, 2, 4, 8, 16, 32):
            keys = [f"{spare} {number} {'x' * 500}" for number in range(20_000)]
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + spare * 1_000_000
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
            try:
                await store.check_and_mark_many(keys)
                stored += len(keys)
            except (MemoryError, StoreError):
                refused += 1
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            assert await store.count() == stored + 1
            assert not await store.check_and_mark("before")
    print(refused, stored)

asyncio.run(main(sys.argv[1]))
"""


def test_no_memory(path: Path, fault: Fault, run_script: Run) -> None:
    """A batch for which there is no memory leaves nothing half done."""
    row = fault("D13", "RLIMIT_AS reached in a batch")
    done = run_script(_LITTLE_MEMORY, str(path), timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    refused, count = map(int, done.stdout.splitlines()[-1].split())
    assert refused
    keys, intact = stored(path)
    assert len(keys) == count + 1
    assert intact
    row.passed()
    row.note(f"{refused} batches of 20,000 refused, {count // 20_000} stored whole")


_NO_THREADS = """
import asyncio, os, resource, sys
from catalyst_seen import AsyncSeenStore, StoreUnavailableError
import catalyst_seen.backends.sqlite

async def main(path, user):
    if user:
        os.setuid(user)
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    for _ in range(3):
        try:
            await AsyncSeenStore(path).open()
        except StoreError as exc:
            print(exc.cause)
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    async with AsyncSeenStore(path) as store:
        assert await store.check_and_mark("after")
    print(len(os.listdir("/proc/self/fd")), "open")

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_no_threads(fault: Fault, run_script: Run) -> None:
    """Where no thread can be started an open is refused, and works afterwards."""
    row = fault("D13", "RLIMIT_NPROC reached at open")
    path = folder_of_another() / "seen.db"
    done = run_script(_NO_THREADS, str(path), str(other_user() or 0))
    # Fails: open raises RuntimeError("can't start new thread"), not an error of ours.
    assert (done.returncode, done.stderr) == (0, "")
    *causes, descriptors = done.stdout.splitlines()
    assert len(causes) == 3
    assert int(descriptors.split()[0]) < 10
    assert stored(path) == ({"after"}, True)
    row.passed()
    row.note(f"at open: {causes[0]}")


_EVERY_VERB = """
import asyncio, os, sys
from pathlib import Path
path = os.path.abspath(sys.argv[1])
opened = []

def look(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        name = os.path.abspath(os.fsdecode(arguments[0]))
        flags = arguments[2] or 0
        if name.startswith(path) and not flags & os.O_EXCL:
            opened.append((name, flags))

sys.addaudithook(look)
from catalyst_seen import AsyncSeenStore, SeenStore, SeenStoreConfig

async def main():
    config = SeenStoreConfig(path, purge_interval=0.05, recent_staleness=0)
    async with AsyncSeenStore(config) as store:
        await store.mark_seen("a")
        await store.mark_many(["b", "c"], ttl=0.001)
        await store.check_and_mark("d")
        await store.check_and_mark_many(["d", "e"])
        await store.filter_new(["d", "f"])
        await store.is_seen("a")
        await store.get("a")
        await store.forget("a")
        async with store.claim("g") as claim:
            await claim.renew()
        claims = await store.claim_many(["h", "i"])
        await store.confirm_many(claims[:1])
        await store.release_many(claims[1:])
        await store.count()
        await store.purge_expired()
        await store.cleanup_old_entries()
        await store.stats()
        await store.check()
        await store.check(full=True)
        await store.backup(Path(path).with_name("copy"))
        await asyncio.sleep(1.2)
        await store.stats()
    with SeenStore(config) as store:
        store.check_and_mark("d")

asyncio.run(main())
assert os.path.getsize(path)
print(len(opened), opened)
"""


def test_no_verb_opens_files_past_sqlite(
    path: Path, fault: Fault, run_script: Run
) -> None:
    """No verb opens the database's files past SQLite, whose locks that would drop."""
    row = fault("D14", "files that Python itself opens, by every verb")
    done = run_script(_EVERY_VERB, str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "0 []"
    row.passed()
    row.note("0 opened, but for the making of a new one")


_OPEN = """
import asyncio, sys
from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreUnavailableError

async def main(path, wal_mode):
    config = SeenStoreConfig(path, wal_mode=wal_mode == "True", timeout=0.2)
    try:
        async with AsyncSeenStore(config) as store:
            print("marked", await store.check_and_mark("k"))
    except StoreError as exc:
        print("refused", exc)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("wal_mode", [True, False])
def test_no_shared_memory(path: Path, fault: Fault, *, wal_mode: bool) -> None:
    """Where files cannot be mapped, as on a network, WAL is refused; without, it works.

    A log in a mode that was not asked for would be a promise less than was given.
    """
    row = fault("D15", f"mmap of -shm refused, wal_mode={wal_mode}")
    start = strace("mmap:error=ENODEV")
    shared = ["-P", f"{path}-shm"]
    words = [*start[:1], *shared, *start[1:], sys.executable, "-c", _OPEN]
    done = subprocess.run(
        [*words, str(path), str(wal_mode)],
        capture_output=True, check=False, text=True, timeout=120,
    )  # fmt: skip
    outcome, _, what = done.stdout.strip().partition(" ")
    assert outcome == ("refused" if wal_mode else "marked"), done
    assert str(path) in what or not wal_mode
    row.passed()
    row.note(what.partition(": ")[2] if wal_mode else "works")


async def test_journal_is_another(path: Path, fault: Fault) -> None:
    """A reader that keeps an older file from becoming WAL is an error, named."""
    row = fault("D15", "an earlier journal mode held by a reader")
    async with AsyncSeenStore(settings(path, wal_mode=False)) as store:
        await store.mark_seen("k")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM seen").fetchone() == (1,)
        with pytest.raises(StoreUnavailableError) as caught:
            await AsyncSeenStore(settings(path, timeout=0.2)).open()
    row.note(caught.value.cause)
    history = History()
    async with AsyncSeenStore(settings(path)) as store:
        await mark(store, history, "after")
    keys, intact = stored(path)
    row.add(history, keys - {"k"}, intact=intact)
