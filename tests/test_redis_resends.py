"""Answers of Redis that are lost, and calls that are sent again for it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._model import OnAbandoned

from .conftest import Fault
from .lossy import Lossy, lossy
from .servers import HOST, Valkey
from .test_redis import DURABLE, SOON, to

Call = Callable[[AsyncSeenStore], Awaitable[object]]


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A server of this test's own."""
    with Valkey(**DURABLE) as made:
        yield made


@pytest.fixture
async def way(server: Valkey) -> AsyncIterator[Lossy]:
    """A way to it, on which answers get lost."""
    async with lossy(server.port) as made:
        yield made


@asynccontextmanager
async def through(way: Lossy, patience: float = SOON) -> AsyncIterator[AsyncSeenStore]:
    """A store at the other end, without a purge or a memory."""
    config = SeenStoreConfig(
        url=f"redis://{HOST}:{way.port}",
        timeout=patience,
        purge_interval=None,
        recent_staleness=0,
    )
    async with AsyncSeenStore(config) as store:
        yield store


async def lost(way: Lossy) -> None:
    """Wait until the answer has been lost: before the call is sent again."""
    async with asyncio.timeout(60):
        while way.lose:
            await asyncio.sleep(0)


class TestOwnRetries:
    """A call that is sent again, for its answer did not come."""

    @pytest.mark.torture
    @pytest.mark.timeout(600)
    async def test_stalled(
        self, server: Valkey, fault: Fault, *, torture: bool
    ) -> None:
        """A server that stalls longer than its client waits calls nothing seen."""
        row = fault("H1", "Valkey stalled for 0.35 s, socket timeout 0.2 s")
        rounds, verdicts = 200 if torture else 10, Counter[str]()
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            for number in range(rounds):
                server.pause()
                asyncio.get_running_loop().call_later(0.35, server.resume)
                answers = await asyncio.gather(
                    *(store.check_and_mark(f"m{number}-{one}") for one in range(3)),
                    *(store.claim(f"c{number}-{one}") for one in range(3)),
                )
                verdicts.update(str(getattr(one, "verdict", one)) for one in answers)
            confirmed = await store.confirm_many([await store.claim("last", lease=60)])
            assert confirmed == [True]
        assert verdicts == {"new": 6 * rounds}
        row.passed(rounds)
        row.acknowledged = verdicts.total()
        row.note(f"own marks and claims called seen 0 of {6 * rounds:,}")

    async def test_retried_claim(self, server: Valkey) -> None:
        """What was a retry is one when it is sent again, with the same attempt."""
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            for key in ("marked", "claimed"):
                await (await store.claim(key)).release()
            server.pause()
            asyncio.get_running_loop().call_later(0.35, server.resume)
            sighting, claim = await asyncio.gather(
                store.check_and_mark("marked"), store.claim("claimed")
            )
            assert (sighting.verdict, sighting.attempt) == (Verdict.RETRY, 1)
            assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)

    async def test_cannot_tell(self, server: Valkey) -> None:
        """Who cannot know whether a first attempt was carried out is told so."""
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            await store.mark_many(["a", "b"])
            claim = await store.claim("c")
            server.pause()
            asyncio.get_running_loop().call_later(1, server.resume)
            forgotten, seen = await asyncio.gather(
                store.forget("a"), store.is_seen("b"), return_exceptions=True
            )
            assert isinstance(forgotten, OutcomeUnknownError)
            assert "forget" in str(forgotten)
            assert seen is True
            assert not await store.is_seen("a")
            server.pause()
            asyncio.get_running_loop().call_later(0.35, server.resume)
            await claim.confirm()


