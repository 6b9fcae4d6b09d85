"""Opening, closing and leaking, in every bad shape; never a hang, never a leak."""

from __future__ import annotations

import asyncio
import gc
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    SchemaError,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
)
from catalyst_seen._tuning import Tuning

from ..support.leaks import open_descriptors
from ..support.locks import write_lock
from ..support.scripts import NO_FORK_WARNING, Run
from ..support.sqlite_files import read, write
from ..support.targets import Target
from ..support.unclosed import CODES, LEAKS

pytestmark = pytest.mark.usefixtures("nothing_left")


class TestOpen:
    """open and async with."""

    async def test_constructing_does_no_io(self, path: Path) -> None:
        """A store that is only constructed does no I/O and needs no close."""
        AsyncSeenStore(path / "deep" / "seen.db")
        assert not path.exists()

    async def test_open_and_aclose_equal_async_with(self, target: Target) -> None:
        """Open and aclose are the same as async with."""
        store = AsyncSeenStore(target.config())
        await store.open()
        assert await store.check_and_mark("k")
        await store.aclose()

    async def test_verb_before_open_is_refused(self, target: Target) -> None:
        """A verb before open raises an error with advice."""
        store = AsyncSeenStore(target.config())
        with pytest.raises(StoreClosedError, match="not open yet: use `async with`"):
            await store.is_seen("k")

    async def test_second_open_is_refused(self, target: Target) -> None:
        """A store opens once."""
        async with AsyncSeenStore(target.config()) as store:
            with pytest.raises(StoreClosedError, match=r"it is open already.*aclosing"):
                await store.open()
            assert await store.check_and_mark("k")
        with pytest.raises(StoreClosedError, match="closed: make a new store"):
            await store.open()

    async def test_concurrent_open_is_refused(self, target: Target) -> None:
        """Of two tasks that open one store, one is refused."""
        store = AsyncSeenStore(target.config())
        outcomes = await asyncio.gather(
            store.open(), store.open(), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreClosedError]
        await store.aclose()

    async def test_close_during_open_closes(self, target: Target) -> None:
        """A store that is closed while it opens ends closed."""
        store = AsyncSeenStore(target.config())
        opening = asyncio.create_task(store.open())
        await asyncio.sleep(0)
        await store.aclose()
        with pytest.raises(StoreClosedError):
            await opening
        with pytest.raises(StoreClosedError):
            await store.is_seen("k")

    async def test_failed_open_can_be_repeated(self, path: Path) -> None:
        """A failed open leaves no thread or descriptor, and can be repeated."""
        path.write_bytes(b"junk")
        store = AsyncSeenStore(path)
        for _ in range(20):
            with pytest.raises(SchemaError):
                await store.open()
        path.unlink()
        async with store:
            assert await store.check_and_mark("k")

    async def test_reconnect_during_close_is_refused(self, path: Path) -> None:
        """A call that reconnects during a close is refused, and leaves nothing open."""
        store = AsyncSeenStore(path, purge_interval=None)
        await store.open()
        worker = store._lifecycle.backend._connections._writer  # type: ignore[attr-defined]
        worker.database.needs_reconnect = True
        call = asyncio.create_task(store.mark_seen("k"))
        await asyncio.sleep(0)
        store._lifecycle.backend.abandon()
        with pytest.raises(StoreClosedError, match="while it was connecting"):
            await call
        await store.aclose()

    @pytest.mark.parametrize("turns", range(6))
    @pytest.mark.slow
    async def test_cancelled_open_can_be_repeated(
        self, target: Target, turns: int
    ) -> None:
        """A cancelled open, early or late, leaves nothing open and can be repeated."""
        before = len(open_descriptors())
        for _ in range(10):
            store = AsyncSeenStore(target.config())
            opening = asyncio.create_task(store.open())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            opening.cancel()
            try:
                await opening
            except asyncio.CancelledError:
                async with store:
                    await store.mark_seen("k")
            else:
                await store.aclose()
        await _until(lambda: len(open_descriptors()) <= before)

    async def test_cancelled_open_does_not_wait_for_a_lock(self, path: Path) -> None:
        """A cancelled open does not wait for the lock that it was waiting for."""
        write(path, "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)")
        store = AsyncSeenStore(SeenStoreConfig(path, timeout=200))
        with write_lock(path):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await store.open()
            assert time.monotonic() - started < 60  # of a timeout of 200
        async with store:
            assert await store.check_and_mark("k")
        await _until(lambda: len(asyncio.all_tasks()) == 1)  # the abandoned one


