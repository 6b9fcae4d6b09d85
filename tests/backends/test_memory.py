"""The reference backend as authors and tests of other programs use it.

What every backend promises, the tests of the contract run on it as well: it is one of
``TARGETS``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    ConfigurationError,
    LeaseLostError,
    Record,
    SeenStore,
    SeenStoreConfig,
)
from catalyst_seen.backends import (
    Acquire,
    Backend,
    CheckAndMark,
    Mark,
    SupportsBackup,
    SupportsInspection,
    SupportsMaintenance,
    SupportsPurge,
    SupportsReadAside,
    SupportsTransactions,
)
from catalyst_seen.backends.memory import MemoryBackend

from ..support.clock import NOON, Clock


async def test_store_on_the_backend() -> None:
    """A store takes the backend where it takes a path, and needs no file."""
    async with AsyncSeenStore(MemoryBackend()) as store:
        assert await store.check_and_mark("k")
        assert not await store.check_and_mark("k")
        assert store.location == "memory"


def test_blocking_store_on_the_backend() -> None:
    """So does the blocking store."""
    with SeenStore(MemoryBackend()) as store:
        with store.claim("k") as claim:
            assert claim
        assert store.is_seen("k")


def test_capabilities_are_inspection_and_purge() -> None:
    """A dict can be inspected and purged; the rest is for databases."""
    backend = MemoryBackend()
    assert isinstance(backend, Backend)
    assert isinstance(backend, SupportsInspection)
    assert isinstance(backend, SupportsPurge)
    others = SupportsBackup, SupportsMaintenance, SupportsReadAside
    assert not isinstance(backend, (*others, SupportsTransactions))


async def test_check_finds_no_problem() -> None:
    """A check finds no problem, and says what keeps the keys."""
    async with AsyncSeenStore(MemoryBackend()) as store:
        report = await store.check(full=True)
    assert report
    assert report.is_full
    assert str(report) == "memory (Python dict), full check\nall is well"


async def test_backup_is_refused(tmp_path: Path) -> None:
    """A backup is refused: there is no file."""
    async with AsyncSeenStore(MemoryBackend()) as store:
        with pytest.raises(ConfigurationError):
            await store.backup(tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


async def test_rows_outlive_a_store() -> None:
    """The rows outlive a store, as in a test that restarts its program."""
    backend = MemoryBackend()
    async with AsyncSeenStore(backend) as store:
        await store.mark_seen("k")
        assert await store.claim("claimed")
    async with AsyncSeenStore(backend) as store:
        assert await store.is_seen("k")
        assert (await store.claim("claimed")).verdict == "in_flight"
    async with AsyncSeenStore(MemoryBackend()) as store:
        assert not await store.is_seen("k")


async def test_time_is_monotonic_while_open(clock: Clock) -> None:
    """Time never runs backwards while a store is open; the next one begins anew."""
    backend = MemoryBackend(SeenStoreConfig(clock=clock))
    async with AsyncSeenStore(backend) as store:
        await store.mark_seen("a")
        clock.advance(-60)
        await store.mark_seen("a")
        assert backend.now() == NOON
    async with AsyncSeenStore(backend) as store:
        await store.mark_seen("b")
        then = NOON - 60
        assert await store.get("b") == Record(
            key="b",
            namespace="",
            state="seen",
            first_seen=then,
            last_seen=then,
            expires_at=then + 7 * 86_400,
        )


async def test_failed_batch_changes_nothing() -> None:
    """An operation that fails takes the whole batch with it."""
    backend = MemoryBackend()
    await backend.open()
    bad: Any = Mark("", "bad", ttl="a day")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await backend.apply([Mark("", "k", ttl=1), bad], sample_version=False)
    assert await backend.count(None) == {}


async def test_cleanup_spares_a_live_lease(clock: Clock) -> None:
    """A cleanup spares a live lease, until the very instant of its end."""
    backend = MemoryBackend(SeenStoreConfig(clock=clock))
    claim = Acquire("", "k", "token", lease=9, ttl=9, on_abandoned="retry")
    await backend.apply([claim], sample_version=False)
    removed = []
    for seconds in (8, 1):
        clock.advance(seconds)
        page = await backend.cleanup(1, namespace=None, limit=9, cursor=None)
        removed.append(page.removed)
    assert removed == [0, 1]


async def test_purge_in_pages(clock: Clock) -> None:
    """A removal examines so many rows, and continues after the last one of them."""
    backend = MemoryBackend(SeenStoreConfig(clock=clock))
    marks = [Mark(name, str(number), ttl=1) for name in "ab" for number in range(5)]
    await backend.apply(marks, sample_version=False)
    await backend.apply([CheckAndMark("a", "live", ttl=9)], sample_version=False)
    claim = Acquire("a", "0", "token", lease=9, ttl=9, on_abandoned="retry")
    clock.advance(1)
    await backend.apply([claim], sample_version=False)
    removed: list[int] = []
    cursor = None
    while cursor is not None or not removed:
        page = await backend.purge(
            namespace="a", limit=2, cursor=cursor, lock_timeout=None
        )
        removed.append(page.removed)
        cursor = page.cursor
    assert removed == [1, 2, 1, 0]
    assert await backend.count("b") == {}
    assert (await backend.stats("a")).claimed == 1
    page = await backend.purge(namespace=None, limit=99, cursor=None, lock_timeout=None)
    assert (page.removed, page.cursor) == (5, None)


KEYS = st.sampled_from("abc")
NAMESPACES = st.sampled_from(["", "n"])
SOME = st.lists(KEYS, max_size=4)
TTLS = st.sampled_from([None, 1.0, 5.0])
POLICIES = st.sampled_from(["retry", "hold", "drop"])
ONE = st.fixed_dictionaries({"key": KEYS, "namespace": NAMESPACES})
MANY = st.fixed_dictionaries({"keys": SOME, "namespace": NAMESPACES})
TIMES = st.fixed_dictionaries({"ttl": TTLS})
LEASES = st.fixed_dictionaries(
    {"lease": st.sampled_from([1.0, 5.0]), "on_abandoned": POLICIES, "ttl": TTLS}
)
SCOPE = st.fixed_dictionaries({"namespace": st.none() | NAMESPACES})


def joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Draw the arguments of a call from several dictionaries."""
    return st.tuples(*parts).map(
        lambda drawn: {k: v for d in drawn for k, v in d.items()}
    )


