"""Retries to Redis after a lost reply."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStoreConfig,
    Sighting,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._types import OnAbandoned

from ...faults.harness.report import Fault
from ...support.lossy import Lossy, check_nothing_is_undone
from ...support.redis_stores import SOON, to
from ...support.servers import HOST, Valkey

Call = Callable[[AsyncSeenStore], Awaitable[object]]


@asynccontextmanager
async def through(way: Lossy, retry_for: float = SOON) -> AsyncIterator[AsyncSeenStore]:
    """Open a store behind the proxy; no purge, no cache."""
    config = SeenStoreConfig(
        url=f"redis://{HOST}:{way.port}",
        timeout=retry_for,
        purge_interval=None,
        recent_staleness=0,
    )
    async with AsyncSeenStore(config) as store:
        yield store


async def lost(way: Lossy) -> None:
    """Wait until the reply is lost, which is before the retry."""
    async with asyncio.timeout(60):
        while way.lose:
            await asyncio.sleep(0)


class TestStalledServer:
    """Retries after a stall of the server."""

    @pytest.mark.torture
    @pytest.mark.timeout(600)
    async def test_retry_recognises_its_own_mark(
        self, server: Valkey, fault: Fault, *, torture: bool
    ) -> None:
        """A retry after a stall reports no mark or claim of its own as seen."""
        row = fault("H1", "Valkey stalled for 0.35 s, socket timeout 0.2 s")
        rounds, verdicts = 200 if torture else 10, Counter[str]()
        async with to(
            server, "/0?socket_timeout=0.2&socket_connect_timeout=0.2"
        ) as store:
            for number in range(rounds):
                server.pause()
                asyncio.get_running_loop().call_later(0.35, server.resume)
                results = await asyncio.gather(
                    *(store.check_and_mark(f"m{number}-{one}") for one in range(3)),
                    *(store.claim(f"c{number}-{one}") for one in range(3)),
                )
                verdicts.update(str(getattr(one, "verdict", one)) for one in results)
            confirmed = await store.confirm_many([await store.claim("last", lease=60)])
            assert confirmed == [True]
        assert verdicts == {"new": 6 * rounds}
        row.passed(rounds)
        row.acknowledged = verdicts.total()
        row.note(f"own marks and claims called seen 0 of {6 * rounds:,}")

    async def test_retry_keeps_verdict_and_attempt(self, server: Valkey) -> None:
        """A retry after a stall reports RETRY with the same attempt number."""
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

    async def test_retried_forget_is_unknown(self, server: Valkey) -> None:
        """A forget retried after a stall is unknown; a confirm or a read is not."""
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


class TestLostReplies:
    """Calls that were applied, and whose reply was lost."""

    async def test_lost_reply_of_forget_and_resolve(self, way: Lossy) -> None:
        """A forget or a resolve whose reply is lost is unknown, and took effect."""
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

    async def test_lost_reply_of_release(self, way: Lossy) -> None:
        """A retried release that took effect succeeds; any other is unknown."""
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

    async def test_lost_reply_of_mark_claim_confirm(self, way: Lossy) -> None:
        """A mark, a claim and a confirm whose reply is lost succeed by the retry."""
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

    async def test_retried_batch_keeps_its_order(self, way: Lossy) -> None:
        """A batch whose reply is lost has the results of its first attempt.

        Only that of a forget is unknown, and the forget is not repeated.
        """
        async with through(way) as store:
            way.lose_if = b"$125\r\n"  # the reply to three operations
            _, first, forgotten, second = await asyncio.gather(
                store.is_seen("sent alone"),
                store.check_and_mark("k"),
                store.forget("k"),
                store.check_and_mark("k"),
                return_exceptions=True,
            )
            assert not way.lose_if
            assert isinstance(first, Sighting)
            assert first.verdict is Verdict.NEW
            assert isinstance(forgotten, OutcomeUnknownError)
            assert isinstance(second, Sighting)
            assert second.verdict is Verdict.NEW
            assert await store.is_seen("k")

    async def test_retried_forget_keeps_what_came_between(
        self, way: Lossy, server: Valkey
    ) -> None:
        """A forget or resolve whose reply was lost undoes nothing that came since."""
        async with through(way) as store, to(server) as other:
            await check_nothing_is_undone(way, store, other)

    async def test_retried_batch_has_one_winner(self, way: Lossy) -> None:
        """Of two calls for one key in a batch, one is NEW, even if it is retried."""
        async with through(way) as store:
            way.lose_if = b"$86\r\n"  # the reply to two operations
            _, first, second = await asyncio.gather(
                store.is_seen("sent alone"),
                store.check_and_mark("k"),
                store.check_and_mark("k"),
            )
            assert not way.lose_if
            assert first.verdict is Verdict.NEW
            assert second.verdict is Verdict.DUPLICATE

    async def test_later_refusals_keep_it_unknown(self, way: Lossy) -> None:
        """A change sent once stays unknown, although later attempts were not sent."""
        async with through(way, retry_for=0.4) as store:
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

    async def test_lost_read_is_not_unknown(self, way: Lossy) -> None:
        """A read that was sent is not unknown, because it changes nothing."""
        async with through(way, retry_for=0.4) as store:
            await store.mark_seen("k")
            way.lose, way.refuse = 1, 1_000
            with pytest.raises(StoreUnavailableError) as caught:
                await store.get("k")
            assert not way.lose
            assert not isinstance(caught.value, OutcomeUnknownError)

    @pytest.mark.parametrize("policy", ["drop", "hold", "retry"])
    async def test_claim_retried_after_its_lease(
        self, way: Lossy, policy: OnAbandoned
    ) -> None:
        """A claim whose lease ended before the retry still belongs to its caller."""
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


class TestRefusedRetries:
    """Calls that may have been applied, and whose retry is refused."""

    async def test_refused_retry_of_a_mark(self, server: Valkey, way: Lossy) -> None:
        """A mark whose retry is refused is unknown, because it may be stored."""
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

    async def test_refused_retry_of_a_claim(self, server: Valkey, way: Lossy) -> None:
        """A claim whose retry is refused is released, as soon as that is possible.

        The server has memory again when the error reaches the store.
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
