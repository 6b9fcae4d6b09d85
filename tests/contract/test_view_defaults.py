"""The defaults of a view reach the database with every verb, on both twins."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, Verdict
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import ForEach, Operation

from ..support.backends import Batch, intercepted
from ..support.verbs import KEY_VERBS, LEASE_VERBS, TTL_VERBS, Verb

DEFAULT: Any = ...
OF_A_CLAIM = {"confirm", "confirm_many", "renew"}
"""Verbs whose defaults are those of their claim."""

BLOCKING: dict[str, Callable[[SeenStore], object]] = {
    "is_seen": lambda feed: feed.is_seen("k"),
    "mark_seen": lambda feed: feed.mark_seen("k"),
    "mark_many": lambda feed: feed.mark_many(["k"]),
    "check_and_mark": lambda feed: feed.check_and_mark("k"),
    "check_and_mark_many": lambda feed: feed.check_and_mark_many(["k"]),
    "refresh": lambda feed: feed.refresh(["k"]),
    "claim": lambda feed: feed.claim("k"),
    "claim_many": lambda feed: feed.claim_many(["k"]),
    "once": lambda feed: feed.once("k", int),
    "resolve": lambda feed: feed.resolve("k", handled=True),
    "filter_new": lambda feed: feed.filter_new(["k"]),
    "filter_new key": lambda feed: feed.filter_new([1], key=str),
    "forget": lambda feed: feed.forget("k"),
    "get": lambda feed: feed.get("k"),
}


@contextmanager
def executed(store: AsyncSeenStore) -> Iterator[list[Operation[object]]]:
    """Yield a list that grows by every operation that an open store sends."""
    sent: list[Operation[object]] = []

    async def record(
        operations: Batch, apply: Callable[[], Awaitable[BatchResult]]
    ) -> BatchResult:
        for one in operations:
            sent.extend(one.singles() if isinstance(one, ForEach) else [one])
        return await apply()

    with intercepted(store, record):
        yield sent


def values(operations: list[Operation[object]], name: str) -> set[object]:
    """Return the values of a field, of the operations that have it."""
    return {getattr(one, name) for one in operations if hasattr(one, name)}


@pytest.fixture
async def feed() -> AsyncIterator[AsyncSeenStore]:
    """A view with a namespace, a TTL and a lease of its own."""
    async with AsyncSeenStore(":memory:", purge_interval=None) as store:
        yield store.namespace("bbc", ttl=60, lease=5)


@pytest.mark.parametrize("verb", KEY_VERBS.values(), ids=KEY_VERBS)
async def test_namespace(feed: AsyncSeenStore, verb: Verb) -> None:
    """Every verb on keys uses the view's namespace."""
    with executed(feed) as sent:
        await verb(feed, "k")
    assert values(sent, "namespace") == {"bbc"}


@pytest.mark.parametrize("verb", sorted(TTL_VERBS.keys() - OF_A_CLAIM))
async def test_ttl(feed: AsyncSeenStore, verb: str) -> None:
    """Every verb that marks, or will mark, uses the view's TTL."""
    with executed(feed) as sent:
        await TTL_VERBS[verb](feed, DEFAULT)
    assert values(sent, "ttl") == {60.0}


@pytest.mark.parametrize("verb", sorted(LEASE_VERBS.keys() - OF_A_CLAIM))
async def test_lease(feed: AsyncSeenStore, verb: str) -> None:
    """Every verb that claims uses the view's lease."""
    with executed(feed) as sent:
        await LEASE_VERBS[verb](feed, DEFAULT)
    assert values(sent, "lease") == {5.0}


async def test_verbs_of_a_claim(feed: AsyncSeenStore) -> None:
    """A claim of the view is renewed, released and confirmed by the same defaults."""
    with executed(feed) as sent:
        async with feed.claim("k") as claim:
            await claim.renew()
            await claim.release()
        for claim in await feed.claim_many(["k"]):
            await claim.confirm()
        await feed.confirm_many(await feed.claim_many(["l"]))
    assert values(sent, "namespace") == {"bbc"}
    assert values(sent, "ttl") == {60.0}
    assert values(sent, "lease") == {5.0}


async def test_whole_namespaces() -> None:
    """Whoever counts, lists or removes rows through a view meets those of the view."""
    async with AsyncSeenStore(":memory:", on_abandoned="hold") as store:
        one, other = store.namespace("one"), store.namespace("other")
        for view in (one, other):
            await view.mark_seen("k")
            await view.claim("held", lease=0.001)
            while (await view.claim("held")).verdict is not Verdict.HELD:
                pass
        assert [record.namespace for record in await one.held()] == ["one"]
        assert len(await store.held()) == 2
        assert (await one.stats()).keys_by_namespace == {"one": 1}
        assert (await one.stats()).abandoned["hold"] == 1
        assert await one.cleanup_old_entries(0) == 1
        assert (await one.count(), await other.count()) == (0, 1)


@pytest.mark.parametrize("verb", BLOCKING.values(), ids=BLOCKING)
def test_blocking_twin(verb: Callable[[SeenStore], object]) -> None:
    """On the blocking twin the defaults are those of the view as well."""
    with SeenStore(":memory:", purge_interval=None) as store:
        feed = store.namespace("bbc", ttl=60, lease=5)
        with executed(feed._store) as sent:
            verb(feed)
    assert values(sent, "namespace") == {"bbc"}
    assert values(sent, "ttl") <= {60.0}
    assert values(sent, "lease") <= {5.0}


async def test_view_keeps_its_store_open() -> None:
    """A store that only its view refers to is neither closed nor a leak."""
    store = AsyncSeenStore(":memory:")
    await store.open()
    feed = store.namespace("bbc")
    close = store._lifecycle.aclose
    del store
    gc.collect()
    assert await feed.check_and_mark("k")
    await close()


def test_view_keeps_its_blocking_store_open() -> None:
    """The same on the blocking twin."""
    feed = SeenStore(":memory:").namespace("bbc")
    gc.collect()
    assert feed.check_and_mark("k")
    assert feed._parent is not None
    feed._parent.close()
