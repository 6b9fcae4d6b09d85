"""SQLite files: settings, upgrade, refusal, sharing, and errors in words."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    Record,
    SchemaError,
    SeenStoreConfig,
    StoreUnavailableError,
)
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.sqlite import files, objects, wal
from catalyst_seen.backends.sqlite.database import Database

from ...support.backends import Batch, intercepted
from ...support.clock import DAY, NOON, Clock
from ...support.leaks import open_descriptors
from ...support.locks import write_lock
from ...support.scripts import Run
from ...support.sqlite_faults import SqliteFaults, execute, sqlite_error
from ...support.sqlite_files import a_row, read, write

HOUR = 3_600.0


class TestSettings:
    """The inherited connection settings, asked of the connection itself."""

    async def ask(self, store: AsyncSeenStore, *pragmas: str) -> list[object]:
        """Read settings on the store's own connection."""
        return [(await execute(store, f"PRAGMA {name}"))[0][0] for name in pragmas]

    async def test_defaults(self, path: Path) -> None:
        """WAL, NORMAL, 10,000 pages, temp store in memory, incremental vacuum.

        What is deleted is not overwritten where that means more to write.
        """
        async with AsyncSeenStore(path) as store:
            assert await self.ask(
                store, "journal_mode", "synchronous", "cache_size", "temp_store",
                "auto_vacuum", "secure_delete",
            ) == ["wal", 1, 10_000, 2, 2, 2]  # fmt: skip

    async def test_chosen(self, path: Path) -> None:
        """A configuration is carried out, on a new file and on one that exists."""
        config = SeenStoreConfig(
            path, wal_mode=False, synchronous="FULL", cache_size=-500
        )
        for _ in range(2):
            async with AsyncSeenStore(config) as store:
                await store.mark_seen("k")
                assert await self.ask(
                    store, "journal_mode", "synchronous", "cache_size"
                ) == ["delete", 2, -500]

    async def test_schema(self, path: Path) -> None:
        """Strict tables, those of keys without rowid; marked as ours."""
        async with AsyncSeenStore(path):
            pass
        assert read(path, "PRAGMA application_id") == [(0x7365656E,)]
        assert read(path, "PRAGMA user_version") == [(4,)]
        tables = "SELECT name, wr, strict FROM pragma_table_list ORDER BY name"
        assert [row for row in read(path, tables) if "sqlite" not in str(row[0])] == [
            ("detail", 1, 1), ("namespace", 0, 1), ("seen", 1, 1),
        ]  # fmt: skip

    async def test_schema_is_in_the_file(self, path: Path) -> None:
        """The schema is checkpointed at once: the file without its log is a store."""
        async with AsyncSeenStore(path) as store:
            await store.mark_seen("k")
            with closing(
                sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)
            ) as db:
                assert db.execute("SELECT count(*) FROM seen").fetchone() == (0,)


def test_nothing_is_imported_after_construction(path: Path, run_script: Run) -> None:
    """Neither the open nor any verb imports a module: that would stall the loop."""
    script = """
        import asyncio, sys
        from catalyst_seen import AsyncSeenStore
        path = sys.argv[1]
        async def main():
            store = AsyncSeenStore(path)
            before = set(sys.modules)
            await store.open()
            await store.check_and_mark("k")
            await store.check_and_mark_many(["k", "l"])
            async with store.claim("c"):
                pass
            await store.purge_expired()
            await store.cleanup_old_entries()
            await store.count()
            await store.held()
            await store.stats()
            await store.check()
            await store.backup(path + ".copy")
            await store.aclose()
            print(sorted(set(sys.modules) - before))
        asyncio.run(main())
    """
    done = run_script(script, str(path))
    assert (done.returncode, done.stdout) == (0, "[]\n"), done


