"""Rows as they are stored on Redis, for a move: the values themselves, and refusals."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, SchemaError, StoreUnavailableError
from catalyst_seen.backends.listings import SourceState, Totals
from catalyst_seen.backends.operations import Id, Listed, Row
from catalyst_seen.backends.redis.keys import KeyCodec

from ...contract.listings.support import Entry, observe
from ...support.redis_stores import MARKER, Values, redis_key, to
from ...support.servers import ValkeyCluster
from ...support.transfer import rows_of, transfer
from .conftest import Server

STATE = SourceState(totals=Totals(polls=1))
CODEC = KeyCodec("seen")


@pytest.fixture
def server(one_or_cluster: Server) -> Server:
    """One server, or a cluster, which is empty."""
    return one_or_cluster


async def fill(store: AsyncSeenStore) -> None:
    """Make keys of every kind, by default and in a namespace that is observed."""
    await store.mark_many(map(str, range(300)))
    await store.mark_seen("noted", note="text", ttl=None)
    for namespace in ("", "feed", "other"):
        claims = await store.claim_many([*"abcd"], namespace=namespace)
        await claims[0].confirm()
        await claims[1].release(error="no", delay=60)
        await claims[2].hold("no")
    feed = store.namespace("feed")
    await observe(feed, [Entry("x", link="/x", text="1"), "y", "a", "b"])
    await observe(feed, [Entry("x", link="/x", text="2"), "z", "b", "c"])


async def test_values_are_those_of_the_store(server: Server) -> None:
    """What is read and written again is the same, byte by byte, with all indexes."""
    async with to(server) as store:
        await fill(store)
        rows, states = await rows_of(store), await transfer(store).read_source_states()
    with Values(server) as values:
        before = values.all()
        server.clear()
        async with to(server) as store:
            await transfer(store).write_rows(list(rows.items()))
            await transfer(store).write_source_states(states)
            assert values.all() == before
            assert values.check_indexes() == 6
            everything: dict[Id, Row | None] = dict.fromkeys(rows)
            await transfer(store).write_rows(list(everything.items()))
            await transfer(store).write_source_states(dict.fromkeys(states))
            assert values.all() == {}


async def test_only_what_was_never_listed_expires_by_itself(server: Server) -> None:
    """A native expiry is set, and removed, as the row says."""
    async with to(server) as store:
        now = store._lifecycle.backend.now()
        mark = Row(now, now, now + 600)
        rows = [mark, mark._replace(listed=Listed(None, 1)), Row(now, now, None)]
        with Values(server) as values:
            for row in [*rows, *rows[::-1]]:
                await transfer(store).write_rows([(("n", "k"), row)])
                _, expires = values.all()[redis_key("k", "n").encode()]
                assert (expires == -1) == (row is not mark)
            await transfer(store).write_rows(
                [(("n", "k"), mark._replace(expires_at=now - 1))]
            )
            assert redis_key("k", "n").encode() not in values.all()


async def test_unfinished_rename_or_clear_is_refused(server: Server) -> None:
    """A locked source, or a rename that was killed, is not read, and stays."""
    async with to(server) as store:
        await transfer(store).write_source_states({"n": STATE, "m": STATE})
        with Values(server) as values:
            (name, *_) = CODEC.source("n")
            value = values.get(name) or b""
            values.set(name, b"\xc6w" + value[2:])
            before = values.all()
            with pytest.raises(StoreUnavailableError, match="'n' is being renamed, or"):
                await transfer(store).read_source_states()
            for state in (STATE, None):
                with pytest.raises(StoreUnavailableError, match="call rename or clear"):
                    await transfer(store).write_source_states({"n": state})
            assert values.all() == before
            values.set(name, value)
            values.set(CODEC.renaming("old", "a b"), b"")
            with pytest.raises(StoreUnavailableError, match="renamed to 'a b'"):
                await transfer(store).read_source_states()


async def test_unfinished_layout_is_refused(server: Server) -> None:
    """While the names of an earlier release may be there, nothing is moved."""
    async with to(server) as store:
        await store.mark_seen("k")
        with Values(server) as values:
            values.delete(MARKER)
            calls = [
                lambda: transfer(store).read_rows(limit=10, cursor=None),
                lambda: transfer(store).read_source_states(),
                lambda: transfer(store).write_rows([(("", "k"), None)]),
                lambda: transfer(store).write_source_states({"n": STATE}),
            ]
            for call in calls:
                with pytest.raises(StoreUnavailableError, match="open the store again"):
                    await call()
    async with to(server) as store:
        assert len(await rows_of(store)) == 1


async def test_values_of_other_programs_are_untouched(server: Server) -> None:
    """They are no rows; a call that would replace one writes nothing of its slot."""
    async with to(server) as store:
        now = store._lifecycle.backend.now()
        rows = [(("n", key), Row(now, now, None)) for key in "abc"]
        with Values(server) as values:
            foreign: dict[str | bytes, bytes]
            foreign = {redis_key("b", "n"): b"text", CODEC.source("m")[0]: b"text"}
            for name, value in foreign.items():
                values.set(name, value)
            before = values.all()
            assert await rows_of(store) == {}
            assert await transfer(store).read_rows_of([("n", "b")]) == [None]
            with pytest.raises(SchemaError, match="another program"):
                await transfer(store).write_rows(rows)
            with pytest.raises(SchemaError, match="another program"):
                await transfer(store).read_source_states()
            assert values.all() == before


async def test_full_server(server: Server) -> None:
    """A server that refuses writes says what to do, and a removal is still done."""
    async with to(server) as store:
        now = store._lifecycle.backend.now()
        (one, other) = ((("n", key), Row(now, now, None)) for key in "ab")
        await transfer(store).write_rows([one])
        nodes = server.nodes if isinstance(server, ValkeyCluster) else [server]
        for limit in (1, 0):
            for node in nodes:
                with node.client() as client:
                    client.config_set("maxmemory", limit)
            if limit:
                with pytest.raises(StoreUnavailableError, match="Raise maxmemory"):
                    await transfer(store).write_rows([other])
                with pytest.raises(StoreUnavailableError, match="Raise maxmemory"):
                    await transfer(store).write_source_states({"n": STATE})
                await transfer(store).write_rows([(one[0], None)])
        assert await rows_of(store) == {}
