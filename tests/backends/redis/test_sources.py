"""Rename and clear of a namespace that is observed: stepwise, and resumable."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, InvalidKeyError, StoreUnavailableError

from ...contract.listings.support import baseline, handled, keys, observe
from ...support.redis_stores import Killed, Values, impatient, killed_after, to
from .conftest import Server
from .test_renames import complete

SEEN = [f"k{number}" for number in range(8)]


@pytest.fixture
def server(one_or_cluster: Server) -> Server:
    """One server, or a cluster, which is empty."""
    return one_or_cluster


async def fill(store: AsyncSeenStore) -> None:
    """Observe what is seen, pending, claimed, and what has left."""
    feed = store.namespace("old")
    await baseline(feed, SEEN)
    await observe(feed, [*SEEN[:6], "p1", "p2"])
    await feed.claim("p2", lease=600)


class TestRename:
    """A rename takes the source along."""

    async def test_killed_anywhere(self, server: Server) -> None:
        """A killed rename repeats nothing to whoever polls, and can be completed."""
        requests, is_complete = 0, False
        while not is_complete:
            async with to(server) as store:
                await fill(store)
                with Values(server) as values, impatient(page=6):
                    before = values.all()
                    try:
                        with killed_after(requests):
                            await store.rename("new", namespace="old")
                        is_complete = True
                    except Killed:
                        await check_nothing_is_repeated(store)
                        await complete(store)
                    after = values.all()
                    for name, value in before.items():
                        renamed = after.pop(name.replace(b"{old}", b"{new}"))
                        assert renamed == value or name.endswith(b">source")
                    assert not after
                    assert values.check_indexes() == len(SEEN) + 2
                new = store.namespace("new")
                seen = await observe(new, [*SEEN[:6], "p1", "p2", "p3"])
                assert keys(seen.new) == ["p1", "p3"]
                assert await handled(new) == ["p1", "p3"]
            server.clear()
            requests += 1
        assert requests > 12

    async def test_default_namespace(self, server: Server) -> None:
        """A source cannot get the default name; nothing is changed."""
        async with to(server) as store:
            await fill(store)
            with Values(server) as values:
                before = values.all()
                with pytest.raises(InvalidKeyError, match="one of its own"):
                    await store.rename("", namespace="old")
                assert values.all() == before

    async def test_source_without_keys(self, server: Server) -> None:
        """A name with a source is occupied, with keys or without."""
        async with to(server) as store:
            await store.namespace("failing").failed("no route")
            await fill(store)
            with pytest.raises(ValueError, match="has keys already"):
                await store.rename("failing", namespace="old")
            await store.rename("other", namespace="failing")
            source = await store.namespace("other").source()
            assert source is not None
            assert source.error == "no route"


async def check_nothing_is_repeated(store: AsyncSeenStore) -> None:
    """Poll under both names: an observation fails, or finds nothing new."""
    for name in ("old", "new"):
        feed = store.namespace(name)
        try:
            source = await feed.source()
            if source is not None:
                seen = await observe(feed, [*SEEN[:6], "p1", "p2"])
                assert set(keys(seen.new)) <= {"p1"}
        except StoreUnavailableError as exc:
            assert "renamed" in str(exc)  # noqa: PT017 - or nothing is raised


class TestClear:
    """A clear ends the source with its keys."""

    @pytest.mark.parametrize("namespace", ["old", None])
    async def test_killed_anywhere(self, server: Server, namespace: str | None) -> None:
        """A killed clear repeats nothing; the next one completes it."""
        requests, is_complete = 0, False
        while not is_complete:
            async with to(server) as store:
                await fill(store)
                await store.mark_seen("k", namespace="beside")
                try:
                    with killed_after(requests):
                        await store.clear(namespace=namespace)
                    is_complete = True
                except Killed:
                    await check_nothing_is_repeated(store)
                    await store.clear(namespace=namespace)
                with Values(server) as values:
                    assert len(values.all()) == (namespace is not None)
                feed = store.namespace("old")
                assert await feed.source() is None
                assert (await observe(feed, SEEN)).baseline == len(SEEN)
            server.clear()
            requests += 1
        assert requests > 3
