"""One operation on many keys has the results of the single ones, on every backend."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, OnAbandoned, Record, SeenStoreConfig
from catalyst_seen.backends._for_each import Expansion
from catalyst_seen.backends.base import Backend, Selection, SupportsForEach
from catalyst_seen.backends.memory import MemoryBackend
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
    Renew,
)

from ..support.clock import NOON, Clock
from ..support.targets import Target

KEYS = ["a", "b", "c", "d", "e", "f", "ä☃", "x" * 200]
TTLS = (None, 3.0, 3.0, 10.0)
POLICIES: tuple[OnAbandoned, ...] = ("retry", "hold", "drop")
STEPS = 60

Make = Callable[[random.Random, str], Operation[Any]]

REPEATED: list[Make] = [
    lambda _, name: IsSeen(name, ""),
    lambda rng, name: CheckAndMark(name, "", rng.choice(TTLS), note(rng)),
    lambda rng, name: Mark(name, "", rng.choice(TTLS), instant(rng), note(rng)),
    lambda rng, name: Refresh(name, "", rng.choice(TTLS)),
    lambda rng, name: Acquire(
        name, "", "", 4.0, rng.choice(TTLS), rng.choice(POLICIES), note(rng)
    ),
    lambda rng, name: Confirm(name, "", "", rng.choice(TTLS), note(rng)),
    lambda rng, name: Release(name, "", "", rng.choice((0.0, 2.0)), 5.0),
    lambda rng, name: Renew(name, "", "", 4.0, 5.0, rng.choice(POLICIES)),
    lambda _, name: Forget(name, ""),
]


def note(rng: random.Random) -> str | None:
    """Most operations have no note."""
    return rng.choice((None, None, None, "", "text", "other"))


def instant(rng: random.Random) -> float | None:
    """Some marks are of an earlier instant."""
    return rng.choice((None, None, NOON + rng.randrange(10)))


class Tokens:
    """A new token for each claim, and one of the last ones of its key to end it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._issued: dict[str, list[str]] = {}
        self._numbers = itertools.count()

    def of(self, operation: Operation[Any], keys: list[str]) -> list[str] | None:
        """Return one for each key, if the operation has tokens."""
        if not hasattr(operation, "token"):
            return None
        return [self._one(key, is_new=type(operation) is Acquire) for key in keys]

    def _one(self, key: str, *, is_new: bool) -> str:
        issued = self._issued.setdefault(key, ["nobody's"])
        if is_new:
            issued.append(f"token {next(self._numbers)}")
            return issued[-1]
        return self._rng.choice(issued[-3:])


def batch(rng: random.Random, tokens: Tokens) -> Iterator[Operation[Any]]:
    """Yield operations on many keys, and on one, that meet in their keys."""
    for _ in range(rng.randint(1, 3)):
        operation = rng.choice(REPEATED)(rng, rng.choice(("", "feed")))
        if rng.random() < 0.2:
            keys = rng.choices(KEYS, k=rng.randint(1, 9))
        else:
            keys = rng.sample(KEYS, k=rng.randint(1, 6))
        each = ForEach.of(operation, keys, tokens.of(operation, keys))
        yield from each.singles()[:2] if rng.random() < 0.3 else [each]


async def applied(
    backend: Backend, operations: list[Operation[Any]]
) -> tuple[list[Any], list[Any]]:
    """Execute a batch as the engine does; return its results, and what is known."""
    kept = backend.for_each if isinstance(backend, SupportsForEach) else ()
    expanded = Expansion(operations, kept)
    result = await backend.apply(expanded.operations, sample_version=False)
    regrouped = expanded.regroup_batch(result, backend.now())
    return regrouped.results, regrouped.rows


async def records(backend: Any) -> list[Record]:
    """Return everything that a backend has."""
    found: list[Record] = []
    cursor = None
    while True:
        page = await backend.records(Selection(), limit=1_000, cursor=cursor)
        found += page.records
        if page.cursor is None:
            return sorted(found, key=lambda one: (one.namespace, one.key))
        cursor = page.cursor


def check_summary(found: object, expected: object) -> None:
    """Whatever a backend says of a whole listing is true, until it expires."""
    if not isinstance(found, AllSeen):
        return
    assert isinstance(expected, AllSeen)
    ends = [
        math.inf if one.expires_at is None else one.expires_at
        for one in (found, expected)
    ]
    assert ends[0] <= ends[1]
    if found.first_seen is not None:
        assert found[1:] == expected[1:]


@pytest.mark.parametrize("seed", range(8))
async def test_random_batches(target: Target, clock: Clock, seed: int) -> None:
    """Random batches leave and return what the reference backend does, one by one.

    Their keys repeat, are claimed, released, held and expired, and have notes.
    """
    rng = random.Random(seed)
    tokens = Tokens(rng)
    reference = MemoryBackend(SeenStoreConfig(clock=clock))
    await reference.open()
    async with AsyncSeenStore(target.config(purge_interval=None)) as store:
        backend = store._lifecycle.backend
        for _ in range(STEPS):
            operations = list(batch(rng, tokens))
            results, rows = await applied(backend, operations)
            expected, known = await applied(reference, operations)
            assert results == expected, operations
            for found, summary in zip(rows, known, strict=True):
                check_summary(found, summary)
            assert await records(backend) == await records(reference), operations
            clock.advance(rng.choice((0.0, 0.5, 1.0, 2.5)))
    await reference.aclose()


async def test_more_keys_than_a_statement_takes(target: Target, clock: Clock) -> None:
    """Lists of thousands of keys are divided below, and their results are in order."""
    keys = [str(number) for number in range(5_000)]
    marked = keys[::7]
    async with AsyncSeenStore(target.config(purge_interval=None)) as store:
        await store.mark_many(marked)
        fresh = [key for key in keys if int(key) % 7]
        assert await store.filter_new(keys) == fresh
        clock.advance(1)
        assert await store.refresh(keys) == len(marked)
        claims = await store.claim_many(keys[:2_100])
        assert [claim.key for claim in claims if not claim] == marked[:300]
        owned = [claim for claim in claims if claim]
        assert len({claim.token for claim in owned}) == len(owned)
        assert await store.confirm_many(owned) == [True] * len(owned)
        sightings = await store.check_and_mark_many(keys)
        assert [one.key for one in sightings if one] == [
            key for key in fresh if int(key) >= 2_100
        ]
        last = [one.last_seen - one.first_seen for one in sightings]
        assert last == [0 if int(key) % 7 else 1 for key in keys]
        assert await store.count() == len(keys)
