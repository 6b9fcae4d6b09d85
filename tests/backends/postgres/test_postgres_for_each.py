"""One operation on many keys: as if it were one operation for each key, in order."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from catalyst_seen import Verdict
from catalyst_seen.backends._for_each import Expansion
from catalyst_seen.backends._retry import ServerClock
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    Confirm,
    ForEach,
    Forget,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
)
from catalyst_seen.backends.postgres.batch import Batch
from catalyst_seen.backends.postgres.tables import Tables

from ...support.clock import NOON, Clock
from ...support.postgres_stores import at, connected, named, until_blocked
from ...support.targets import Places, Target

KEYS = [*"abcdefgh"]
NOTES = [None, None, None, "", "text"]
TTLS = [None, 1.0, 60.0]


def with_tokens(operation: Operation[Any], keys: list[str]) -> ForEach[Any]:
    """Make one operation on many keys; each has a token of its own, if it needs one."""
    token = getattr(operation, "token", None)
    tokens = None if token is None else [f"{token} of {key}" for key in keys]
    return ForEach.of(operation, keys, tokens)


class Maker:
    """Makes random operations, whose claims have tokens of their own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._numbers = itertools.count()
        self._tokens = ["none"]
        self._makers: list[Callable[[str], Operation[Any]]] = [
            lambda name: IsSeen(name, ""),
            self._mark,
            lambda name: CheckAndMark(name, "", self._ttl(), self._note()),
            lambda name: Refresh(name, "", self._ttl()),
            self._acquire,
            lambda name: Confirm(name, "", self._token(), self._ttl(), self._note()),
        ]

    def each(self, *, repeats: bool) -> ForEach[Any]:
        """Make one of any operation on some keys."""
        name = self.rng.choice(["n", "n", "", "m"])
        size = self.rng.randrange(1, len(KEYS) + 1)
        keys = self.rng.choices(KEYS, k=size) if repeats else KEYS[:size]
        self.rng.shuffle(keys)
        return with_tokens(self.rng.choice(self._makers)(name), keys)

    def batch(self) -> list[Operation[Any]]:
        """Make a batch of some callers, of which some have a single key."""
        repeats = self.rng.random() < 0.4
        made: list[Operation[Any]] = []
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            each = self.each(repeats=repeats)
            made += each.singles() if self.rng.random() < 0.3 else [each]
        if self.rng.random() < 0.3:
            name, key = self.rng.choice(["n", ""]), self.rng.choice(KEYS)
            forget = Forget(name, key)
            token = f"{self._token()} of {key}"
            release = Release(name, key, token, 0.0, None)
            made.insert(0, self.rng.choice([forget, release]))
        return made

    def _mark(self, name: str) -> Mark:
        instant = self.rng.choice([None, None, NOON - 30, NOON + 5])
        return Mark(name, "", self._ttl(), instant, self._note())

    def _acquire(self, name: str) -> Acquire:
        token = f"token {next(self._numbers)}"
        self._tokens = [*self._tokens[-3:], token]
        lease, policy = self.rng.choice([1.0, 5.0]), self.rng.choice(POLICIES)
        return Acquire(name, "", token, lease, self._ttl(), policy, self._note())

    def _token(self) -> str:
        return self.rng.choice(self._tokens)

    def _ttl(self) -> float | None:
        return self.rng.choice(TTLS)

    def _note(self) -> str | None:
        return self.rng.choice(NOTES)


POLICIES: list[Any] = ["retry", "hold", "drop"]


@pytest.fixture
def pair(places: Places, tmp_path: Path) -> Iterator[tuple[Target, Target]]:
    """Two empty schemas."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(places.target("postgres", tmp_path)) for _ in range(2)
        )
        yield first, second


async def stored(connection: asyncpg.Connection, place: Target) -> list[Any]:
    """Return every row and note; the token of a mark is random."""
    schema = f'"{place.settings.schema}"'
    return [
        tuple(row)
        for row in await connection.fetch(
            f"""SELECT names.name, key, first_seen, last_seen, expires_at,
                CASE WHEN token LIKE 'token %' THEN token END, token IS NULL, attempt,
                lease_until, on_abandoned, has_detail,
                CASE WHEN has_detail THEN note END
            FROM {schema}.seen JOIN {schema}.namespace AS names ON id = namespace
            LEFT JOIN {schema}.detail USING (namespace, key)
            ORDER BY names.name, key"""
        )
    ]


def comparable(result: BatchResult) -> list[Any]:
    """Return what two executions of a batch have in common."""
    rows = [
        row._replace(token=None, note=None)
        if row is not None and not isinstance(row, AllSeen)
        else row
        for row in result.rows
    ]
    return [result.results, rows]


@pytest.mark.parametrize("seed", range(4))
async def test_for_each_is_its_single_operations(
    pair: tuple[Target, Target], clock: Clock, seed: int
) -> None:
    """Any sequence of batches has the results and rows of its single operations."""
    make = Maker(seed)
    whole, single = pair
    async with at(whole) as one, at(single) as two, connected(whole.settings.url) as db:
        for _ in range(120):
            operations = make.batch()
            expanded = Expansion(operations)
            found = await one._lifecycle.backend.apply(operations, sample_version=False)
            expected = expanded.regroup_batch(
                await two._lifecycle.backend.apply(
                    expanded.operations, sample_version=False
                ),
                clock(),
            )
            assert comparable(found) == comparable(expected), operations
            assert await stored(db, whole) == await stored(db, single), operations
            clock.advance(make.rng.choice([0, 0, 0.5, 1, 5]))


@pytest.mark.parametrize("repeats", [False, True])
async def test_retry_has_the_first_results(
    place: Target, clock: Clock, repeats: bool
) -> None:
    """Sightings and claims that are sent again have the results of the first attempt.

    A key that occurs twice is claimed once, although its token is there twice.
    """
    make = Maker(1)
    tables = Tables(f'"{place.settings.schema}"', ServerClock(clock))
    async with at(place), connected(place.settings.url) as db:
        for _ in range(150):
            batch = Batch([make.each(repeats=repeats)], tables, "here")
            async with db.transaction():
                first = await batch.execute(db, ServerClock())
            before = await stored(db, place)
            async with db.transaction():
                again = await batch.execute(db, ServerClock(), maybe_applied=True)
            if isinstance(batch._keys.single[0], CheckAndMark | Acquire | Confirm):
                assert again.results == first.results
                assert await stored(db, place) == before
            clock.advance(make.rng.choice([0, 0, 0.5, 1, 5]))


class Counting:
    """A connection that counts its statements."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.sent = 0
        self._connection = connection

    async def fetch(self, *args: Any, **kwargs: Any) -> Any:
        """Send a statement."""
        self.sent += 1
        return await self._connection.fetch(*args, **kwargs)


