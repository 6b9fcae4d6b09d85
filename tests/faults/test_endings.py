"""Group A, the rest: processes that end, fork, are signalled, or lose their loop."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..support.scripts import NO_FORK_WARNING
from .harness.cancelling import SEED
from .harness.checker import History
from .harness.processes import command, run, stored
from .harness.report import Fault
from .harness.scripts import PATIENCE, figures, script

pytestmark = pytest.mark.timeout(300)  # a hang is what is looked for


# Each marks one key, and ends without having closed its store.
SHAPES = {
    "a global": """
        store = AsyncSeenStore(path)
        async def main():
            await store.open()
            await mark(store, "k")
        asyncio.run(main())
    """,
    "a local": """
        async def main():
            store = AsyncSeenStore(path)
            await store.open()
            await mark(store, "k")
        asyncio.run(main())
    """,
    "an exception": """
        async def main():
            store = AsyncSeenStore(path)
            await store.open()
            await mark(store, "k")
            raise RuntimeError("on purpose")
        asyncio.run(main())
    """,
    "sys.exit in the block": """
        async def main():
            async with AsyncSeenStore(path) as store:
                await mark(store, "k")
                sys.exit(3)
        asyncio.run(main())
    """,
    "os._exit": """
        async def main():
            store = AsyncSeenStore(path)
            await store.open()
            await mark(store, "k")
            os._exit(4)
        asyncio.run(main())
    """,
    "a call that runs": """
        store = AsyncSeenStore(path)
        async def main():
            await store.open()
            await mark(store, "k")
            blocker = sqlite3.connect(path, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            asyncio.create_task(mark(store, "blocked"))
            await asyncio.sleep(0.05)
            return blocker
        blocker = asyncio.run(main())
    """,
}
SILENT = {"sys.exit in the block", "os._exit"}  # closed, or nobody left to warn
CODES = {"an exception": 1, "sys.exit in the block": 3, "os._exit": 4}


@pytest.mark.parametrize("shape", SHAPES)
def test_never_closed(path: Path, fault: Fault, shape: str, *, torture: bool) -> None:
    """A process that closes no store ends by itself, and what it marked is there."""
    row = fault("A7", f"never closed: {shape}")
    warned = 0
    forms: list[Sequence[str]] = [[], ["-W", "error"]]
    for number, options in enumerate(forms * (10 if torture else 1)):
        place = path.with_name(f"{number}.db")
        started = time.monotonic()
        history, done = run(script(SHAPES[shape], place, 1, *options), PATIENCE)
        history.worst = time.monotonic() - started
        assert done.returncode == CODES.get(shape, 0), done.stderr
        assert "k" in history.keys("new"), done.stderr
        warned += "was never closed" in done.stderr
        keys, intact = stored(place)
        row.add(history, keys, intact=intact)
    assert warned == (0 if shape in SILENT else row.rounds // 2)
    row.note(f"{warned} of {row.rounds} warned, none hung")


LOOP_CLOSED = """
    threading.excepthook = lambda args: None  # aiosqlite's thread, of its loop

    def wait_for(condition):
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.001)
        return condition()

    async def later(store):
        try:
            await store.is_seen("k")
        except StoreClosedError as exc:
            assert "another event loop" in str(exc)
            say("refused", 1)
        await store.aclose()

    def opened():
        names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum(path in os.path.realpath(name) for name in names)

    blocker = sqlite3.connect(path, isolation_level=None, timeout=60)
    stores = []
    for number in range(rounds):
        loop = asyncio.new_event_loop()
        store = AsyncSeenStore(path, purge_interval=None)
        loop.run_until_complete(store.open())
        loop.run_until_complete(mark(store, f"before-{number}"))
        blocker.execute("BEGIN IMMEDIATE")
        task = loop.create_task(mark(store, f"running-{number}"))
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.close()
        task._log_destroy_pending = False
        started = time.monotonic()
        if number % 2:
            asyncio.run(asyncio.wait_for(later(store), 60))
            say("error", time.monotonic() - started)
            started = time.monotonic()
        blocker.execute("ROLLBACK")
        with sqlite3.connect(path, timeout=60, isolation_level=None) as other:
            other.execute("UPDATE seen SET last_seen = last_seen")
        other.close()
        say("write", time.monotonic() - started)
        if not number % 2:
            started = time.monotonic()
            asyncio.run(asyncio.wait_for(later(store), 60))
            say("error", time.monotonic() - started)
        stores.append(store)
        assert wait_for(lambda: threading.active_count() == 1), threading.enumerate()
    blocker.close()  # whose locks would keep them open
    assert wait_for(lambda: not opened()), opened()
"""


def test_loop_closed(path: Path, fault: Fault, *, torture: bool) -> None:
    """A loop that closes while a statement runs leaves an error, no hang, no lock."""
    row = fault("A8", "loop closed with a statement running")
    rounds = 50 if torture else 6
    history, done = run(script(LOOP_CLOSED, path, rounds), 10 * PATIENCE)
    assert done.returncode == 0, done.stderr
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(rounds - 1)
    errors, writes = figures(done.stdout, "error"), figures(done.stdout, "write")
    row.note(
        f"{len(errors)} new loops got an error, in {max(errors) * 1_000:,.0f} ms at"
        f" most; another connection wrote within {max(writes) * 1_000:,.0f} ms"
    )
    assert len(errors) == len(writes) == rounds
    assert len(figures(done.stdout, "refused")) == rounds
    assert max(errors + writes) < 30


LOOK_CANCELLED = """
    died = []
    threading.excepthook = lambda args: died.append(args.exc_value)

    async def main(number):
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await mark(store, f"before-{number}")
            look = asyncio.create_task((store.check, store.count)[number % 2]())
            await asyncio.sleep(number % 10 / 5_000)
            look.cancel()

    for number in range(rounds):
        asyncio.run(main(number))
    say("died", len(died))