class TestUpgrade:
    """A database of the old, synchronous store."""

    OLD = "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)"
    INSERT = "INSERT INTO seen VALUES (?, ?)"

    async def test_failed(self, path: Path) -> None:
        """An upgrade that could not be stored is not reported, and comes again."""
        write(path, self.OLD, self.INSERT, rows=[("k", int(time.time()))])
        faults = SqliteFaults()
        faults.refuse("COMMIT", "SQLITE_FULL")
        config = SeenStoreConfig(path, tuning=faults.tuning)
        with capture_logs() as logs:
            with pytest.raises(StoreUnavailableError):
                await AsyncSeenStore(config).open()
            assert logs == []
            async with AsyncSeenStore(config) as store:
                assert await store.is_seen("k")
        assert [log["event"] for log in logs] == ["schema_upgraded"]

    async def test_in_place(self, path: Path, clock: Clock) -> None:
        """No row is lost, ts is first and last sight, and the TTL counts from it."""
        rows = [(f"id {number}", int(NOON) - number * 10) for number in range(10_000)]
        write(path, "PRAGMA journal_mode=WAL", self.OLD, self.INSERT, rows=[*rows])
        with capture_logs() as logs:
            async with AsyncSeenStore(
                path, ttl=HOUR, clock=clock, purge_interval=None
            ) as store:
                assert await store.get("id 100") == Record(
                    "id 100",
                    "",
                    "seen",
                    NOON - 1_000,
                    NOON - 1_000,
                    NOON - 1_000 + HOUR,
                )
                assert await store.count() == 360
                assert not await store.is_seen("id 360")
                await store.mark_seen("id 100")
                record = await store.get("id 100")
                assert record is not None
                assert record.first_seen == NOON - 1_000
        assert read(path, "SELECT count(*) FROM seen") == [(10_000,)]
        assert read(path, "SELECT name FROM sqlite_schema WHERE name LIKE 'old%'") == []
        (log,) = logs
        assert (log["event"], log["rows"], log["skipped"]) == (
            "schema_upgraded", 10_000, 0,
        )  # fmt: skip

    async def test_only_once(self, path: Path, clock: Clock) -> None:
        """The second opening finds our schema and leaves the rows alone."""
        write(path, self.OLD, self.INSERT, rows=[("k", int(NOON))])
        for ttl in (HOUR, 2 * HOUR):
            async with AsyncSeenStore(path, ttl=ttl, clock=clock) as store:
                record = await store.get("k")
                assert record is not None
                assert record.expires_at == NOON + HOUR

    async def test_without_ttl(self, path: Path, clock: Clock) -> None:
        """With a TTL of None the old rows never expire either."""
        write(path, self.OLD, self.INSERT, rows=[("k", 0)])
        async with AsyncSeenStore(path, ttl=None, clock=clock) as store:
            assert await store.is_seen("k")

    async def test_with_indexes_and_odd_rows(self, path: Path, clock: Clock) -> None:
        """Indexes of the old table go; ids that no text could match are counted."""
        rows = [(None, 1), (None, 2), (b"blob", 3), ("", 4), ("k", int(NOON))]
        index = "CREATE INDEX idx_seen_ts ON seen (ts)"
        write(path, self.OLD, index, self.INSERT, rows=rows)
        with capture_logs() as logs:
            async with AsyncSeenStore(
                path, ttl=HOUR, clock=clock, purge_interval=None
            ) as store:
                assert await store.is_seen("k")
                assert await store.cleanup_old_entries(1) == 1  # the empty id
        assert (logs[0]["rows"], logs[0]["skipped"]) == (2, 3)

    async def test_purged_at_open(self, path: Path) -> None:
        """What had expired in the old store goes with the first background purge."""
        write(path, self.OLD, self.INSERT, rows=[("k", 1_000)])
        async with AsyncSeenStore(path) as store:
            while (await store.stats()).purge_runs == 0:
                await asyncio.sleep(0.001)
            assert (await store.stats()).purge_rows == 1

    def test_killed_in_the_middle(self, path: Path, run_script: Run) -> None:
        """An upgrade that dies before its commit leaves the old store whole."""
        write(path, self.OLD, self.INSERT, rows=[(str(n), 9**9) for n in range(1_000)])
        script = """
            import asyncio, os, sys
            from catalyst_seen import AsyncSeenStore
            from catalyst_seen.backends.sqlite import schema
            upgrade = schema.upgrade_old_store
            def die(*args):
                upgrade(*args)
                os._exit(9)
            schema.upgrade_old_store = die
            asyncio.run(AsyncSeenStore(sys.argv[1]).open())
        """
        assert run_script(script, str(path)).returncode == 9
        assert read(path, "SELECT count(*) FROM seen WHERE ts = 387420489") == [
            (1_000,)
        ]
        assert read(path, "PRAGMA user_version") == [(0,)]

    async def test_waits_for_a_reader(self, path: Path) -> None:
        """While an old store is being read, an upgrade waits for the reader."""
        write(path, self.OLD, self.INSERT, rows=[("k", 9**9)])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM seen").fetchall()
            store = AsyncSeenStore(path, ttl=None)
            opening = asyncio.create_task(store.open())
            await asyncio.sleep(0.2)
            assert not opening.done()
            reader.execute("ROLLBACK")
            await opening
        assert await store.is_seen("k")
        await store.aclose()

    @pytest.mark.slow
    def test_many_processes_at_once(self, path: Path, run_script: Run) -> None:
        """Eight processes that open an old store at once all find its rows."""
        write(path, self.OLD, self.INSERT, rows=[(str(n), 9**9) for n in range(1_000)])
        assert _open_in_eight(path, run_script, "ttl=None") == ["1000"] * 8

    async def test_refused_without_waiting(self, path: Path) -> None:
        """Of two that change the journal at once, SQLite refuses one: it tries again.

        Eight processes that open a fresh file meet it once in 40 rounds.
        """
        faults = SqliteFaults()
        refused = faults.refuse("PRAGMA journal_mode = wal", "SQLITE_BUSY")
        config = SeenStoreConfig(path, tuning=faults.tuning)
        async with AsyncSeenStore(config) as store:
            assert await store.check_and_mark("k")
        assert len(refused) == 1

    async def test_schema_that_appears_while_looking(self, path: Path) -> None:
        """A schema that another process creates just now is not a stranger's."""
        attempts = 0

        def meanwhile(read: Callable[[], object]) -> object:
            nonlocal attempts
            attempts += 1
            with (
                suppress(sqlite3.OperationalError),  # locked: it has to wait
                closing(sqlite3.connect(path, timeout=0)) as other,
            ):
                for statement in objects.CREATE:
                    other.execute(statement)
            return read()

        faults = SqliteFaults()
        faults.replace("SELECT type, name, sql FROM", meanwhile)
        config = SeenStoreConfig(path, tuning=faults.tuning)
        async with AsyncSeenStore(config) as store:
            assert await store.check_and_mark("k")
        assert attempts

    @pytest.mark.slow
    def test_fresh_file_in_many_processes(self, path: Path, run_script: Run) -> None:
        """Eight processes that open a file that is not there all get one schema."""
        for round_ in range(3):
            fresh = path.with_name(f"{round_}.db")
            assert _open_in_eight(fresh, run_script, "") == ["0"] * 8