async def test_callers_share_a_statement(
    place: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distinct keys of several callers are one statement, and no key is expanded."""
    monkeypatch.setattr(ForEach, "singles", None)
    tables = Tables(f'"{place.settings.schema}"', ServerClock())
    operations: list[Operation[Any]] = [
        ForEach.of(CheckAndMark("n", "", 60), ["a", "b"]),
        CheckAndMark("n", "c", 60),
        ForEach.of(CheckAndMark("m", "", None), ["a", "b"]),
        ForEach.of(CheckAndMark("n", "", 5), ["d"]),
        ForEach.of(CheckAndMark("n", "", 5), []),
    ]
    async with at(place) as store, connected(place.settings.url) as other:
        connection: Any = Counting(other)
        batch = Batch(operations, tables, "here")
        assert batch.is_single_statement
        result = await batch.execute(connection, ServerClock())
        assert connection.sent == 1
        sightings: Any = result.results
        assert [one.key for each in sightings[:1] for one in each] == ["a", "b"]
        assert all(sightings[0]) and all(sightings[2]) and sightings[4] == []  # noqa: PT018
        assert await store.filter_new([*"abcde"], namespace="n") == ["e"]
        assert await store.filter_new([*"abc"], namespace="m") == ["c"]


async def test_listing_that_is_seen_is_cached(place: Target) -> None:
    """Listings that a call has left seen are answered by the cache."""
    async with at(place, recent_staleness=60) as store:
        for name, mark in (("a", store.check_and_mark_many), ("b", store.mark_many)):
            await mark(KEYS, namespace=name)
            hits = (await store.stats()).recent_hits
            assert await store.filter_new(KEYS, namespace=name) == []
            assert (await store.stats()).recent_hits == hits + len(KEYS)
        hits = (await store.stats()).recent_hits
        known = await store.check_and_mark_many(KEYS, namespace="a")
        assert [one.verdict for one in known] == [Verdict.DUPLICATE] * len(KEYS)
        assert (await store.stats()).recent_hits == hits + len(KEYS)


async def test_large_batch_in_statements(place: Target) -> None:
    """A call with more keys than a statement has its results in order."""
    keys = [f"{number * 7_919 % 5_000}" for number in range(2_500)]
    async with at(place) as store:
        assert all(await store.check_and_mark_many(keys[::2]))
        sightings = await store.check_and_mark_many(keys)
        assert [one.key for one in sightings] == keys
        assert [bool(one) for one in sightings] == [False, True] * 1_250


class TestOtherPrograms:
    """Keys that another transaction changes at the same time."""

    async def test_concurrent_inserts_win(self, place: Target) -> None:
        """The other keys of the call are marked or claimed, and these are not."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            backend, default = store._lifecycle.backend, await named(other, place)
            for key, operation in (
                ("b", CheckAndMark("", "", None)),
                ("c", Acquire("", "", "", 60, None, "retry")),
            ):
                async with other.transaction():
                    await other.execute(
                        f"INSERT INTO {table} VALUES ({default}, $1, 1, 1, NULL,"
                        " 'theirs', 1, 1e10, 'retry')",
                        key,
                    )
                    each = with_tokens(operation, [f"z{key}", key])
                    call = backend.apply([each], sample_version=False)
                    calling = asyncio.ensure_future(call)
                    await until_blocked(other)
                states: Any = (await calling).results[0]
                verdicts = [state.verdict for state in states]
                assert verdicts == [Verdict.NEW, Verdict.IN_FLIGHT]
                assert states[1].retry_after is not None

    async def test_claims_that_waited_return_latest_notes(self, place: Target) -> None:
        """Claims that waited for locks return the notes as they are then."""
        schema = f'"{place.settings.schema}"'
        async with at(place) as store, connected(place.settings.url) as other:
            for claim in await store.claim_many([*"abc"], note="old"):
                await claim.release()
            async with other.transaction():
                await other.execute(f"UPDATE {schema}.seen SET attempt = 5")
                await other.execute(f"UPDATE {schema}.detail SET note = key || ' new'")
                each = with_tokens(Acquire("", "", "", 60, None, "retry"), [*"cabd"])
                backend = store._lifecycle.backend
                calling = asyncio.ensure_future(
                    backend.apply([each], sample_version=False)
                )
                await until_blocked(other)
            states: Any = (await calling).results[0]
            assert [(state.attempt, state.note) for state in states] == [
                (6, "c new"), (6, "a new"), (6, "b new"), (1, None),
            ]  # fmt: skip
