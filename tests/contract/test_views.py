"""Namespace views: the same store, bound to a namespace and its defaults."""

from __future__ import annotations

import gc
import weakref

import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, Verdict

from ..support.clock import DAY, NOON, Clock
from ..support.targets import Target


async def test_verbs_use_the_views_namespace(store: AsyncSeenStore) -> None:
    """What a view marks is seen in its namespace only."""
    feed = store.namespace("bbc")
    assert await feed.check_and_mark("k")
    assert await store.is_seen("k", namespace="bbc")
    assert not await store.is_seen("k")
    await feed.mark_many(["a", "b"])
    assert await feed.filter_new(["a", "c"]) == ["c"]
    assert await feed.refresh(["a", "c"]) == 1
    async with feed.claim("d") as claim:
        assert claim.namespace == "bbc"
    assert (await feed.once("d", lambda: 1)).verdict is Verdict.DUPLICATE
    assert await feed.forget("a")
    await store.mark_seen("elsewhere")
    assert (await feed.count(), await store.count()) == (3, 4)
    assert (await feed.stats()).keys == 3
    assert await feed.held() == []


async def test_namespace_may_be_named_all_the_same(store: AsyncSeenStore) -> None:
    """``namespace=`` of a call beats the view; ``None`` means all."""
    feed = store.namespace("bbc")
    await feed.mark_seen("k", namespace="cnn")
    assert await store.is_seen("k", namespace="cnn")
    assert await feed.count() == 0
    assert await feed.count(namespace=None) == 1


async def test_defaults_of_a_view(store: AsyncSeenStore, clock: Clock) -> None:
    """TTL and lease are the view's, the store's if it has none, a call's if given."""
    short = store.namespace("short", ttl=60, lease=5)
    await short.mark_seen("k")
    record = await short.get("k")
    assert record is not None
    assert record.expires_at == NOON + 60
    assert (await short.claim("c")).remaining() == 5
    assert (await short.claim("d", lease=7)).remaining() == 7
    assert (await store.namespace("other").claim("c")).remaining() == 60
    clock.advance(60)
    assert not await short.is_seen("k")


async def test_purges_stay_in_the_view(
    store: AsyncSeenStore, target: Target, clock: Clock
) -> None:
    """A view purges and cleans up its own rows."""
    one, other = store.namespace("one"), store.namespace("other")
    await one.mark_seen("k", ttl=60)
    await other.mark_seen("k", ttl=60)
    clock.advance(60)
    assert await one.purge_expired() == target.removed(1)
    await one.mark_seen("old")
    await other.mark_seen("old")
    clock.advance(DAY / 2)
    assert await one.cleanup_old_entries(0.25) == 1


async def test_store_opens_and_closes(store: AsyncSeenStore) -> None:
    """A view is neither opened nor closed, and has no views."""
    feed = store.namespace("bbc")
    for refused in (feed.open, feed.aclose, feed.__aenter__):
        with pytest.raises(TypeError, match="is a view"):
            await refused()
    with pytest.raises(TypeError, match="views of its own"):
        feed.namespace("sub")
    assert "bbc" in repr(feed)
    assert type(feed) is AsyncSeenStore


async def test_view_keeps_its_store(store: AsyncSeenStore) -> None:
    """The store lives as long as its view; a view that goes is no leak."""
    feed = store.namespace("bbc")
    kept = weakref.ref(feed)
    del feed
    gc.collect()
    assert kept() is None
    await store.mark_seen("k")


async def test_view_before_the_store_is_open(target: Target) -> None:
    """A view may be made before its store is opened."""
    store = AsyncSeenStore(target.config())
    feed = store.namespace("bbc")
    async with store:
        await feed.mark_seen("k")
        assert await store.is_seen("k", namespace="bbc")


def test_blocking_twin(target: Target) -> None:
    """The same on the blocking twin; its close waits for the calls of views as well."""
    with SeenStore(target.config()) as store:
        feed = store.namespace("bbc", lease=5)
        assert feed.check_and_mark("k")
        assert store.is_seen("k", namespace="bbc")
        with feed.claim("c") as claim:
            assert 0 < claim.remaining() <= 5
        for refused in (feed.close, feed.__enter__):
            with pytest.raises(TypeError, match="is a view"):
                refused()
        with pytest.raises(TypeError, match="views of its own"):
            feed.namespace("sub")
        assert "bbc" in repr(feed)
    with pytest.raises(RuntimeError, match="closed"):
        feed.is_seen("k")
