"""The statements of batches: each shape of them, and what they do."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from catalyst_seen import SeenStoreConfig
from catalyst_seen.backends._retry import ServerClock
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Hold,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
)
from catalyst_seen.backends.postgres.queries import read_batch, write_batch
from catalyst_seen.backends.postgres.shapes import COLUMNS, Shape
from catalyst_seen.backends.postgres.tables import Tables

from ...support.clock import Clock
from ...support.postgres_stores import at, connected
from ...support.targets import Target

LONGEST_SCHEMA = '"' + "x" * 63 + '"'
CACHEABLE = 15 * 1_024  # bytes, the default ``max_cacheable_statement_size`` of asyncpg


def shapes() -> list[Shape]:
    """Return the shapes of all batches."""
    flags = (False, True)
    return [
        Shape(
            verb, is_noted=noted, has_places=places, may_insert=inserts, has_error=error
        )
        for verb in COLUMNS
        for noted, places, inserts, error in itertools.product(flags, repeat=4)
    ]


async def test_every_statement_is_valid_and_cached(place: Target) -> None:
    """PostgreSQL accepts the statement of each shape, and asyncpg caches it."""
    async with at(place), connected(place.settings.url) as other:
        tables = Tables(f'"{place.settings.schema}"', ServerClock())
        for shape in shapes():
            for template in (read_batch(shape), write_batch(shape)):
                await other.prepare(tables.render(template))
                longest = Tables(LONGEST_SCHEMA, ServerClock()).render(template)
                assert len(longest) <= CACHEABLE


TOKENS = ["one", "two"]
NOTES = [None, None, "", "text", "other"]
ERRORS = [None, "refused", "late"]
TTLS = [None, 1.0, 60.0]
LEASES = [1.0, 60.0]

Made = Callable[[random.Random, str, str], Operation[object]]
MAKERS: list[Made] = [
    lambda _, name, key: IsSeen(name, key),
    lambda _, name, key: Get(name, key),
    lambda rng, name, key: Mark(
        name, key, rng.choice(TTLS), note=rng.choice(NOTES)
    ),
    lambda rng, name, key: CheckAndMark(
        name, key, rng.choice(TTLS), note=rng.choice(NOTES)
    ),
    lambda rng, name, key: Refresh(name, key, rng.choice(TTLS)),
    lambda _, name, key: Forget(name, key),
    lambda rng, name, key: Acquire(
        name, key, rng.choice(TOKENS), rng.choice(LEASES), rng.choice(TTLS),
        rng.choice(["retry", "hold", "drop"]), note=rng.choice(NOTES),
    ),
    lambda rng, name, key: Confirm(
        name, key, rng.choice(TOKENS), rng.choice(TTLS), note=rng.choice(NOTES)
    ),
    lambda rng, name, key: Renew(
        name, key, rng.choice(TOKENS), rng.choice(LEASES), rng.choice(TTLS),
        rng.choice(["retry", "hold", "drop"]),
    ),
    lambda rng, name, key: Release(
        name, key, rng.choice(TOKENS), rng.choice([0.0, 1.0]), rng.choice(TTLS),
        rng.choice(ERRORS), is_counted=rng.random() < 0.5,
    ),
    lambda rng, name, key: Hold(name, key, rng.choice(TOKENS), rng.choice(ERRORS)),
    lambda rng, name, key: Resolve(
        name, key, is_handled=rng.random() < 0.5, ttl=rng.choice(TTLS)
    ),
]  # fmt: skip


def batch(rng: random.Random) -> list[Operation[object]]:
    """Return a batch of one verb or several, and of one namespace or several."""
    makers = [rng.choice(MAKERS)] if rng.random() < 0.5 else MAKERS
    names = ["n"] if rng.random() < 0.5 else ["n", "", "m"]
    keys = rng.choices("abcd", k=rng.randrange(1, 7))
    if rng.random() < 0.5:
        keys = list(dict.fromkeys(keys))
    return [rng.choice(makers)(rng, rng.choice(names), key) for key in keys]


@pytest.mark.parametrize("seed", range(4))
async def test_batches_agree_with_the_state_machine(
    place: Target, clock: Clock, seed: int
) -> None:
    """Any sequence of batches has the results that the reference backend has."""
    rng = random.Random(seed)
    reference = MemoryBackend(SeenStoreConfig(clock=clock))
    await reference.open()
    async with at(place) as store:
        backend = store._lifecycle.backend
        for _ in range(150):
            operations = batch(rng)
            expected = await reference.apply(operations, sample_version=False)
            found = await backend.apply(operations, sample_version=False)
            assert found.results == expected.results, operations
            clock.advance(rng.choice([0, 0, 0.5, 1]))
        names = await store.namespaces()
        assert names == await reference.namespaces()
        assert await backend.count(None) == await reference.count(None)  # type: ignore[attr-defined]


async def test_repeated_release_is_uncounted_once(place: Target, clock: Clock) -> None:
    """A release that is sent again takes no second claim from the attempts."""
    release = Release("n", "k", "second", 0, None, is_counted=False)
    async with at(place) as store:
        backend = store._lifecycle.backend
        for token in ("first", "second"):
            claim = Acquire("n", "k", token, 60, None, "retry")
            await backend.apply([claim], sample_version=False)
            clock.advance(61)
        for _ in range(2):
            found = await backend.apply([release], sample_version=False)
            assert found.results == [True]
        record = await store.get("k", namespace="n")
        assert record is not None
        assert (record.state, record.attempt) == ("released", 1)