CALLS: dict[str, st.SearchStrategy[Any]] = {
    "is_seen": ONE,
    "get": ONE,
    "forget": ONE,
    "mark_seen": joined(
        ONE, TIMES, st.fixed_dictionaries({"ts": st.sampled_from([None, NOON - 2])})
    ),
    "check_and_mark": joined(ONE, TIMES),
    "check_and_mark_many": joined(MANY, TIMES),
    "claim": joined(ONE, LEASES),
    "claim_many": joined(MANY, LEASES),
    "resolve": joined(ONE, st.fixed_dictionaries({"handled": st.booleans()})),
    "purge_expired": SCOPE,
    "cleanup_old_entries": st.fixed_dictionaries(
        {"days_old": st.sampled_from([0.0, 2 / 86_400])}
    ),
    "count": SCOPE,
    "held": SCOPE,
}
STEPS = st.one_of(
    *(st.tuples(st.just(verb), drawn) for verb, drawn in CALLS.items()),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1.0, 5.0, -3.0])),
    st.tuples(st.sampled_from(["confirm", "release", "renew"]), st.integers(0, 9)),
)


class Player:
    """Plays steps on one store; claims are known by their number."""

    def __init__(self, store: AsyncSeenStore) -> None:
        self.store = store
        self.claims: list[Claim] = []

    async def play(self, verb: str, drawn: Any) -> object:
        """Do one step, and return what can be compared."""
        if verb in {"confirm", "release", "renew"}:
            return await self.settle(verb, drawn)
        call: Callable[..., Awaitable[Any]] = getattr(self.store, verb)
        made = await call(**drawn)
        if not verb.startswith("claim"):
            return made
        claims = made if isinstance(made, list) else [made]
        self.claims += claims
        return [
            (one.verdict, one.attempt, one.lease_until, one.retry_after)
            for one in claims
        ]

    async def settle(self, verb: str, number: int) -> object:
        """End or renew one of the claims that were owned at some time."""
        owned = [claim for claim in self.claims if claim]
        if not owned:
            return None
        try:
            return await getattr(owned[number % len(owned)], verb)()
        except LeaseLostError as exc:
            return str(exc)

    async def rows(self) -> object:
        """Everything that the store says of its rows."""
        stats = await self.store.stats()
        keys = [(name, key) for name in ("", "n") for key in "abc"]
        records = [await self.store.get(key, namespace=name) for name, key in keys]
        same = replace(stats, engine="", batches=0, alarms=())  # a clock set back
        return records, await self.store.held(), same


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
async def test_results_equal_those_of_sqlite(steps: list[tuple[str, Any]]) -> None:
    """Whatever is done in whatever order, the dict and SQLite say and keep the same."""
    clock = Clock()
    config = SeenStoreConfig(":memory:", clock=clock, purge_interval=None)
    async with AsyncExitStack() as stack:
        players = [
            Player(await stack.enter_async_context(AsyncSeenStore(target, ttl=60)))
            for target in (config, MemoryBackend(config))
        ]
        for verb, drawn in steps:
            if verb == "advance":
                clock.advance(drawn)
                continue
            one, other = [await player.play(verb, drawn) for player in players]
            assert one == other, (verb, drawn)
            one, other = [await player.rows() for player in players]
            assert one == other, (verb, drawn)
