"""Lost replies of PostgreSQL, and the retries that follow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    OutcomeUnknownError,
    Sighting,
    StoreUnavailableError,
    Verdict,
)

from ...support.lossy import Lossy, check_nothing_is_undone, lossy
from ...support.postgres_stores import at, connected, places_log, until_blocked
from ...support.servers import Postgres
from ...support.targets import Places, Target
from ...support.waiting import waits_for_the_rest_only


@pytest.fixture
async def way(places: Places) -> AsyncIterator[Lossy]:
    """A proxy to the server that can lose replies."""
    async with lossy(places.postgres.port) as made:
        yield made


def through(
    place: Target, way: Lossy, user: str = "postgres", **settings: object
) -> AsyncSeenStore:
    """Return a store that connects through the proxy."""
    url = re.sub(
        r"//.*:\d+/", f"//{user}@127.0.0.1:{way.port}/", str(place.settings.url)
    )
    return at(place, url=url, **settings)


class TestLostAnswers:
    """Replies that are lost after the server applied the request."""

    async def test_single_call_has_its_first_result(
        self, place: Target, way: Lossy
    ) -> None:
        """A call whose reply was lost has the result of its first attempt."""
        async with through(place, way) as store:
            await (await store.claim("claimed again")).release()
            await (await store.claim("marked again")).release()
            answers: list[Sighting | Claim] = []
            for call, key in (
                (store.check_and_mark, "marked"),
                (store.claim, "claimed"),
                (store.check_and_mark, "marked again"),
                (store.claim, "claimed again"),
            ):
                way.lose = 1
                answers.append(await call(key))
                assert way.lose == 0
            assert [(one.verdict.value, one.attempt) for one in answers] == [
                ("new", 0), ("new", 1), ("retry", 1), ("retry", 2),
            ]  # fmt: skip
            claimed = answers[1]
            assert isinstance(claimed, Claim)
            way.lose = 1
            await claimed.confirm()
            way.lose = 1
            assert await store.is_seen("claimed")
            assert way.lose == 0

    async def test_repeated_keys_have_first_results(
        self, place: Target, way: Lossy
    ) -> None:
        """The same holds for a batch with repeated keys."""
        async with through(place, way) as store:
            assert not all(await store.check_and_mark_many(["x", "x"]))
            for lose in (1, 2):
                await store.check_and_mark(f"before {lose}")
                way.lose = lose
                sightings = await store.check_and_mark_many(
                    [f"a{lose}", f"b{lose}", f"a{lose}"]
                )
                assert way.lose == 0
                assert list(map(bool, sightings)) == [True, True, False]

    async def test_lost_commit_reply_keeps_results(
        self, place: Target, way: Lossy
    ) -> None:
        """Repeated keys have the results of the attempt that was committed."""
        async with through(place, way) as store:
            await store.mark_seen("before")
            way.lose_if = b"COMMIT\0"
            sightings = await store.check_and_mark_many(["a", "b", "a"])
            assert way.lose_if == b""
            assert list(map(bool, sightings)) == [True, True, False]
            way.lose_if = b"COMMIT\0"
            _, first, forgotten, second = await asyncio.gather(
                store.is_seen("sent alone"), store.check_and_mark("c"),
                store.forget("c"), store.check_and_mark("c"),
                return_exceptions=True,
            )  # fmt: skip
            assert way.lose_if == b""
            assert bool(first) is bool(second) is True
            assert isinstance(forgotten, OutcomeUnknownError)
            assert await store.is_seen("c")

    async def test_retried_forget_keeps_what_came_between(
        self, place: Target, way: Lossy
    ) -> None:
        """A forget or resolve whose reply was lost undoes nothing that came since."""
        async with through(place, way) as store, at(place) as other:
            await check_nothing_is_undone(way, store, other)

    @pytest.mark.parametrize("verb", ["forget", "resolve"])
    async def test_ambiguous_retry_is_outcome_unknown(
        self, place: Target, way: Lossy, verb: str
    ) -> None:
        """Forget and resolve cannot recognise their first attempt, and raise."""
        async with through(place, way) as store:
            await store.mark_seen("forget")
            await store.claim("resolve", lease=0.01, on_abandoned="hold")
            await asyncio.sleep(0.05)
            calls: dict[str, Callable[[str], Awaitable[bool]]] = {
                "forget": store.forget,
                "resolve": partial(store.resolve, handled=True),
            }
            await calls[verb]("prepares the statement")
            way.lose = 1
            with pytest.raises(OutcomeUnknownError, match=f"{verb}.*nobody knows"):
                await calls[verb](verb)
            assert way.lose == 0
            assert await store.is_seen(verb) is (verb == "resolve")

    async def test_lost_release_reply_releases_once(
        self, place: Target, way: Lossy
    ) -> None:
        """A release whose reply was lost is retried, and is one release."""
        async with through(place, way) as store:
            claim = await store.claim("k")
            way.lose = 1
            assert await claim.release()
            assert way.lose == 0
            again = await store.claim("k")
            assert (again.verdict, again.attempt) == (Verdict.RETRY, 2)

    async def test_lost_purge_reply_invents_no_count(
        self, place: Target, way: Lossy
    ) -> None:
        """A purge whose reply was lost raises instead of returning a wrong count."""
        async with through(place, way) as store:
            assert await store.purge_expired() == 0
            await store.mark_many(["a", "b"], ttl=0.001)
            await asyncio.sleep(0.01)
            way.lose = 1
            with pytest.raises(OutcomeUnknownError, match="how many rows"):
                await store.purge_expired()
            assert await store.purge_expired() == 0


class TestUnreachableAfterwards:
    """Requests that were sent once, and whose retries fail."""

    async def test_unreachable_after_one_attempt(
        self, place: Target, way: Lossy
    ) -> None:
        """After one attempt and no later connection, the outcome is unknown."""
        async with through(place, way, timeout=2) as store:
            await store.check_and_mark("prepares the statement")
            way.lose, way.refuse = 1, 1_000
            with pytest.raises(OutcomeUnknownError):
                await store.check_and_mark("k")
            way.refuse = 0
            assert not await store.check_and_mark("k")

    async def test_refused_retry_is_outcome_unknown(
        self, place: Target, way: Lossy
    ) -> None:
        """After one attempt, a refused retry is OutcomeUnknownError."""
        async with poller(place) as user, through(place, way, user) as store:
            for call, key, verdict in (
                (store.check_and_mark, "m", Verdict.DUPLICATE),
                (store.claim, "c", Verdict.IN_FLIGHT),
            ):
                await call("prepares the statement")
                await limit(place, user, 0)
                way.lose = 1
                with pytest.raises(OutcomeUnknownError, match="too many connections"):
                    await call(key)
                assert way.lose == 0
                await limit(place, user, -1)
                assert (await call(key)).verdict is verdict

    async def test_refused_unsent_call_is_unavailable(
        self, place: Target, way: Lossy
    ) -> None:
        """A call that was refused and never sent is not OutcomeUnknownError."""
        async with poller(place) as user, through(place, way, user) as store:
            way.lose = 1
            assert not await store.is_seen("a read loses the connection")
            await limit(place, user, 0)
            way.lose = 1
            assert not await store.is_seen("a read loses the connection")
            with pytest.raises(StoreUnavailableError, match="too many") as caught:
                await store.check_and_mark("k")
            assert not isinstance(caught.value, OutcomeUnknownError)
            await limit(place, user, -1)
            assert await store.check_and_mark("k")

    async def test_stalled_server_is_bounded_by_timeout(self) -> None:
        """A server that stops responding is waited for until the timeout."""
        with Postgres() as server:
            async with at(server, timeout=2) as store:
                await store.check_and_mark("prepares the statement")
                server.pause()
                async with asyncio.timeout(60):
                    with pytest.raises(OutcomeUnknownError):
                        await store.check_and_mark("k")
                server.resume()
                assert not await store.check_and_mark("k")

    async def test_call_that_waited_before_waits_for_the_rest_only(self) -> None:
        """A batch gets what its calls have left of the timeout, and no new one."""
        with Postgres() as server:
            async with at(server, timeout=600) as store:
                await waits_for_the_rest_only(store, server)


@asynccontextmanager
async def poller(place: Target) -> AsyncIterator[str]:
    """Create a role that may create a schema, and whose connections can be limited."""
    async with connected(place.settings.url) as other:
        await other.execute(
            "CREATE ROLE kept_out LOGIN; GRANT ALL ON DATABASE postgres TO kept_out"
        )
        try:
            yield "kept_out"
        finally:
            await other.execute("DROP OWNED BY kept_out CASCADE; DROP ROLE kept_out")


async def limit(place: Target, user: str, connections: int) -> None:
    """Limit the connections of a role."""
    async with connected(place.settings.url) as other:
        await other.execute(f"ALTER ROLE {user} CONNECTION LIMIT {connections}")


class TestInterrupted:
    """Attempts that end before they have an effect."""

    @pytest.mark.parametrize("tag", [b"BEGIN\0", b"SET\0"])
    async def test_disconnect_between_statements_retries(
        self, place: Target, way: Lossy, tag: bytes
    ) -> None:
        """A connection lost between statements is replaced; the batch is retried."""
        async with through(place, way) as store:
            await store.mark_seen("before")
            way.end_after = tag
            sightings = await store.check_and_mark_many(["a", "b", "a"])
            assert way.end_after == b""
            assert list(map(bool, sightings)) == [True, True, False]

    async def test_connection_terminated_in_lock_retries(self, place: Target) -> None:
        """A connection that is terminated in a lock wait is replaced, and retried."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            claim = await store.claim("k")
            async with other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                confirming = asyncio.ensure_future(claim.confirm())
                await until_blocked(other)
                ended = await other.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"
                )
                assert len(ended) == 1
                await until_blocked(other)
                assert not confirming.done()
            await confirming
            assert await store.is_seen("k")

    async def test_deadlock_victim_is_retried(self, place: Target) -> None:
        """A deadlock with another program is retried."""
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=20) as store, connected(place.settings.url) as own:
            claims = await store.claim_many(["a", "b"])
            async with own.transaction():
                await own.execute("SET LOCAL deadlock_timeout = '60s'")
                await own.execute(f"SELECT 1 FROM {table} WHERE key = 'b' FOR UPDATE")
                confirming = asyncio.ensure_future(store.confirm_many(claims))
                await until_blocked(own)
                await own.execute(f"SELECT 1 FROM {table} WHERE key = 'a' FOR UPDATE")
            assert await confirming == [True, True]

    async def test_deadlock_leaves_no_ambiguity(self, place: Target) -> None:
        """A deadlock rolls back, so that a retried forget is not ambiguous."""
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=20) as store, connected(place.settings.url) as own:
            await store.mark_many(["a", "b"])
            async with own.transaction():
                await own.execute("SET LOCAL deadlock_timeout = '60s'")
                await own.execute(f"SELECT 1 FROM {table} WHERE key = 'b' FOR UPDATE")
                forgetting = asyncio.gather(
                    store.is_seen("before"), *(store.forget(key) for key in "abc")
                )
                await until_blocked(own)
                await own.execute(f"DELETE FROM {table} WHERE key IN ('a', 'b')")
            assert await forgetting == [False] * 4
        assert "deadlock" in places_log(place)