def _open_in_eight(path: Path, run_script: Run, options: str) -> list[str]:
    script = f"""
        import multiprocessing, os, sys
        from catalyst_seen import SeenStore
        def work(path, barrier):
            barrier.wait()
            with SeenStore(path, {options}) as store:
                os.write(1, f"count {{store.count()}}\\n".encode())
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(8)
        processes = [
            context.Process(target=work, args=(sys.argv[1], barrier)) for _ in range(8)
        ]
        [process.start() for process in processes]
        [process.join() for process in processes]
        sys.exit(sum(process.exitcode for process in processes))
    """
    done = run_script(script, str(path), timeout=120)
    assert done.returncode == 0, done.stderr
    return re.findall(r"count (\d+)", done.stdout)  # a log's line may come in between


class TestRefused:
    """What is not a store is refused, and untouched."""

    async def refuse(self, path: Path, error: type[Exception], match: str) -> None:
        """Opening fails with path and cause; not a byte or a file has changed."""
        before = _fingerprint(path.parent)
        store = AsyncSeenStore(path)
        for _ in range(2):
            with pytest.raises(error, match=match) as caught:
                await store.open()
            assert str(path) in str(caught.value)
        assert _fingerprint(path.parent) == before

    async def test_newer_schema(self, path: Path) -> None:
        """A file of a later release."""
        async with AsyncSeenStore(path) as store:
            await store.mark_seen("k")
        write(path, "PRAGMA user_version = 99")
        await self.refuse(path, SchemaError, "version 99, this release knows 4")

    @pytest.mark.parametrize("journal", ["wal", "delete"])
    @pytest.mark.parametrize(
        "statements",
        [
            ["CREATE TABLE users (name TEXT)"],
            ["CREATE TABLE seen (url TEXT, at INTEGER)"],
            ["CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL, x TEXT)"],
            [TestUpgrade.OLD, "CREATE TABLE alerts (id INTEGER)"],
            [TestUpgrade.OLD, "CREATE VIEW old AS SELECT id FROM seen"],
            [TestUpgrade.OLD, "PRAGMA user_version = 3"],
            ["PRAGMA application_id = 1196444487"],
            ["PRAGMA user_version = 7"],
        ],
        ids=str,
    )
    async def test_other_program(
        self, path: Path, statements: list[str], journal: str
    ) -> None:
        """Another program's database, whatever its tables and its journal."""
        write(path, f"PRAGMA journal_mode = {journal}", *statements)
        await self.refuse(path, SchemaError, "another program's database")

    async def test_other_program_with_a_log(self, path: Path, run_script: Run) -> None:
        """A crashed program's write-ahead log is not checkpointed behind its back."""
        script = """
            import os, sqlite3, sys
            db = sqlite3.connect(sys.argv[1], isolation_level=None)
            db.execute("PRAGMA journal_mode = wal")
            db.execute("CREATE TABLE users (name TEXT)")
            os._exit(0)
        """
        run_script(script, str(path))
        log = path.with_name("seen.db-wal")
        before = path.read_bytes(), log.read_bytes()
        with pytest.raises(SchemaError, match="table users"):
            await AsyncSeenStore(path).open()
        assert (path.read_bytes(), log.read_bytes()) == before

    async def test_device(self) -> None:
        """A device."""
        with pytest.raises(StoreUnavailableError, match="/dev/null: it is a device"):
            await AsyncSeenStore("/dev/null").open()

    async def test_other_program_in_mid_transaction(
        self, path: Path, run_script: Run
    ) -> None:
        """A crashed program's journal is not rolled back behind its back."""
        script = """
            import os, sqlite3, sys
            db = sqlite3.connect(sys.argv[1], isolation_level=None)
            db.execute("CREATE TABLE users (name TEXT)")
            db.execute("INSERT INTO users VALUES (hex(randomblob(100000)))")
            db.execute("PRAGMA cache_size = 1")
            db.execute("BEGIN")
            db.execute("UPDATE users SET name = hex(randomblob(100000))")
            os._exit(0)
        """
        run_script(script, str(path))
        before = _fingerprint(path.parent)
        assert len(before) == 2
        with pytest.raises(SchemaError, match="table users"):
            await AsyncSeenStore(path).open()
        assert _fingerprint(path.parent) == before

    @pytest.mark.parametrize(
        "junk", [b"junk", b"x" * 5_000, b"SQLite format 3\0" + b"\xff" * 4_080]
    )
    async def test_junk(self, path: Path, junk: bytes) -> None:
        """A file that is no database."""
        path.write_bytes(junk)
        await self.refuse(path, SchemaError, "not a SQLite database|malformed")

    async def test_directory(self, path: Path) -> None:
        """A directory."""
        path.mkdir()
        await self.refuse(path, StoreUnavailableError, "it is a directory")

    async def test_file_for_a_directory(self, tmp_path: Path) -> None:
        """A path that leads through a file."""
        (tmp_path / "file").write_text("text")
        with pytest.raises(
            StoreUnavailableError, match=r"file/seen.db: its directory cannot be made"
        ):
            await AsyncSeenStore(tmp_path / "file/seen.db").open()

    async def test_empty_file_is_a_new_store(self, path: Path) -> None:
        """A file without a byte belongs to nobody yet."""
        path.touch()
        async with AsyncSeenStore(path) as store:
            assert await store.check_and_mark("k")