class TestClose:
    """aclose."""

    async def test_concurrent_closes_are_one(self, target: Target) -> None:
        """Ten concurrent closes are one close; none returns before it is done."""
        threads = threading.active_count()
        store = AsyncSeenStore(target.config())
        await store.open()
        await store.mark_many(map(str, range(5_000)))

        async def close() -> int:
            await store.aclose()
            return threading.active_count()

        async with asyncio.timeout(60):
            after = await asyncio.gather(*(close() for _ in range(10)))
            assert after == [threads] * 10
            await store.aclose()

    async def test_close_completes_earlier_calls(self, shared: Target) -> None:
        """Calls before the close complete; later calls are refused."""
        store = AsyncSeenStore(shared.config())
        await store.open()
        calls = [
            asyncio.create_task(store.mark_seen(str(number))) for number in range(100)
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.aclose())
        await asyncio.sleep(0)
        with pytest.raises(StoreClosedError, match="closing: make a new store"):
            await store.mark_seen("late")
        async with asyncio.timeout(60):
            await asyncio.gather(*calls)
            await closing
        async with AsyncSeenStore(shared.config()) as store:
            assert await store.count() == 100

    async def test_every_verb_after_close_is_refused(self, target: Target) -> None:
        """Every verb on a closed store is a StoreClosedError; is_seen as well."""
        async with AsyncSeenStore(target.config()) as store:
            await store.mark_seen("k")
        for call in (
            store.is_seen("k"),
            store.mark_seen("k"),
            store.mark_many([]),
            store.check_and_mark("k"),
            store.check_and_mark_many(["k"]),
            store.filter_new(["k"]),
            store.forget("k"),
            store.get("k"),
            store.count(),
            store.stats(),
            store.purge_expired(),
            store.cleanup_old_entries(),
        ):
            with pytest.raises(StoreClosedError):
                await call

    async def test_close_without_open_is_final(self, target: Target) -> None:
        """A close of a store that was never open succeeds, and is final."""
        store = AsyncSeenStore(target.config())
        await store.aclose()
        with pytest.raises(StoreClosedError, match="closed"):
            await store.open()

    @pytest.mark.slow
    async def test_cancelled_close_completes(self, target: Target) -> None:
        """A close that is cancelled completes in the background."""
        store = AsyncSeenStore(target.config())
        await store.open()
        closing = asyncio.create_task(store.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await store.aclose()

    @pytest.mark.slow
    async def test_close_does_not_wait_for_a_stalled_disk(self, path: Path) -> None:
        """A close does not wait for a stalled disk; the thread ends when it can."""
        config = SeenStoreConfig(
            path, timeout=2, purge_interval=None, tuning=Tuning(close_timeout=0.1)
        )
        store = AsyncSeenStore(config)
        await store.open()
        with write_lock(path):
            stuck = asyncio.create_task(store.mark_seen("k"))
            waiting = asyncio.create_task(store.mark_seen("l"))
            await asyncio.sleep(0.05)
            await store.aclose()
            assert not stuck.done()
            with pytest.raises(StoreUnavailableError):
                await stuck
            with pytest.raises((StoreClosedError, StoreUnavailableError)):
                await waiting

    async def test_error_in_store_block_propagates(self, target: Target) -> None:
        """An exception in the block propagates from a closed store."""
        with pytest.raises(ZeroDivisionError):
            async with AsyncSeenStore(target.config()) as store:
                raise ZeroDivisionError
        with pytest.raises(StoreClosedError):
            await store.is_seen("k")


class TestOneAtATime:
    """A backend is never called twice at the same time."""

    async def test_backend_calls_never_overlap(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Concurrent callers reach the backend one after the other."""
        async with AsyncSeenStore(path, purge_interval=0.001) as store:
            backend = store._lifecycle.backend
            run, under_way, most = backend._run, 0, 0  # type: ignore[attr-defined]

            async def count(*args: object, **options: object) -> object:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                try:
                    return await run(*args, **options)
                finally:
                    under_way -= 1

            monkeypatch.setattr(backend, "_run", count)
            await asyncio.gather(
                *(store.check_and_mark(str(number)) for number in range(50)),
                *(store.is_seen(str(number)) for number in range(50)),
                store.purge_expired(),
                store.cleanup_old_entries(),
                store.stats(),
            )
            assert most == 1


class TestElsewhere:
    """Another loop, another process."""

    def test_second_loop_is_refused(self, target: Target) -> None:
        """A second event loop is refused at the first call, and may close."""
        store = AsyncSeenStore(target.config(purge_interval=None))

        async def first() -> None:
            await store.open()
            await store.mark_seen("k")

        async def second() -> None:
            with pytest.raises(StoreClosedError, match="another event loop"):
                await store.is_seen("k")
            await store.aclose()
            with pytest.raises(StoreClosedError, match="closed"):
                await store.is_seen("k")

        asyncio.run(first())
        asyncio.run(second())

    def test_loop_of_another_thread_is_refused(self, target: Target) -> None:
        """A loop in another thread is refused while the first one runs."""

        async def intrude(store: AsyncSeenStore) -> None:
            with pytest.raises(StoreClosedError, match="another event loop"):
                await store.is_seen("k")

        async def main() -> None:
            async with AsyncSeenStore(target.config()) as store:
                await asyncio.to_thread(asyncio.run, intrude(store))
                assert await store.check_and_mark("k")

        asyncio.run(main())

    @pytest.mark.slow
    def test_forked_store_is_refused(self, path: Path, run_script: Run) -> None:
        """A forked child is refused, may close, and disturbs no parent."""
        script = """
            import asyncio, os, sys
            from catalyst_seen import AsyncSeenStore, StoreClosedError
            async def main():
                async with AsyncSeenStore(sys.argv[1]) as store:
                    for number in range(20):
                        await store.mark_seen(f"before {number}")
                        child = os.fork()
                        if child == 0:
                            try:
                                await store.is_seen("k")
                            except StoreClosedError as exc:
                                assert "before a fork" in str(exc)
                                await store.aclose()
                                del store
                                os._exit(7)
                            os._exit(1)
                        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                        await store.mark_seen(f"after {number}")
                    print(await store.count())
            asyncio.run(main())
        """
        done = run_script(script, str(path), options=NO_FORK_WARNING)
        assert (done.stdout, done.stderr) == ("40\n", "")
        assert read(path, "PRAGMA integrity_check") == [("ok",)]

    @pytest.mark.slow
    def test_child_cannot_open_the_parents_file(
        self, path: Path, run_script: Run
    ) -> None:
        """A child cannot open a file that its parent had open; other files it can.

        SQLite's locks would not hold there: it lost 100 of 100 acknowledged marks.
        """
        script = """
            import os, sys
            from catalyst_seen import SeenStore, StoreUnavailableError
            path = sys.argv[1]
            with SeenStore(path) as store:
                store.mark_seen("parent")
                child = os.fork()
                if child == 0:
                    try:
                        SeenStore(path)
                    except StoreUnavailableError as exc:
                        assert "when this process was forked" in str(exc), exc
                        with SeenStore(path + ".other") as other:
                            assert other.check_and_mark("k")
                        os._exit(7)
                    os._exit(1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            child = os.fork()
            if child == 0:
                with SeenStore(path) as store:
                    assert store.check_and_mark("child of a closed store")
                os._exit(8)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8
            with SeenStore(path) as store:
                print(store.count())
        """
        done = run_script(script, str(path), options=NO_FORK_WARNING)
        assert (done.stdout, done.stderr) == ("2\n", "")


class TestLeaks:
    """A store that nobody closed."""

    @pytest.mark.parametrize("strict", [False, True], ids=["", "-W error"])
    @pytest.mark.parametrize("shape", LEAKS)
    @pytest.mark.slow
    def test_unclosed_store_lets_process_exit(
        self, path: Path, run_script: Run, shape: str, strict: bool
    ) -> None:
        """An unclosed store does not change the exit code; its mark is stored."""
        script = (
            "import asyncio, sys\n"
            "from catalyst_seen import AsyncSeenStore, SeenStore\n"
            "path = sys.argv[1]\n" + textwrap.dedent(LEAKS[shape])
        )
        options = ("-W", "error") if strict else ()
        done = run_script(script, str(path), options=options)
        assert done.returncode == CODES.get(shape, 0), done.stderr
        assert ("k",) in read(path, "SELECT key FROM seen")
        write(path, "DELETE FROM seen")  # no lock is left

    async def test_dropped_store_warns(self, path: Path) -> None:
        """A store that is dropped warns, and its thread and files are closed."""
        threads = threading.active_count()
        store = AsyncSeenStore(path)
        await store.open()
        await store.is_seen("k")
        assert threading.active_count() == threads + 1
        with pytest.warns(ResourceWarning, match=r"seen.db' open> was never closed"):
            del store
        gc.collect()
        await _until(lambda: threading.active_count() == threads)

    async def test_dropped_store_ends_though_warning_raises(self, path: Path) -> None:
        """The thread of a dropped store ends also where the warning is an error."""
        threads = threading.active_count()
        store = AsyncSeenStore(path)
        await store.open()
        unraisable: list[object] = []
        hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
        try:
            with warnings.catch_warnings(action="error"):
                del store
                gc.collect()
        finally:
            sys.unraisablehook = hook
        assert len(unraisable) == 1
        unraisable.clear()
        await _until(lambda: threading.active_count() == threads)

    @pytest.mark.slow
    def test_loop_closed_under_a_call_is_named(
        self, path: Path, run_script: Run
    ) -> None:
        """After its loop was closed, a store raises a clear error and holds no lock."""
        script = """
            import asyncio, sqlite3, sys, threading, time
            from catalyst_seen import AsyncSeenStore, StoreClosedError
            threading.excepthook = lambda args: None  # aiosqlite's thread, of its loop
            path = sys.argv[1]
            loop = asyncio.new_event_loop()
            store = AsyncSeenStore(path, purge_interval=None)
            loop.run_until_complete(store.open())
            task = loop.create_task(store.mark_many(map(str, range(20_000))))
            loop.run_until_complete(asyncio.sleep(0.3))
            loop.close()
            task._log_destroy_pending = False
            async def later():
                try:
                    await store.is_seen("k")
                except StoreClosedError as exc:
                    print("another event loop" in str(exc))
                await store.aclose()
            asyncio.run(asyncio.wait_for(later(), 60))
            sqlite3.connect(path, timeout=60, isolation_level=None).execute(
                "UPDATE seen SET last_seen = 0"
            )
            deadline = time.monotonic() + 60
            while threading.active_count() > 1 and time.monotonic() < deadline:
                time.sleep(0.01)
            print(threading.active_count())
        """
        done = run_script(script, str(path), options=("-W", "error"))
        assert done.stdout.split() == ["True", "1"], done.stderr

    @pytest.mark.slow
    def test_close_cut_short_by_its_loop_leaks_nothing(
        self, path: Path, run_script: Run
    ) -> None:
        """A close that the end of its loop cut short leaves no descriptor."""
        script = """
            import asyncio, os, sys, threading, time
            from catalyst_seen import AsyncSeenStore
            threading.excepthook = lambda args: None  # aiosqlite's thread, of its loop
            async def main():
                store = AsyncSeenStore(sys.argv[1], purge_interval=None)
                await store.open()
                batch = store.check_and_mark_many([str(n) for n in range(900)])
                task = asyncio.create_task(batch)
                await asyncio.sleep(0)
                await asyncio.wait_for(store.aclose(), 0.0001)
            opened = lambda: len(os.listdir("/proc/self/fd"))
            before, cut = opened(), 0
            for _ in range(10):
                try:
                    asyncio.run(main())
                except TimeoutError:
                    cut += 1
            deadline = time.monotonic() + 60
            while opened() > before and time.monotonic() < deadline:
                time.sleep(0.01)
            print(cut > 5, opened() <= before)
        """
        done = run_script(script, str(path))
        assert done.stdout.split() == ["True", "True"], done.stderr


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
