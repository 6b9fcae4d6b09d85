"""What Redis stores of observed keys, against the reference, call by call."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from catalyst_seen import AsyncSeenStore, Claim, FeedRules, SeenStoreConfig
from catalyst_seen._tuning import Tuning
from catalyst_seen._types import ON_ABANDONED, OnAbandoned
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.operations import Listed, Row
from catalyst_seen.backends.redis.values import decode, encode

from ...contract.listings.support import Entry, observe
from ...support.clock import DAY, Clock
from ...support.redis_stores import Values, redis_key, to
from .conftest import Server

KEYS = [f"k{number}" for number in range(9)]
STEPS = 90


@pytest.fixture
def server(one_or_cluster: Server) -> Server:
    """One server, or a cluster, which is empty."""
    return one_or_cluster


@pytest.fixture
async def pair(
    server: Server, clock: Clock
) -> AsyncIterator[tuple[AsyncSeenStore, AsyncSeenStore]]:
    """A namespace on an empty server, and the same on the reference."""
    rules = FeedRules(changes=2, absent_for=3 * DAY, kept_keys=4, kept_listings=1)
    async with AsyncExitStack() as stack:
        one = to(server, feeds=rules, tuning=Tuning(server_time=clock))
        config = SeenStoreConfig(clock=clock, purge_interval=None, feeds=rules)
        other = AsyncSeenStore(MemoryBackend(config))
        views = []
        for store in (one, other):
            await stack.enter_async_context(store)
            views.append(store.namespace("feed", ttl=DAY))
        yield views[0], views[1]


def listing(chance: random.Random) -> list[Entry]:
    """Return entries of which some are edited, renamed, or under other keys."""
    entries = []
    for key in chance.sample(KEYS, chance.randrange(1, len(KEYS))):
        number = chance.randrange(4)
        link = chance.choice([None, f"/{number}"])
        text = chance.choice([None, "1", "2", "3"])
        other = chance.choice([(), (), (chance.choice(KEYS),), (f"old {key}",)])
        note = chance.choice([None, "note", "n" * 400])
        name = chance.choice([key, key, f"old {key}"])
        other = tuple(one for one in other if one != name)
        entries.append(Entry(name, note, link, f"t{number}", text, other))
    return entries


class Steps:
    """The same random calls on two stores."""

    def __init__(self, pair: tuple[AsyncSeenStore, AsyncSeenStore], seed: int) -> None:
        self.pair = pair
        self.chance = random.Random(seed)
        self.claims: list[tuple[Claim, Claim]] = []
        self.seen: set[str] = set()

    async def both(self, call: Callable[[AsyncSeenStore], object]) -> None:
        """Call both, and compare the results."""
        one, other = [await call(store) for store in self.pair]  # type: ignore[misc]
        assert one == other

    async def step(self, clock: Clock) -> None:
        """Make one call on both."""
        chance = self.chance
        clock.advance(chance.choice([0, 1, 3_600, DAY]))
        await self.pair[1].purge_expired()  # Redis keeps nothing that has expired
        kind = chance.choice([*"ooooccccrrhnmkfeuxq"])
        self.seen.add(kind)
        key = chance.choice([*KEYS, *(f"old {key}" for key in KEYS)])
        if kind == "o":
            entries = listing(chance)

            async def observed(store: AsyncSeenStore) -> tuple[object, ...]:
                seen = await observe(store, entries, validators="v")
                return (
                    seen.new, seen.changed, seen.replaced, seen.baseline, seen.pending,
                )  # fmt: skip

            await self.both(observed)
        elif kind == "c":
            policy: OnAbandoned = chance.choice(ON_ABANDONED)
            one, other = [
                await store.claim(key, lease=60, on_abandoned=policy)
                for store in self.pair
            ]
            assert (one.verdict, one.attempt, one.note) == (
                other.verdict, other.attempt, other.note,
            )  # fmt: skip
            if one:
                self.claims.append((one, other))
        elif kind in "rhn" and self.claims:
            claims = self.claims.pop(chance.randrange(len(self.claims)))
            done = [await self._end(claim, kind) for claim in claims]
            assert done[0] == done[1]
        else:
            await self._verb(kind, key)

    async def _end(self, claim: Claim, kind: str) -> object:
        try:
            if kind == "r":
                return await claim.release(delay=5, error="it failed" * 50)
            return await (claim.hold("refused") if kind == "h" else claim.confirm())
        except Exception as exc:  # noqa: BLE001 - both raise the same
            return type(exc)

    async def _verb(self, kind: str, key: str) -> None:
        calls: dict[str, Callable[[AsyncSeenStore], object]] = {
            "m": lambda store: store.mark_seen(key, note="marked"),
            "k": lambda store: store.check_and_mark(key),
            "f": lambda store: store.forget(key),
            "e": lambda store: store.refresh([key]),
            "u": lambda store: store.resolve(key, handled=len(key) % 2 == 0),
            "x": lambda store: store.cleanup_old_entries(3),
            "q": lambda store: store.observed_unchanged("v"),
        }
        if kind in calls:
            is_counted = kind != "x"  # a row that has expired is none on Redis

            async def call(store: AsyncSeenStore) -> object:
                result = await calls[kind](store)  # type: ignore[misc]
                return result if is_counted else None

            await self.both(call)

    async def compare(self) -> None:
        """Compare everything that the stores know."""

        async def known(store: AsyncSeenStore) -> object:
            records = [record async for record in store.records()]
            return sorted(records, key=lambda record: record.key)

        await self.both(known)
        await self.both(lambda store: store.source())
        await self.both(lambda store: store.count())
        for state in ("pending", "released", "held", "claimed"):

            async def keys(store: AsyncSeenStore, state: str = state) -> object:
                found = store.records(state=state)  # type: ignore[arg-type]
                return {record.key async for record in found}

            await self.both(keys)

        async def waiting(store: AsyncSeenStore) -> object:
            backend = store._lifecycle.backend
            return await backend.waiting("feed", after=-1, limit=5)  # type: ignore[attr-defined]

        await self.both(waiting)


@pytest.mark.parametrize("seed", range(3))
async def test_same_as_the_reference(
    server: Server,
    pair: tuple[AsyncSeenStore, AsyncSeenStore],
    clock: Clock,
    seed: int,
) -> None:
    """Whatever is called, the results, the records and the indexes agree."""
    steps = Steps(pair, seed)
    observed = 0
    with Values(server) as values:
        for number in range(STEPS):
            await steps.step(clock)
            if number % 3 == 0:
                await steps.compare()
            observed = max(observed, values.check_indexes())
    assert observed > 3
    assert len(steps.seen) > 8


async def test_long_texts(server: Server) -> None:
    """A row keeps texts that are longer than what is read of a value at first."""
    words = [f"word {number}" for number in range(900)]
    async with to(server) as store:
        feed = store.namespace("feed")
        await feed.observe(["z"], key=str)
        items = ["a", "b"]
        for _ in range(2):
            await feed.observe(
                items,
                key=str,
                aliases=lambda _: words,
                note=lambda key: key * 60_000,
                digest=str,
            )
        claim = await feed.claim("a")
        assert claim.note == "a" * 60_000
        await claim.release(error="\N{SNOWMAN}" * 600)
        record = await feed.get("a")
        assert record is not None
        assert (record.error, record.note) == ("\N{SNOWMAN}" * 500, "a" * 60_000)
        async with feed.claim("a") as again:
            assert again.note == "a" * 60_000
        with Values(server) as values:
            stored = decode(values.get(redis_key("a", "feed")) or b"", None)
            assert stored.row is not None
            assert stored.row.listed is not None
            assert len((stored.row.listed.alias or "").split()) == len(words)


async def test_error_of_an_ordinary_key(server: Server) -> None:
    """A key without a source keeps its last error until it is handled, and expires."""
    async with to(server) as store:
        for namespace in ("", "any"):
            view = store.namespace(namespace)
            claim = await view.claim("k", note="text", ttl=60)
            assert await claim.release(error="no route")
            record = await view.get("k")
            assert record is not None
            assert (record.state, record.error, record.note) == (
                "released", "no route", "text",
            )  # fmt: skip
            assert record.expires_at is not None
            with Values(server) as values:
                assert values.all()[redis_key("k", namespace).encode()][1] > 0
            again = await view.claim("k", ttl=60)
            assert (await view.get("k")) is not None
            await again.hold()
            (held,) = await view.held()
            assert held.error == "no route"
            await view.resolve("k", handled=True)
            record = await view.get("k")
            assert record is not None
            assert (record.error, record.note) == (None, "text")


@pytest.mark.parametrize(
    "row",
    [
        Row(1.5, 1.5, None, listed=Listed()),
        Row(1.5, 2.5, None, "token", 3, listed=Listed(None, 7, 86_400.5, 9.25)),
        Row(1.5, 2.5, None, "t" * 255, 0, 9.5, listed=Listed(2**40, 1, digest="0:d")),
        Row(
            1.5, 2.5, None, "token", 65_535, 9.5, "hold",
            listed=Listed(5, 2**32 - 1, None, None, "a b", None), error="\xe9" * 500,
        ),
    ],
)  # fmt: skip
def test_values_are_read_as_written(row: Row) -> None:
    """A row is the same after it was encoded."""
    stored = decode(encode(row) + b"note", None)
    assert stored.row == row
    assert stored.note_at == len(encode(row)) + 1
