"""Group H: Redis and PostgreSQL that are killed, stand still, forget or swell.

What only one of them can do is in ``test_redis*.py`` and ``test_postgres*.py``: H1, H2,
H4, H5, H7, H8. H6 is in ``test_leases.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    Verdict,
)

from ..support.targets import SERVERS, Places
from .harness.checker import History, Outcome
from .harness.report import Fault

if TYPE_CHECKING:
    from ..support.servers import Postgres, Valkey

    Server = Postgres | Valkey

pytestmark = pytest.mark.skipif(not SERVERS, reason="the extras are not installed")

SOON = 10.0
TASKS = 20
AOF = {"appendonly": "yes", "appendfsync": "always"}
"""With ``everysec``, one that is killed while its disk is busy loses last writes."""


def make(kind: str, **options: str) -> Server:
    """Make a server of a test's own; PostgreSQL keeps what it has acknowledged."""
    from ..support.servers import Postgres, Valkey

    if kind == "postgres":
        return Postgres(durable=True, **options)
    return Valkey(**options)


@pytest.fixture(params=["valkey", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Start a server of this test's own, which writes to its disk."""
    options = AOF if request.param == "valkey" else {}
    with make(request.param, **options) as made:
        yield made


def is_postgres(server: Server) -> bool:
    """Is it PostgreSQL? Else it is Valkey."""
    return server.url.startswith("postgresql")


def kind_of(server: Server) -> str:
    """Name it."""
    return "PostgreSQL" if is_postgres(server) else "Valkey"


def at(server: Server, **settings: object) -> AsyncSeenStore:
    """A store on a server, without a purge or a memory."""
    config = {
        "purge_interval": None,
        "recent_staleness": 0,
        "timeout": SOON,
        **settings,
    }
    return AsyncSeenStore(SeenStoreConfig(url=server.url, **config))  # type: ignore[arg-type]


def left_in_the_loop() -> list[str]:
    """What stores have under way in this loop."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if "catalyst" in name]


class Marks:
    """Many tasks that mark keys of their own, until it is over."""

    def __init__(self, store: AsyncSeenStore, name: str, least: int = 0) -> None:
        self.history = History()
        self.is_over = asyncio.Event()
        self._store, self._name, self._least = store, name, least

    async def run(self) -> None:
        """Let them mark, each as many as it has to at least."""
        await asyncio.gather(*map(self._mark, range(TASKS)))

    async def _mark(self, task: int) -> None:
        number = 0
        while number < self._least or not self.is_over.is_set():
            key = f"{self._name}-{task}-{number}"
            outcome: Outcome
            started = time.monotonic()
            try:
                outcome = "new" if await self._store.check_and_mark(key) else "dup"
            except OutcomeUnknownError:
                outcome = "unknown"
            except StoreUnavailableError:
                outcome = "fail"
            self.history.tell(key, outcome, time.monotonic() - started)
            number += 1


async def test_killed_and_restarted(
    server: Server, fault: Fault, *, torture: bool
) -> None:
    """Marks go on when it is back; none that was acknowledged is lost."""
    number = "H9" if is_postgres(server) else "H5"
    kills = 30 if torture else 3
    row = fault(number, f"{kind_of(server)} killed and started again under load")
    async with at(server, timeout=20) as store:
        marks = Marks(store, "k", least=60 if is_postgres(server) else 200)

        async def disturb() -> None:
            for _ in range(kills):
                await asyncio.sleep(random.uniform(0.05, 0.1))
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            marks.is_over.set()

        await asyncio.gather(disturb(), marks.run())
        asked = sorted({key for key, _ in marks.history.told})
        unseen = {*await store.filter_new(asked)}
        new, unknown = marks.history.keys("new"), marks.history.keys("unknown")
        assert not [one for one in marks.history.told if one[0] in unseen]
    row.add(marks.history, {*asked} - unseen, intact=True)
    row.note(f"killed {kills} times")
    assert {*asked} == new | unknown
    assert is_postgres(server) or not unknown


async def test_server_gone_beyond_the_timeout(server: Server, fault: Fault) -> None:
    """A server gone beyond the timeout is unavailable; later the store works again."""
    row = fault("H9", f"{kind_of(server)} gone for longer than the timeout")
    async with at(server, timeout=2) as store:
        assert await store.check_and_mark("before")
        server.kill()
        begun = time.monotonic()
        with pytest.raises(StoreError, match=r"tried for 2"):  # was it sent before?
            await store.check_and_mark("k")
        with pytest.raises(StoreUnavailableError):
            await store.claim("k")
        assert not await store.is_seen("before")
        row.seconds = time.monotonic() - begun
        server.start()
        assert not await store.check_and_mark("before")
        assert await store.check_and_mark("k")
    row.passed()


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_close_without_it(server: Server, how: str, fault: Fault) -> None:
    """A store whose server is gone closes within five seconds, calls under way."""
    row = fault("H9", f"{kind_of(server)}, {how}: the store closes all the same")
    store = at(server, timeout=200)
    await store.open()
    await store.mark_seen("k")
    getattr(server, how)()
    calls = [asyncio.create_task(store.check_and_mark(f"{one}")) for one in range(3)]
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    control = asyncio.create_task(asyncio.sleep(20))
    async with asyncio.timeout(100):
        await store.aclose()
        row.seconds = time.monotonic() - begun
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert not control.done()
    control.cancel()
    await asyncio.wait({control})
    assert left_in_the_loop() == []
    for answer in answers:
        assert isinstance(answer, StoreClosedError | StoreUnavailableError)
    server.resume() if how == "pause" else server.start()
    row.passed()


PERSISTENCE: dict[str, tuple[str, dict[str, str], bool]] = {
    "appendfsync always": ("valkey", AOF, False),
    "appendfsync everysec": ("valkey", {**AOF, "appendfsync": "everysec"}, True),
    "save 1 1, no AOF": ("valkey", {"save": "1 1"}, True),
    "nothing on disk": ("valkey", {}, True),
    "synchronous_commit on": ("postgres", {"synchronous_commit": "on"}, False),
    "synchronous_commit off": ("postgres", {"synchronous_commit": "off"}, True),
}


@pytest.mark.parametrize("mode", PERSISTENCE)
async def test_killed_by_persistence(mode: str, fault: Fault, *, torture: bool) -> None:
    """What a server that is killed may lose is what its mode of writing says.

    With ``everysec`` that is nothing, as long as the disk is not slower than a second.
    """
    kind, options, may_lose = PERSISTENCE[mode]
    row = fault("H3", f"kill -9 of {kind}, {mode}", may_lose=may_lose)
    with make(kind, **options) as server:
        async with at(server, timeout=20) as store:
            for number in range(20 if torture else 1):
                marks = Marks(store, str(number))
                running = asyncio.create_task(marks.run())
                await asyncio.sleep(random.uniform(0.1, 0.3))
                marks.is_over.set()
                server.kill()
                server.start()
                await running
                seen = await seen_of(store, marks.history)
                row.add(marks.history, seen, intact=True)


async def test_schema_survives(fault: Fault, *, torture: bool) -> None:
    """A server that may lose the newest marks does not lose the table of a store."""
    row = fault("H3", "kill -9 of postgres at once after opening, commit off")
    with make("postgres", synchronous_commit="off") as server:
        for number in range(10 if torture else 1):
            async with at(server, timeout=20, schema=f"s{number}") as store:
                # Fails until creating a schema waits for the disk whatever is set.
                server.kill()
                server.start()
                assert await store.check_and_mark("k")
            row.passed()


async def seen_of(store: AsyncSeenStore, history: History) -> set[str]:
    """Ask which of the keys that were marked are there."""
    asked = [key for key, _ in history.told]
    return {*asked} - {*await store.filter_new(asked)}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("hours", [-1, 1])
async def test_clock_of_the_client(
    places: Places,
    path: Path,
    name: str,
    hours: int,
    fault: Fault,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client whose clock is an hour off changes nothing."""
    row = fault("G4", f"a client's clock is {hours:+} h off, {name}")
    with places.target(name, path) as target:
        config = target.config(purge_interval=None)
        true = time.time
        monkeypatch.setattr(time, "time", lambda: true() + 3_600 * hours)
        wrong = AsyncSeenStore(config, ttl=60)
        async with wrong, AsyncSeenStore(config, ttl=60) as right:
            await wrong.mark_seen("k")
            record = await right.get("k")
            assert record is not None
            assert abs(record.last_seen - true()) < 60
            assert not await right.check_and_mark("k")
            claim = await wrong.claim("c", lease=30)
            assert 20 < claim.remaining() <= 30
            assert (await right.claim("c")).verdict is Verdict.IN_FLIGHT
            assert await wrong.purge_expired() == 0
            await claim.confirm()
            assert await right.is_seen("c")
    row.passed()


async def test_bloat(fault: Fault, *, torture: bool) -> None:
    """With autovacuum as the manual has it, the table stops growing at the first turn.

    In each turn as many keys are marked as in the one before, expire and are purged.
    """
    turns, keys = (4, 100_000) if torture else (2, 4_000)
    row = fault("H10", f"PostgreSQL, {turns} x {keys:,} marks that expire")
    sizes: list[int] = []
    with make("postgres", autovacuum_naptime="1s") as server:
        async with at(server, timeout=30) as store:
            await ask(
                server,
                "ALTER TABLE catalyst_seen.seen SET (autovacuum_vacuum_scale_factor"
                " = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05)",
            )
            for turn in range(turns):
                names = (f"{turn}-{one}" for one in range(keys))
                await store.mark_many(names, ttl=0.01)
                sizes.append((await store.stats()).file_bytes)
                if turn < turns - 1:
                    assert await store.purge_expired() == keys
                    await until_vacuumed(server, store)
    shown = ", ".join(f"{size / 1e6:.1f}" for size in sizes)
    row.note(f"table and indexes after each: {shown} MB")
    assert sizes[-1] < 1.5 * sizes[0]
    row.passed(turns)


async def until_vacuumed(server: Server, store: AsyncSeenStore) -> None:
    """Wait until autovacuum has removed what a purge has left."""
    vacuumed = (
        "SELECT coalesce(last_autovacuum > '{}', false) AND n_dead_tup = 0"
        " FROM pg_stat_user_tables WHERE relname = 'seen'"
    )
    [[(now,)]] = await ask(server, "SELECT now()")
    async with asyncio.timeout(90):
        while await ask(server, vacuumed.format(now)) != [[(True,)]]:
            await store.is_seen("k")  # at the next statement a connection tells
            await asyncio.sleep(0.2)


async def ask(server: Server, statement: str) -> list[list[tuple[object, ...]]]:
    """Ask PostgreSQL itself."""
    from ..support.servers import Postgres

    assert isinstance(server, Postgres)
    return await asyncio.to_thread(server.execute, statement)