def _fingerprint(folder: Path) -> dict[str, str]:
    return {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        if entry.is_file()
        else "directory"
        for entry in folder.iterdir()
    }


class TestSharing:
    """Several stores on one file."""

    async def test_two_stores(self, path: Path) -> None:
        """Each sees the other's marks at once."""
        async with AsyncSeenStore(path) as one, AsyncSeenStore(path) as two:
            for number in range(100):
                key = str(number)
                await one.mark_seen(key)
                assert await two.is_seen(key)
                assert not await two.check_and_mark(key)
                assert await two.forget(key)
                assert not await one.is_seen(key)

    async def test_reopen(self, path: Path) -> None:
        """What was marked is there after a restart."""
        for number in range(5):
            async with AsyncSeenStore(path) as store:
                assert await store.count() == number
                assert await store.check_and_mark(str(number))

    @pytest.mark.slow
    def test_processes(self, path: Path, run_script: Run) -> None:
        """Of four processes that mark the same 500 keys, exactly one wins each key."""
        script = """
            import asyncio, multiprocessing, sys
            from catalyst_seen import AsyncSeenStore
            def work(path, barrier, wins):
                async def main():
                    async with AsyncSeenStore(path) as store:
                        barrier.wait()
                        for number in range(500):
                            if await store.check_and_mark(str(number)):
                                wins.put(number)
                asyncio.run(main())
            context = multiprocessing.get_context("spawn")
            if __name__ == "__main__":
                context = multiprocessing.get_context("fork")
                barrier, wins = context.Barrier(4), context.SimpleQueue()
                processes = [
                    context.Process(target=work, args=(sys.argv[1], barrier, wins))
                    for _ in range(4)
                ]
                [process.start() for process in processes]
                won = sorted(wins.get() for _ in range(500))
                [process.join() for process in processes]
                print(won == list(range(500)), wins.empty())
                sys.exit(sum(process.exitcode for process in processes))
        """
        done = run_script(script, str(path), timeout=120)
        assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done

    @pytest.mark.slow
    def test_killed(self, path: Path, run_script: Run) -> None:
        """Every mark that a killed process was told of is there afterwards."""
        script = """
            import asyncio, os, sys
            from catalyst_seen import AsyncSeenStore
            async def main():
                async with AsyncSeenStore(sys.argv[1]) as store:
                    for number in range(10_000):
                        await store.mark_seen(str(number))
                        print(number, flush=True)
                        if number == 200:
                            os.kill(os.getpid(), 9)
            asyncio.run(main())
        """
        done = run_script(script, str(path))
        assert done.returncode == -9
        told = done.stdout.split()
        assert len(told) == 201
        assert read(path, "SELECT count(*) FROM seen") == [(201,)]


