"""``Transfer``: clocks, what changes meanwhile, and one process at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    LeaseLostError,
    SeenStoreConfig,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.transfer import MARKER, Contents, Difference, Transfer, count

from ..support.clock import DAY, Clock

HOUR = 3_600.0


class Pair:
    """Two empty stores in memory, each with a clock of its own."""

    def __init__(self) -> None:
        self.clocks = Clock(), Clock()
        self.backends = [
            MemoryBackend(SeenStoreConfig(clock=clock, purge_interval=None))
            for clock in self.clocks
        ]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[AsyncSeenStore, AsyncSeenStore]]:
        """Open both."""
        async with AsyncExitStack() as stack:
            source, target = [
                await stack.enter_async_context(AsyncSeenStore(one, ttl=DAY))
                for one in self.backends
            ]
            yield source, target


@pytest.fixture
def pair() -> Pair:
    """Two empty stores."""
    return Pair()


@pytest.mark.parametrize("ahead", [-HOUR, 0.0, HOUR])
async def test_leases_keep_what_is_left(pair: Pair, ahead: float) -> None:
    """A lease and a delay end after the same time, by the clock of each database."""
    pair.clocks[1].advance(ahead)
    async with pair.opened() as (source, target):
        await source.claim("claimed", lease=60)
        released = await source.claim("released")
        await released.release(delay=60)
        given_back = await source.claim("given back")
        await given_back.release()
        transfer = Transfer(source, target)
        async with transfer.under_way():
            assert (await transfer.copy()).changed == 3
            assert (await transfer.complete()).changed == 0
        for clock in pair.clocks:
            clock.advance(59)
        claims = [await target.claim(key) for key in ("claimed", "released")]
        assert [one.verdict for one in claims] == [Verdict.IN_FLIGHT] * 2
        assert (await target.claim("given back")).attempt == 2
        for clock in pair.clocks:
            clock.advance(2)
        claims = [await target.claim(key) for key in ("claimed", "released")]
        assert [one.attempt for one in claims] == [2, 2]


@pytest.mark.parametrize("ahead", [-HOUR, 0.6, HOUR])
async def test_clocks_are_estimated(pair: Pair, ahead: float) -> None:
    """An estimate of the clocks that is a little different finds no difference."""
    pair.clocks[1].advance(ahead)
    async with pair.opened() as (source, target):
        await source.claim("claimed", lease=600)
        for expected in (1, 0):
            transfer = Transfer(source, target)
            async with transfer.under_way():
                assert (await transfer.copy()).changed == expected
                for _ in range(2):
                    pair.clocks[1].advance(0.3)
                    assert (await transfer.copy()).changed == 0


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
async def test_other_instants_stay(pair: Pair, ahead: float) -> None:
    """When a key was marked, and expires, is the same; what has expired stays."""
    pair.clocks[1].advance(ahead)
    async with pair.opened() as (source, target):
        await source.mark_seen("kept")
        await source.mark_seen("soon", ttl=HOUR / 2)
        transfer = Transfer(source, target)
        async with transfer.under_way():
            await transfer.complete()
        assert await target.get("kept") == await source.get("kept")
        soon = await target.get("soon")
        assert (soon is None) == (ahead > 0)


async def test_ends_meanwhile_are_no_difference(pair: Pair) -> None:
    """A key that expires between two readings is neither copied nor counted."""
    async with pair.opened() as (source, target):
        await source.mark_seen("short", ttl=60)
        transfer = Transfer(source, target)
        async with transfer.under_way():
            await transfer.copy()
            pair.clocks[0].advance(58)
            pair.clocks[1].advance(62)
            assert (await transfer.complete()).changed == 0


async def test_changes_during_the_last_pass(pair: Pair) -> None:
    """A move during which a program writes is not complete; nothing is lost.

    It can go on later.
    """
    async with pair.opened() as (source, target):
        await source.mark_seen("a")

        def write(_: int) -> None:
            pair.backends[0]._rows["", f"late {len(late)}"] = row
            late.append(1)

        late: list[int] = []
        row = pair.backends[0]._rows["", "a"]
        transfer = Transfer(source, target, write)
        async with transfer.under_way() as is_continued:
            assert not is_continued
            assert (await transfer.complete()).changed > 0
        assert await target.namespaces() == ["", MARKER]
        transfer = Transfer(source, target)
        async with transfer.under_way() as is_continued:
            assert is_continued
            assert (await transfer.complete()).changed == 0
        assert await target.namespaces() == [""]
        assert await target.count() == await source.count() == len(late) + 1


async def test_what_is_gone_is_removed(pair: Pair) -> None:
    """Rows and sources that the source has lost since are lost by the target too."""
    async with pair.opened() as (source, target):
        await source.mark_seen("a")
        feed = source.namespace("feed", first="all")
        await feed.observe(["b", "c"])
        transfer = Transfer(source, target)
        async with transfer.under_way():
            await transfer.copy()
            await source.forget("a")
            await source.clear(namespace="feed")
            await transfer.complete()
        assert await target.namespaces() == []
        assert await target.namespace("feed").source() is None


async def test_the_owner_can_confirm(pair: Pair) -> None:
    """A claim in flight goes with its token: only its owner can confirm it there."""
    async with pair.opened() as (source, target):
        await source.claim("a", lease=60)
        transfer = Transfer(source, target)
        async with transfer.under_way():
            await transfer.complete()
        assert pair.backends[1]._rows["", "a"] == pair.backends[0]._rows["", "a"]


async def test_one_at_a_time(pair: Pair) -> None:
    """While a move is under way another is refused, until it has ended."""
    async with pair.opened() as (source, target):
        await source.mark_seen("a")
        first = Transfer(source, target)
        async with first.under_way():
            mark = [one async for one in target.records(namespace=MARKER)]
            assert [one.state for one in mark] == ["claimed"]
            with pytest.raises(ConfigurationError, match="not ended"):
                await Transfer(target, source).check()
        second = Transfer(source, target)
        async with second.under_way() as is_continued:
            assert is_continued
            await second.complete()
        with pytest.raises(ConfigurationError, match="that move has ended"):
            await Transfer(source, target).check()


async def test_the_mark_is_claimed_until_it_is_gone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process can go on with a complete move, even one that waits for its mark."""
    async with pair.opened() as (source, target):
        await source.mark_seen("a")
        verdicts = []
        for name in ("clear", "forget"):
            remove = getattr(target, name)

            async def late(
                *keys: str, remove: Any = remove, namespace: str = MARKER
            ) -> object:
                (mark,) = [one async for one in target.records(namespace=MARKER)]
                claim = await target.claim(mark.key, namespace=MARKER)
                verdicts.append(claim.verdict)
                return await remove(*keys, namespace=namespace)

            monkeypatch.setattr(target, name, late)
        transfer = Transfer(source, target)
        async with transfer.under_way():
            await transfer.complete()
        assert verdicts == [Verdict.IN_FLIGHT]
        assert await target.namespaces() == [""]


