"""Notes in Redis: how they are stored, sent, and written after a lost reply."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    SchemaError,
    SeenStoreConfig,
    StoreUnavailableError,
    Verdict,
)

from ...support.lossy import Lossy
from ...support.redis_stores import DURABLE, SOON, Values, redis_key, to
from ...support.servers import HOST, Valkey

LONG = "x" * 65_536


@asynccontextmanager
async def through(way: Lossy) -> AsyncIterator[AsyncSeenStore]:
    """Open a store behind the proxy; no purge, no cache."""
    config = SeenStoreConfig(
        url=f"redis://{HOST}:{way.port}",
        timeout=SOON,
        purge_interval=None,
        recent_staleness=0,
    )
    async with AsyncSeenStore(config) as store:
        yield store


async def note(store: AsyncSeenStore, key: str = "k") -> str | None:
    """Return the note of a key that is not unseen."""
    record = await store.get(key)
    assert record is not None
    return record.note


class TestValues:
    """The values that are stored."""

    async def test_value_without_note_is_as_before(self, server: Valkey) -> None:
        """A value without a note has the bytes that earlier releases stored."""
        async with to(server) as store:
            await store.mark_seen("m", ts=1.7e9, ttl=None, note="removed")
            await store.mark_seen("m", ts=1.7e9, ttl=None, note="")
            await store.mark_seen("s", ts=1.7e9, ttl=None)
            await store.mark_seen("s", ts=1.8e9, ttl=None)
            claim = await store.claim("c", ttl=None)
            record = await store.get("c")
            assert record is not None
            with Values(server) as values:
                stored = [values.get(redis_key(key)) for key in "msc"]
        assert stored[0] == b"\xc5m" + struct.pack("<d", 1.7e9)
        assert stored[1] == b"\xc5s" + struct.pack("<ddH", 1.7e9, 1.8e9, 0)
        numbers = (record.first_seen, record.last_seen, 1, record.until, 1)
        token = claim.token.encode()
        assert stored[2] == b"\xc5c" + struct.pack("<ddHdB", *numbers) + token

    @pytest.mark.parametrize("text", ["a", "äöü", LONG])
    async def test_note_follows_the_token(self, server: Valkey, text: str) -> None:
        """A note is stored behind what a value without it has."""
        async with to(server) as store:
            await store.mark_seen("k", ts=1.7e9, ttl=None, note=text)
            with Values(server) as values:
                stored = values.get(redis_key("k"))
        head = b"\xc5M" + struct.pack("<d", 1.7e9) + b"\0"
        assert stored == head + text.encode()

    async def test_empty_value_of_another_program_stays(self, server: Valkey) -> None:
        """An empty text of another program is not overwritten."""
        async with to(server) as store:
            with Values(server) as values:
                values.set(redis_key("k"), b"")
                for call in (store.check_and_mark, store.mark_seen, store.claim):
                    with pytest.raises(SchemaError):
                        await call("k", note="text")
                assert not await store.forget("k")
                assert values.get(redis_key("k")) == b""


class TestTraffic:
    """What is sent and read."""

    async def test_duplicates_send_no_notes(self, server: Valkey) -> None:
        """Questions whose answers have no note leave it on the server."""
        async with to(server) as store:
            keys = [f"k{number}" for number in range(20)]
            await store.mark_many(keys, note=LONG)
            with server.client() as client:
                before = client.info("stats")["total_net_output_bytes"]
                client.config_resetstat()
                assert await store.filter_new(keys) == []
                assert not any(await store.check_and_mark_many(keys, note="other"))
                assert not any(await store.claim_many(keys, note="other"))
                assert await store.count() == 20
                reads = client.info("commandstats")["cmdstat_getrange"]["calls"]
                after = client.info("stats")["total_net_output_bytes"]
                assert reads == 4 * 20
                assert after - before < len(LONG)
            assert await note(store, "k7") == LONG

    async def test_only_the_head_of_a_value_is_read(self, server: Valkey) -> None:
        """The script reads a note only where the answer has it."""
        async with to(server) as store:
            await store.mark_seen("k", note=LONG)
            with server.client() as client, client.monitor() as monitor:
                await store.is_seen("k")
                await store.check_and_mark("k")
                await store.get("k")
                with server.client() as other:
                    other.ping()
                reads = []
                for command in monitor.listen():
                    if command["command"] == "PING":
                        break
                    if command["command"].startswith("GETRANGE"):
                        reads.append(int(command["command"].split()[-1]))
        first, second, third, whole = reads
        assert 0 < first == second == third < 1_000
        assert whole == -1

    async def test_long_notes_are_sent_in_parts(self, server: Valkey) -> None:
        """No script call carries megabytes of notes, which would block the server."""
        async with to(server) as store:
            keys = [f"k{number}" for number in range(100)]
            with server.client() as client:
                client.config_resetstat()
                await store.mark_many(keys, note=LONG)
                assert client.info("commandstats")["cmdstat_evalsha"]["calls"] >= 6
                client.config_resetstat()
                notes = [one.note async for one in store.records()]
                assert notes == [LONG] * 100
                await store.mark_many(keys)
                client.config_resetstat()
                await store.mark_many(keys)
                assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1

    async def test_unselected_notes_are_not_sent(self, server: Valkey) -> None:
        """Records are selected by the server."""
        async with to(server) as store:
            await store.mark_many([f"k{number}" for number in range(20)], note=LONG)
            await store.claim("c", note="claimed")
            with server.client() as client:
                before = client.info("stats")["total_net_output_bytes"]
                notes = [one.note async for one in store.records(state="claimed")]
                assert notes == ["claimed"]
                after = client.info("stats")["total_net_output_bytes"]
                assert after - before < len(LONG)


class TestLostReplies:
    """Calls that wrote a note, and whose reply was lost."""

    async def test_note_is_stored_once(self, way: Lossy, server: Valkey) -> None:
        """A mark, a claim and a confirm that are sent again have written the note."""
        async with through(way) as store:
            for number in range(3):
                way.lose = 1
                assert await store.check_and_mark(f"m{number}", note="mark")
                way.lose = 1
                claim = await store.claim(f"c{number}", note="claim")
                assert (claim.verdict, claim.note) == (Verdict.NEW, "claim")
                way.lose = 1
                await claim.confirm(note="confirm")
                assert not way.lose
                way.lose = 1
                await store.mark_seen(f"s{number}", note="seen")
                assert not way.lose
            notes = {one.key[0]: one.note async for one in store.records()}
            assert notes == {"m": "mark", "c": "confirm", "s": "seen"}
            with Values(server) as values:
                stored = values.get(redis_key("c1"))
            assert stored is not None
            assert stored.endswith(b"confirm")
            assert b"claim" not in stored

    async def test_resent_mark_keeps_a_later_note(
        self, way: Lossy, server: Valkey
    ) -> None:
        """A mark that is sent again does not replace the note written meanwhile."""
        async with through(way) as store, to(server) as other:
            way.lose, way.refuse = 1, 1_000_000
            marking = asyncio.create_task(store.check_and_mark("k", note="first"))
            while way.lose:
                await asyncio.sleep(0)
            await other.mark_seen("k", note="second")
            way.refuse = 0
            assert (await marking).verdict is Verdict.NEW
            assert await note(other) == "second"

    async def test_resent_mark_writes_no_note_of_a_duplicate(
        self, way: Lossy, server: Valkey
    ) -> None:
        """A check of a seen key that is sent again leaves its note."""
        async with through(way) as store, to(server) as other:
            await other.mark_seen("k", note="first")
            way.lose = 1
            assert not await store.check_and_mark("k", note="second")
            assert not way.lose
            assert await note(other) == "first"


class TestRefusals:
    """Servers that refuse a note."""

    async def test_full_server_keeps_row_and_note(self, server: Valkey) -> None:
        """A refused note leaves the row with the note that it had."""
        async with to(server) as store:
            await store.mark_seen("k", note="first")
            claim = await store.claim("c", note="first")
            with server.client() as client:
                client.config_set("maxmemory", 1)
                for call in (
                    store.mark_seen("k", note=LONG),
                    store.check_and_mark("new", note=LONG),
                    claim.confirm(note=LONG),
                ):
                    with pytest.raises(StoreUnavailableError, match="Raise maxmemory"):
                        await call
                assert await note(store, "k") == "first"
                assert await note(store, "c") == "first"
                assert await store.get("new") is None
                client.config_set("maxmemory", 0)
            await claim.confirm(note="last")
            assert await note(store, "c") == "last"

    async def test_note_waits_for_replicas(self, server: Valkey) -> None:
        """A note is acknowledged after a replica has it."""
        with Valkey(replicaof=f"{HOST} {server.port}", **DURABLE) as replica:
            with replica.client() as client:
                while client.info("replication")["master_link_status"] != "up":
                    await asyncio.sleep(0.01)
            async with to(server, wait_replicas=1) as store:
                await store.check_and_mark("k", note="text")
                with Values(replica) as values:
                    stored = values.get(redis_key("k"))
                assert stored is not None
                assert stored.endswith(b"text")