class TestFileThatChanges:
    """A file that is not the one that was opened."""

    async def test_moved(self, path: Path) -> None:
        """While the file is away, every verb raises; nothing is marked into nowhere."""
        away = path.with_name("away.db")
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await store.mark_seen("k")
            path.rename(away)
            for call in (
                store.mark_seen("new"),
                store.check_and_mark("new"),
                store.filter_new(["new"]),
                store.count(),
                store.purge_expired(),
            ):
                with pytest.raises(StoreUnavailableError, match="not there any more"):
                    await call
            away.rename(path)
            assert not await store.check_and_mark("k")
            assert await store.check_and_mark("new")

    async def test_replaced(self, path: Path) -> None:
        """A new file under the old name is not written to, and stays as it is."""
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await store.mark_seen("k")
            for entry in list(path.parent.iterdir()):
                entry.rename(entry.with_name(f"old-{entry.name}"))
            path.write_bytes(b"")
            with pytest.raises(StoreUnavailableError, match="not there any more"):
                await store.mark_seen("k")
            assert path.read_bytes() == b""

    async def test_gone_when_connecting_again(self, path: Path) -> None:
        """After an I/O error no new database is made where the old one was."""
        folder = path.parent / "volume"
        faults = SqliteFaults()
        config = SeenStoreConfig(
            folder / "seen.db",
            purge_interval=None,
            recent_staleness=0,
            tuning=faults.tuning,
        )
        store = AsyncSeenStore(config)
        await store.open()
        await store.mark_seen("k")
        faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC")
        with pytest.raises(OutcomeUnknownError):
            await store.mark_seen("new")
        folder.rename(path.parent / "lost")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="not there any more"):
                await store.check_and_mark("k")
        assert not folder.exists()
        (path.parent / "lost").rename(folder)
        assert not await store.check_and_mark("k")
        await store.aclose()

    @pytest.mark.parametrize("is_kept", [True, False])
    async def test_link(self, path: Path, *, is_kept: bool) -> None:
        """Through a link, the log is looked after where it really is."""
        link = path.with_name("link.db")
        link.symlink_to(path.name)
        async with AsyncSeenStore(link, purge_interval=None) as store:
            await store.mark_many(map(str, range(1_000)))
            stats = await store.stats()
            assert stats.wal_bytes == path.with_name("seen.db-wal").stat().st_size > 0
            assert stats.file_bytes > 0
            if not is_kept:
                path.with_name("seen.db-wal").unlink()
                with pytest.raises(StoreUnavailableError, match="not there any more"):
                    await store.mark_seen("new")
        assert [entry.name for entry in path.parent.glob("link*")] == ["link.db"]

    async def test_emptied(self, path: Path) -> None:
        """What was emptied while it was open is no store; its log stays as it is."""
        config = SeenStoreConfig(path, purge_interval=None, recent_staleness=0)
        store = AsyncSeenStore(config)
        await store.open()
        await store.mark_many(map(str, range(100)))
        log = path.with_name("seen.db-wal")
        size = log.stat().st_size
        os.truncate(path, 0)
        for call in (store.mark_seen("k"), store.get("1"), store.count()):
            with pytest.raises(StoreUnavailableError, match="not there any more"):
                await call
        assert log.stat().st_size == size
        store._lifecycle.abandon()  # closing would be SQLite's end of it

    def test_slow_readers_are_no_pin(self, path: Path) -> None:
        """Only a checkpoint that comes no further is kept by a reader."""
        log = wal.WriteAheadLog(files.DatabaseFile(str(path), "stdlib"), is_used=True)
        for copied in (0, 10, 20, 40):
            log._record_checkpoint(0, 100, copied)
            log._pinned_since = time.monotonic() - 100
        log._record_checkpoint(0, 100, 40)
        assert log.pinned > 99
        log._record_checkpoint(0, 100, 60)
        assert log.pinned < 1
        log._record_checkpoint(0, 100, 100)
        assert log.pinned == 0