"""


# Fails in some rounds: nobody waits for the connection aside of a cancelled look, and
# its thread finds the loop closed.
def test_loop_ends_after_a_look(path: Path, fault: Fault, *, torture: bool) -> None:
    """A look that was cancelled just before the store closed upsets no thread."""
    row = fault("A8", "loop ended by asyncio.run after a look was cancelled")
    rounds = 200 if torture else 40
    history, done = run(script(LOOK_CANCELLED, path, rounds), 10 * PATIENCE)
    assert done.returncode == 0, done.stderr
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(rounds - 1)
    died = figures(done.stdout, "died")
    row.note(f"{sum(died):.0f} threads died of it")
    assert died == [0], done.stderr


FORKS = """
    import multiprocessing
    forking = multiprocessing.get_context("fork")

    def refused(use):
        try:
            use()
        except (StoreClosedError, StoreUnavailableError) as exc:
            assert "fork" in str(exc), exc
            return 1
        return 0

    def step(call):  # what it does before it would wait
        try:
            call.send(None)
        finally:
            call.close()

    def child(store):
        count = refused(lambda: step(store.check_and_mark("of-a-child")))
        count += refused(lambda: step(store.is_seen("k")))
        count += refused(lambda: SeenStore(path))
        try:
            step(store.aclose())
        except StopIteration:
            count += 1
        say("refused", count)
        os._exit(7)

    def by_hand(store):
        pid = os.fork()
        if not pid:
            child(store)
        deadline = time.monotonic() + 60
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, "the child hangs"
            time.sleep(0.001)

    def by_module(store):
        process = forking.Process(target=child, args=[store])
        process.start()
        process.join(60)
        return process.exitcode

    async def main():
        async with AsyncSeenStore(path, purge_interval=None) as store:
            await mark(store, "k")
            for number in range(rounds):
                under_way = asyncio.create_task(mark(store, f"meanwhile-{number}"))
                await asyncio.sleep(0)
                code = by_module(store) if number % 2 else by_hand(store)
                assert code == 7, code
                await under_way
                await mark(store, f"after-{number}")
    asyncio.run(main())
"""


def test_forked_child_is_refused(path: Path, fault: Fault, *, torture: bool) -> None:
    """A forked child is refused at once, in every verb; the parent continues."""
    row = fault("A10", "forks amid a mark, by os.fork and by multiprocessing")
    rounds = 50 if torture else 10
    words = script(FORKS, path, rounds, *NO_FORK_WARNING)
    history, done = run(words, 10 * PATIENCE)
    assert done.returncode == 0, done.stderr
    refused = figures(done.stdout, "refused")
    keys, intact = stored(path)
    row.add(history, keys, intact=intact)
    row.passed(rounds - 1)
    row.note(f"{sum(refused):,.0f} of {4 * rounds:,} calls in children refused or void")
    assert refused == [4] * rounds
    assert len(history.keys("new")) == 1 + 2 * rounds


# Runs the child in a task that SIGTERM cancels, as services do.
TERMINABLE = """
import asyncio, runpy, signal, sys

child = runpy.run_path(sys.argv[1])

async def main():
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    await child["main"](sys.argv[2], *map(int, sys.argv[3:]))

try:
    asyncio.run(main())
except asyncio.CancelledError:
    sys.exit(143)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_signalled_process_keeps_its_marks(
    path: Path, fault: Fault, sent: signal.Signals, *, torture: bool
) -> None:
    """A process ends on a signal; its acknowledged marks are stored."""
    row = fault("A11", f"{sent.name} amid marks")
    rng, slowest = random.Random(SEED), 0.0
    for number in range(50 if torture else 3):
        words = command(path, first=number * 100_000, count=100_000, at_once=8)
        if sent == signal.SIGTERM:
            words = [words[0], "-c", TERMINABLE, *words[1:]]
        history, took, code = end(words, sent, rng.uniform(0, 0.05))
        slowest = max(slowest, took)
        assert code == (-sent if sent == signal.SIGINT else 143)
        keys, intact = stored(path)
        mine = {key for key in keys if int(key) // 100_000 == number}
        row.add(history, mine, intact=intact)
    row.note(f"it ended in {slowest * 1_000:,.0f} ms at most")


def heed_signals() -> None:
    """Undo that a shell without job control lets its background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(
    words: list[str], sent: signal.Signals, after: float
) -> tuple[History, float, int]:
    """Start a child, send it a signal, and see it end; say how long that took."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=heed_signals,  # noqa: PLW1509 - it takes no lock
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        time.sleep(after)
        started = time.monotonic()
        child.send_signal(sent)
        too_late = threading.Timer(PATIENCE, child.kill)
        too_late.start()
        history = History().read(child.stdout.read().splitlines())
        code = child.wait()
        too_late.cancel()
        return history, time.monotonic() - started, code