@pytest.mark.parametrize("is_complete", [True, False])
async def test_another_process_goes_on(pair: Pair, is_complete: bool) -> None:
    """A process that lost its lease leaves the mark to its new owner."""
    async with pair.opened() as (source, target):
        await source.mark_seen("a")
        transfer = Transfer(source, target)

        async def stand_still() -> None:
            async with transfer.under_way():
                if is_complete:
                    await transfer.complete()
                pair.clocks[1].advance(11)
                (mark,) = [one async for one in target.records(namespace=MARKER)]
                assert await target.claim(mark.key, namespace=MARKER, lease=60)

        with pytest.raises(StoreUnavailableError, match="goes on with this move"):
            await stand_still()
        (mark,) = [one async for one in target.records(namespace=MARKER)]
        assert mark.state == "claimed"


@pytest.mark.parametrize("is_back", [True, False])
async def test_target_that_gives_no_answer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, is_back: bool
) -> None:
    """A lease that was lost because the target was away is no other process's."""
    async with pair.opened() as (source, target):
        await source.mark_seen("a")
        transfer = Transfer(source, target)
        away = StoreUnavailableError("the target", "it is away", "start it")

        async def fail(*_: object, **__: object) -> Any:
            raise away

        async def lose_it() -> None:
            async with transfer.under_way():
                monkeypatch.setattr(pair.backends[1], "apply", fail)
                pair.clocks[1].advance(11)
                if is_back:
                    monkeypatch.undo()
                raise LeaseLostError("target", MARKER, 1, "its lease is over")

        told = "no answer for the 10 seconds" if is_back else "it is away"
        with pytest.raises(StoreUnavailableError, match=told):
            await lose_it()
        monkeypatch.undo()
        async with transfer.under_way() as is_continued:
            assert is_continued