class TestErrors:
    """A store that fails says so, in our words, and works again afterwards."""

    async def test_locked(self, path: Path) -> None:
        """Writes raise, and name file, cause and advice; reads go on."""
        config = SeenStoreConfig(path, timeout=0.3, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            await store.mark_seen("k")
            await store.mark_seen("expired", 1e9)
            with write_lock(path):
                for call in (
                    store.mark_seen("new"),
                    store.mark_many(["new"]),
                    store.check_and_mark("new"),
                    store.check_and_mark_many(["new", "k"]),
                    store.forget("k"),
                    store.purge_expired(),
                ):
                    with pytest.raises(StoreUnavailableError, match="locked") as caught:
                        await call
                    assert caught.value.location == str(path)
                    assert "SQLITE_BUSY" in caught.value.cause
                    assert "find it, or raise timeout" in str(caught.value)
                assert await store.is_seen("k")
                assert not await store.check_and_mark("k")  # a duplicate is a read
                assert await store.filter_new(["k", "new"]) == ["new"]
            assert await store.check_and_mark("new")

    async def test_inherited_answers_of_unknown_outcome(self, path: Path) -> None:
        """An outcome that is unknown counts as an error of the store there as well."""
        faults = SqliteFaults()
        config = SeenStoreConfig(
            path, purge_interval=None, recent_staleness=0, tuning=faults.tuning
        )

        async def lose(_: Batch, __: object) -> BatchResult:
            raise OutcomeUnknownError("here", "lost", "ask again")

        async with AsyncSeenStore(config) as store:
            await store.mark_seen("k", ts=store._lifecycle.backend.now() - 100 * DAY)
            faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC", [False, False])
            with capture_logs() as logs:
                with intercepted(store, lose):
                    assert await store.is_seen("k") is False
                assert await store.cleanup_old_entries() == 0
            assert [log["event"] for log in logs] == ["lookup_failed", "cleanup_failed"]
        raising = replace(config, on_error="raise")
        async with AsyncSeenStore(raising) as store:
            with pytest.raises(OutcomeUnknownError):
                await store.cleanup_old_entries()

    async def test_inherited_answers(self, path: Path) -> None:
        """On an error is_seen is False and cleanup is 0, each logged as an error."""
        config = SeenStoreConfig(path, purge_interval=None, recent_staleness=0)
        async with AsyncSeenStore(config) as store:
            await store.mark_seen("k")
            _break(path)
            with capture_logs() as logs:
                assert await store.is_seen("k") is False
                assert await store.cleanup_old_entries() == 0
            assert [(log["event"], log["log_level"]) for log in logs] == [
                ("lookup_failed", "error"),
                ("cleanup_failed", "error"),
            ]
            assert logs[0]["location"] == str(path)
            for call in (
                store.mark_seen("k"),
                store.check_and_mark("k"),
                store.filter_new(["k"]),
                store.get("k"),
                store.count(),
                store.stats(),
            ):
                with pytest.raises(StoreUnavailableError):
                    await call

    async def test_raised_when_asked(self, path: Path) -> None:
        """With on_error="raise" those two raise as well."""
        config = SeenStoreConfig(
            path, on_error="raise", purge_interval=None, recent_staleness=0
        )
        async with AsyncSeenStore(config) as store:
            await store.mark_seen("k")
            _break(path)
            with pytest.raises(StoreUnavailableError, match="no such table"):
                await store.is_seen("k")
            with pytest.raises(StoreUnavailableError, match="no such table"):
                await store.cleanup_old_entries()

    async def test_bad_row_spoils_nothing(self, path: Path) -> None:
        """A batch that fails in the middle leaves nothing behind, and no lock."""
        config = SeenStoreConfig(path, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            write(
                path,
                "CREATE TRIGGER no BEFORE INSERT ON seen WHEN NEW.key = 'bad' BEGIN"
                " SELECT RAISE(ABORT, 'refused'); END",
            )
            keys = [*map(str, range(500)), "bad", "after"]
            for call in (store.mark_many(keys), store.check_and_mark_many(keys)):
                with pytest.raises(StoreUnavailableError, match="refused"):
                    await call
                assert await store.count() == 0
                write(path, *a_row("", "other", 1))
                write(path, "DELETE FROM seen")
            assert await store.check_and_mark("0")

    async def test_io_error_at_commit_is_unknown(self, path: Path) -> None:
        """An I/O error at the commit is OutcomeUnknownError, and connects anew."""
        faults = SqliteFaults()
        config = SeenStoreConfig(path, purge_interval=None, tuning=faults.tuning)
        async with AsyncSeenStore(config) as store:
            await store.mark_seen("before")
            faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC")
            with pytest.raises(OutcomeUnknownError, match="IOERR_FSYNC") as caught:
                await store.mark_seen("k")
            assert "Ask again" in str(caught.value)
            descriptors = len(open_descriptors())
            with capture_logs() as logs:
                assert await store.is_seen("before")
                assert await store.check_and_mark("k")
            assert [log["event"] for log in logs] == ["connection_reopened"]
            assert len(open_descriptors()) <= descriptors + 3

    async def test_cancelled_behind_an_io_error(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cancelled call behind an I/O error does not overtake those that follow it.

        They use a new connection, while it is still queued for the old one.
        """
        committing, fail, started, run, done = (threading.Event() for _ in range(5))
        used: list[Database] = []
        cleanup = Database.cleanup

        def commit(execute: Callable[[], object]) -> object:
            if committing.is_set():
                return execute()
            committing.set()
            assert fail.wait(60)
            raise sqlite_error("SQLITE_IOERR_FSYNC")

        def late(database: Database, *args: Any, **options: Any) -> object:
            used.append(database)
            started.set()
            assert run.wait(60)
            try:
                return cleanup(database, *args, **options)
            finally:
                done.set()

        faults = SqliteFaults()
        config = SeenStoreConfig(
            path, purge_interval=None, recent_keys=0, tuning=faults.tuning
        )
        async with AsyncSeenStore(config) as store:
            faults.replace("COMMIT", commit)
            monkeypatch.setattr(Database, "cleanup", late)
            marking = asyncio.create_task(store.mark_seen("other"))
            assert await asyncio.to_thread(committing.wait, 60)
            marking.cancel()
            await asyncio.sleep(0)
            cleaning = asyncio.create_task(store.cleanup_old_entries(0))
            for _ in range(5):
                await asyncio.sleep(0)
            fail.set()
            assert await asyncio.to_thread(started.wait, 60)
            assert used[0].needs_reconnect
            cleaning.cancel()
            ends = await asyncio.gather(marking, cleaning, return_exceptions=True)
            assert {type(end) for end in ends} == {asyncio.CancelledError}
            await store.mark_seen("k")
            run.set()
            assert await asyncio.to_thread(done.wait, 60)
            assert await store.is_seen("k")

    async def test_full_disk(self, path: Path) -> None:
        """A full disk refuses marks, keeps what it has, and works again after."""
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await store.mark_many(map(str, range(1_000)))
            await execute(store, "PRAGMA max_page_count = 1")
            with pytest.raises(StoreUnavailableError, match=r"full.*Free some space"):
                await store.mark_many(f"more {number}" for number in range(1_000))
            assert await store.count() == 1_000
            assert await store.is_seen("0")
            await execute(store, "PRAGMA max_page_count = 1000000")
            await store.mark_many(f"more {number}" for number in range(1_000))
            assert await store.count() == 2_000

    @pytest.mark.slow
    def test_nobody_to_tell(self, path: Path, run_script: Run) -> None:
        """Where nothing can be logged, upgrade, purge and answers go on as promised."""
        script = """
            import asyncio, os, sqlite3, sys
            from catalyst_seen import AsyncSeenStore, SeenStoreConfig
            path = sys.argv[1]
            sys.stdout.close()
            sys.stderr.close()
            db = sqlite3.connect(path, isolation_level=None)
            db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)")
            async def main():
                config = SeenStoreConfig(
                    path, purge_interval=0.1, recent_staleness=0
                )
                async with AsyncSeenStore(config) as store:
                    await store.mark_seen("k")
                    while (await store.stats()).purge_runs == 0:
                        await asyncio.sleep(0.01)
                    db.execute("SELECT * FROM seen").fetchall()  # learn the new schema
                    db.execute("UPDATE seen SET expires_at = 0")
                    db.execute("BEGIN IMMEDIATE")
                    while (await store.stats()).purge_failures < 2:
                        await asyncio.sleep(0.01)
                    db.execute("COMMIT")
                    runs = (await store.stats()).purge_runs
                    while (await store.stats()).purge_runs == runs:
                        await asyncio.sleep(0.01)
                    db.execute("DROP TABLE seen")
                    assert await store.is_seen("k") is False
                    assert await store.cleanup_old_entries() == 0
                os._exit(7)
            asyncio.run(main())
        """
        done = run_script(script, str(path))
        assert (done.returncode, done.stderr) == (7, "")

    async def test_bugs_pass_untouched(self, path: Path) -> None:
        """Misuse of the driver is not dressed up as an unavailable store."""
        async with AsyncSeenStore(path) as store:
            with pytest.raises(sqlite3.ProgrammingError):
                await execute(store, "SELECT ?")


def _break(path: Path) -> None:
    write(path, "DROP TABLE seen")