class TestLostAnswers:
    """What was carried out, and its answer did not come."""

    async def test_takes_back(self, way: Lossy) -> None:
        """Who cannot know whether it was he who took something away is told so."""
        async with through(way) as store:
            await store.mark_seen("a")
            assert await store.claim("b", lease=0.01, on_abandoned="hold")
            while not await store.held():
                await asyncio.sleep(0.005)
            calls: dict[str, Call] = {
                "forget": lambda store: store.forget("a"),
                "resolve": lambda store: store.resolve("b", handled=True),
            }
            for verb, call in calls.items():
                way.lose = 1
                with pytest.raises(OutcomeUnknownError, match=verb):
                    await call(store)
                assert not way.lose
            assert not await store.is_seen("a")
            assert await store.is_seen("b")

    async def test_release(self, way: Lossy) -> None:
        """A release that was done is; one that did nothing is not known."""
        async with through(way) as store:
            claim = await store.claim("k")
            way.lose = 1
            assert await claim.release()
            again = await store.claim("k")
            assert again.attempt == 2
            await store.forget("k")
            way.lose = 1
            with pytest.raises(OutcomeUnknownError, match="release"):
                await again.release()
            assert not way.lose

    async def test_gives(self, way: Lossy) -> None:
        """Whose mark, claim or confirmation it was, learns that it was his."""
        async with through(way) as store:
            way.lose = 1
            assert (await store.check_and_mark("m")).verdict is Verdict.NEW
            way.lose = 1
            claim = await store.claim("c")
            assert (claim.verdict, claim.attempt) == (Verdict.NEW, 1)
            way.lose = 1
            await claim.confirm()
            assert not way.lose
            assert (await store.check_and_mark("c")).verdict is Verdict.DUPLICATE

    async def test_order(self, way: Lossy) -> None:
        """What came in order in one batch is answered in order, sent twice or not."""
        async with through(way) as store:
            way.lose_if = b"$125\r\n"  # the answer to three operations
            _, first, forgotten, second = await asyncio.gather(
                store.is_seen("sent alone"),
                store.check_and_mark("k"),
                store.forget("k"),
                store.check_and_mark("k"),
            )
            assert not way.lose_if
            assert first.verdict is Verdict.NEW
            assert forgotten is True
            assert second.verdict is Verdict.NEW

    async def test_twice(self, way: Lossy) -> None:
        """Of two who ask for a key in one batch, one gets it, sent twice or not."""
        async with through(way) as store:
            way.lose_if = b"$86\r\n"  # the answer to two operations
            _, first, second = await asyncio.gather(
                store.is_seen("sent alone"),
                store.check_and_mark("k"),
                store.check_and_mark("k"),
            )
            assert not way.lose_if
            assert first.verdict is Verdict.NEW
            assert second.verdict is Verdict.DUPLICATE

    async def test_sent_once(self, way: Lossy) -> None:
        """What was sent once stays so, though the next attempts were not."""
        async with through(way, patience=0.4) as store:
            await store.mark_seen("a")
            way.lose = way.refuse = 1
            with pytest.raises(OutcomeUnknownError, match="forget"):
                await store.forget("a")
            assert not way.refuse
            way.lose, way.refuse = 1, 1_000
            with pytest.raises(OutcomeUnknownError, match="nobody knows"):
                await store.check_and_mark("k")
            way.refuse = 0
            assert not await store.check_and_mark("k")

    async def test_read(self, way: Lossy) -> None:
        """A read that was sent is not unknown: it has changed nothing."""
        async with through(way, patience=0.4) as store:
            await store.mark_seen("k")
            way.lose, way.refuse = 1, 1_000
            with pytest.raises(StoreUnavailableError) as caught:
                await store.get("k")
            assert not way.lose
            assert not isinstance(caught.value, OutcomeUnknownError)

    @pytest.mark.parametrize("policy", ["drop", "hold", "retry"])
    async def test_lease_is_over(self, way: Lossy, policy: OnAbandoned) -> None:
        """A claim whose lease ended before its caller was answered is still his."""
        async with through(way) as store:
            way.lose, way.refuse = 1, 1_000
            claiming = asyncio.create_task(
                store.claim("k", lease=0.3, on_abandoned=policy)
            )
            await lost(way)
            await asyncio.sleep(0.35)
            assert not claiming.done()
            accepted, way.refuse = time.time(), 0
            claim = await claiming
            assert (claim.verdict, claim.attempt) == (Verdict.NEW, 1)
            assert claim.lease_until is not None
            assert claim.lease_until > accepted


class TestRefusedAfterwards:
    """What was carried out, perhaps, and is refused when it is sent again."""

    async def test_mark(self, server: Valkey, way: Lossy) -> None:
        """Nobody says of a mark that was stored that it was not."""
        async with through(way) as store:
            with server.client() as client:
                way.lose = 1
                marking = asyncio.create_task(store.check_and_mark("k"))
                await lost(way)
                client.config_set("maxmemory", 1)
                with pytest.raises(OutcomeUnknownError, match="Raise maxmemory"):
                    await marking
                client.config_set("maxmemory", 0)
            assert not await store.check_and_mark("k")

    async def test_claim(self, server: Valkey, way: Lossy) -> None:
        """A claim of which its caller does not know is given back, if that is possible.

        The memory is there again when the store is told that it was full.
        """
        async with through(way) as store:
            with server.client() as client:
                way.lose = 1
                claiming = asyncio.create_task(store.claim("k", lease=60))
                await lost(way)
                client.config_set("maxmemory", 1)
                while "errorstat_OOM" not in client.info("errorstats"):
                    await asyncio.sleep(0)
                client.config_set("maxmemory", 0)
                with pytest.raises(OutcomeUnknownError, match="Raise maxmemory"):
                    await claiming
            assert (await store.claim("k")).verdict is Verdict.RETRY