async def test_passes_of_the_completion(pair: Pair) -> None:
    """A completion tells what its first pass has changed, beside what its last has."""
    async with pair.opened() as (source, target):
        await source.mark_many([*"abc"])
        transfer = Transfer(source, target)
        async with transfer.under_way():
            done = await transfer.complete()
            assert (done.earlier, done.changed) == (3, 0)
            done = await transfer.complete()
            assert (done.earlier, done.changed) == (0, 0)


async def test_rows_that_only_the_target_had(pair: Pair) -> None:
    """A copy counts the rows that it has removed, and a comparison those it found."""
    async with pair.opened() as (source, target):
        await source.mark_many([*"abc"])
        transfer = Transfer(source, target)
        async with transfer.under_way():
            assert (await transfer.copy()).extra == 0
            await target.mark_many([*"xy"])
            assert (await transfer.compare(lambda _: None)).extra == 2
            done = await transfer.complete()
            assert (done.earlier, done.changed, done.extra) == (2, 0, 2)
            assert await target.count() == 3


async def test_a_wait_is_told(pair: Pair) -> None:
    """Who waits for the lease of another process is told so, and nobody else."""
    told: list[int] = []

    def tell() -> None:
        told.append(1)
        pair.clocks[1].advance(61)

    async with pair.opened() as (source, target):
        await source.mark_seen("a")
        for _ in range(2):
            async with Transfer(source, target, wait=tell).under_way():
                assert not told
        (mark,) = [one async for one in target.records(namespace=MARKER)]
        assert await target.claim(mark.key, namespace=MARKER, lease=60)
        async with Transfer(source, target, wait=tell).under_way() as is_continued:
            assert is_continued
            assert told == [1]


async def test_compare(pair: Pair) -> None:
    """A comparison reports differences, not what differs by less than a second."""
    async with pair.opened() as (source, target):
        await source.mark_seen("about")
        await source.mark_seen("missing")
        await source.mark_seen("changed", note="one")
        await target.mark_seen("extra", namespace="other")
        pair.clocks[1].advance(0.4)
        await target.mark_seen("about")
        await target.mark_seen("changed", note="another")
        found: list[Difference] = []
        done = await Transfer(source, target).compare(found.append)
        assert sorted(found) == [
            ("", "changed", "note"),
            ("", "missing", "missing"),
            ("other", "extra", "extra"),
        ]
        assert (done.changed, done.extra) == (3, 1)


async def test_count(pair: Pair) -> None:
    """A count has the number of keys in each state, of sources and of notes."""
    async with pair.opened() as (source, _):
        await source.mark_seen("a", note="a note")
        await source.claim("b", lease=60)
        await source.namespace("feed", first="all").observe(["c", "d"])
        found = await count(source)
        assert isinstance(found, Contents)
        assert found.keys == 4
        assert {name: n for name, n in found.as_dict().items() if n} == {
            "seen": 1, "claimed": 1, "pending": 2, "sources": 1, "notes": 1,
        }  # fmt: skip
