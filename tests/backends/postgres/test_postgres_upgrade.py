"""Schemas of earlier releases of PostgreSQL are upgraded in place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    Record,
    SchemaError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.postgres import PostgresBackend, upgrade
from catalyst_seen.backends.postgres.dsn import quote_identifier

from ...support.postgres_stores import at, connected, until_blocked
from ...support.servers import Postgres
from ...support.targets import Target

FILES = Path(__file__).with_name("version_1")
NAMES = ["", "n", "it's", '"', "%s", "{}", "\\", "ä☃𝄞", "n" * 512]
TERMINATE = "SELECT pg_terminate_backend(pg_backend_pid())"
OLD_ROWS = "SELECT namespace, id, first_seen, token FROM {}.seen ORDER BY 1, 2"


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A durable server for one test; commits are acknowledged before they are."""
    with Postgres(durable=True, synchronous_commit="off") as made:
        yield made


def statement(name: str, schema: str) -> str:
    """Return a statement of the release that made version 1."""
    text = (FILES / f"{name}.sql").read_text()
    return text.format(schema=schema, table=f"{schema}.seen")


async def create_version_1(
    connection: asyncpg.Connection, schema: str, rows: int = 3
) -> list[asyncpg.Record]:
    """Create a schema of version 1 with rows; return them."""
    await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(statement("create", schema))
    for name in NAMES:
        await connection.execute(
            f"""INSERT INTO {schema}.seen SELECT $1, n::text, 1e9 + n, 1e9 + n, NULL,
            'token' FROM generate_series(1, {rows}) n""",
            name,
        )
    found: list[asyncpg.Record] = await connection.fetch(OLD_ROWS.format(schema))
    return found


async def has_version_1(
    connection: asyncpg.Connection, schema: str, rows: list[asyncpg.Record]
) -> bool:
    """Is the schema as it was made?"""
    version = await connection.fetchval(f"SELECT version FROM {schema}.seen_version")
    if version != 1:
        return False
    assert await connection.fetch(OLD_ROWS.format(schema)) == rows
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = $1::regnamespace ORDER BY 1",
        schema,
    )
    return [name for (name,) in tables] == ["seen", "seen_version"]


async def check_upgraded(store: AsyncSeenStore, rows: list[asyncpg.Record]) -> None:
    """Check that a store has all rows of version 1."""
    records = [one async for one in store.records()]
    expected = [
        Record(key, namespace, "seen", first_seen, first_seen, None)
        for namespace, key, first_seen, _ in rows
    ]
    assert sorted(records, key=repr) == sorted(expected, key=repr)
    assert await store.namespaces() == sorted(NAMES)


def quoted(place: Target) -> str:
    """Return the schema of a place, quoted."""
    return quote_identifier(str(place.settings.schema))


class TestUpgrade:
    """The upgraded schema."""

    async def test_rows_keep_their_states(self, place: Target) -> None:
        """Marks and claims of every state are as they were, with their tokens."""
        schema, now = quoted(place), time.time()
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, schema)
            with capture_logs() as logs:
                async with at(place) as store:
                    await check_upgraded(store, rows)
                    assert await store.check_and_mark("new", namespace="n")
                    assert not await store.check_and_mark("1", namespace="it's")
            (event,) = (log for log in logs if log["event"] == "schema_upgraded")
            assert event["version"] == 1
            await other.execute(f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}")
            await other.execute(statement("create", schema))
            await other.executemany(
                f"INSERT INTO {schema}.seen VALUES ('', $1, 1e9, 1e9, $2, 't', 2, $3,"
                " $4)",
                [
                    ("seen", now + 900, None, None),
                    ("expired", now - 1, None, None),
                    ("claimed", now + 900, now + 800, "retry"),
                    ("over", now + 900, now - 1, "retry"),
                    ("released", now + 900, now - 1, None),
                    ("held", None, now - 1, "hold"),
                    ("dropped", now + 900, now - 1, "drop"),
                ],
            )
            async with at(place) as store:
                states = {one.key: one.state async for one in store.records()}
                assert states == {
                    "seen": "seen", "claimed": "claimed", "over": "released",
                    "released": "released", "held": "held", "dropped": "seen",
                }  # fmt: skip
                claim = await store.claim("over")
                assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 3)
                assert [one.key for one in await store.held()] == ["held"]
                assert await store.purge_expired() == 1

    async def test_upgraded_schema_equals_a_new_one(self, place: Target) -> None:
        """Tables and indexes of an upgraded schema are those of a new one."""
        schema = quoted(place)
        columns = """SELECT table_name, column_name, ordinal_position, data_type,
            collation_name, column_default, is_nullable, identity_generation
            FROM information_schema.columns WHERE table_schema = $1 ORDER BY 1, 3"""
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY 1"
        found = []
        async with connected(place.settings.url) as other:
            for is_old in (True, False):
                if is_old:
                    await create_version_1(other, schema)
                async with at(place):
                    pass
                found.append(
                    [
                        await other.fetch(query, place.settings.schema)
                        for query in (columns, indexes)
                    ]
                )
                await other.execute(f"DROP SCHEMA {schema} CASCADE")
        assert found[0] == found[1]

    @pytest.mark.parametrize("schema", ["100%s-{y}", "Ä"])
    async def test_any_name_of_a_schema(self, place: Target, schema: str) -> None:
        """A schema of any name is upgraded, and used."""
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, quote_identifier(schema))
            try:
                async with at(place, schema=schema, create=False) as store:
                    await check_upgraded(store, rows)
                    await store.mark_seen("k", note="text")
                    assert (await store.check()).schema == 4
                    assert await store.clear(namespace=None) == len(rows) + 1
            finally:
                await other.execute(f"DROP SCHEMA {quote_identifier(schema)} CASCADE")

    async def test_who_had_access_has_access(self, place: Target) -> None:
        """Owner, grants and storage settings of the table stay, and go for the new.

        The role that upgrades may be another one than the owner.
        """
        schema, url = quoted(place), str(place.settings.url)
        async with connected(url) as other:
            rows = await create_version_1(other, schema)
            await other.execute(
                f"""CREATE ROLE owner LOGIN; CREATE ROLE poller LOGIN;
                ALTER SCHEMA {schema} OWNER TO owner;
                ALTER TABLE {schema}.seen OWNER TO owner;
                ALTER TABLE {schema}.seen_version OWNER TO owner;
                ALTER TABLE {schema}.seen SET (autovacuum_vacuum_scale_factor = 0.02);
                GRANT USAGE ON SCHEMA {schema} TO poller;
                GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.seen TO poller;
                GRANT SELECT ON {schema}.seen_version TO poller"""
            )
            try:
                urls = [
                    url.replace("//postgres@", f"//{user}@")
                    for user in ("poller", "owner")
                ]
                with pytest.raises(StoreUnavailableError, match="open the store once"):
                    await at(place, url=urls[0]).open()
                assert await has_version_1(other, schema, rows)
                async with at(place) as store:
                    await check_upgraded(store, rows)
                for one in urls:
                    async with at(place, url=one) as store:
                        await store.mark_seen("k", note="text", namespace=one)
                        assert await store.clear(namespace=one) == 1
                options = f"SELECT reloptions FROM pg_class WHERE oid = '{schema}.seen'"
                settings = await other.fetchval(f"{options}::regclass")
                assert settings == ["autovacuum_vacuum_scale_factor=0.02"]
            finally:
                await other.execute(
                    "DROP OWNED BY owner, poller CASCADE; DROP ROLE owner, poller"
                )

    async def test_on_a_pool(self, place: Target) -> None:
        """A pool of the user's, with any settings, is enough for an upgrade."""
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, quoted(place))
        async with asyncpg.create_pool(
            place.settings.url,
            min_size=1,
            max_size=1,
            server_settings={
                "default_transaction_isolation": "serializable",
                "statement_timeout": "2000",
            },
        ) as pool:
            config = place.config(purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                await check_upgraded(store, rows)

    async def test_foreign_tables_are_untouched(self, place: Target) -> None:
        """Other programs' tables with the names of ours are refused, untouched."""
        schema = quoted(place)
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, schema)
            for name in ("namespace", "detail"):
                await other.execute(f"CREATE TABLE {schema}.{name} (x text)")
                with pytest.raises(SchemaError, match=f"another program's.*{name}"):
                    await at(place).open()
                await other.execute(f"DROP TABLE {schema}.{name}")
            assert await has_version_1(other, schema, rows)


class TestInterruptions:
    """Upgrades that are killed, that take long, and that run at once."""

    async def test_killed_at_each_statement(
        self, place: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A connection that is terminated at any statement leaves the old schema.

        The next open upgrades it.
        """
        schema, steps = quoted(place), upgrade.STEPS
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, schema)
            for number in range(len(steps) + 1):
                broken = (*steps[:number], TERMINATE, *steps[number:])
                monkeypatch.setattr(upgrade, "STEPS", broken)
                with pytest.raises(StoreUnavailableError, match="terminat"):
                    await at(place).open()
                assert await has_version_1(other, schema, rows)
            monkeypatch.setattr(upgrade, "STEPS", steps)
        async with at(place) as store:
            await check_upgraded(store, rows)

    async def test_server_killed_in_an_upgrade(
        self, server: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that is killed has the old schema before the commit, the new after.

        A commit that is acknowledged is on the disk, whatever ``synchronous_commit``.
        """
        schema, steps = '"catalyst_seen"', upgrade.STEPS
        async with connected(server.url) as other:
            rows = await create_version_1(other, schema, 500)
            await other.execute("CHECKPOINT")
        monkeypatch.setattr(upgrade, "STEPS", (*steps, "SELECT pg_sleep(600)"))
        opening = asyncio.create_task(at(server).open())
        async with connected(server.url) as other:
            sleeps = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            )
            async with asyncio.timeout(60):
                while not await other.fetch(sleeps):
                    await asyncio.sleep(0.01)
        server.kill()
        with pytest.raises(StoreUnavailableError):
            await opening
        server.start()
        async with connected(server.url) as other:
            assert await has_version_1(other, schema, rows)
        monkeypatch.setattr(upgrade, "STEPS", steps)
        store = at(server)
        await store.open()
        server.kill()
        await store.aclose()
        server.start()
        async with connected(server.url) as other:
            assert not await has_version_1(other, schema, rows)
        async with at(server) as store:
            await check_upgraded(store, rows)

    async def test_upgrade_outlasts_the_timeout(
        self, place: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An upgrade takes as long as it takes: the timeout is for its locks only."""
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, quoted(place))
        steps = (*upgrade.STEPS, "DO 'BEGIN PERFORM pg_sleep(2); END'")
        monkeypatch.setattr(upgrade, "STEPS", steps)
        async with at(place, timeout=1) as store:
            await check_upgraded(store, rows)

    async def test_stores_that_open_at_once(self, place: Target) -> None:
        """Of stores that open at once, one upgrades; all can use the result."""
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, quoted(place))
        stores = [at(place, timeout=30) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            await check_upgraded(store, rows)
            await store.aclose()

    async def test_waits_for_transactions_of_the_old_release(
        self, place: Target
    ) -> None:
        """An upgrade waits for the locks of others; it fails after its timeout."""
        schema = quoted(place)
        async with connected(place.settings.url) as other:
            rows = await create_version_1(other, schema)
            async with other.transaction():
                await other.execute(f"SELECT FROM {schema}.seen FOR UPDATE")
                with pytest.raises(StoreUnavailableError, match="lock timeout"):
                    await at(place, timeout=1).open()
            assert await has_version_1(other, schema, rows)
            store = at(place)
            async with other.transaction():
                await other.execute(f"SELECT FROM {schema}.seen FOR UPDATE")
                opening = asyncio.create_task(store.open())
                async with connected(place.settings.url) as third:
                    await until_blocked(third)
            await opening
            await check_upgraded(store, rows)
            await store.aclose()


class TestOlderRelease:
    """Processes of the release of version 1 that are still running."""

    async def test_its_batches_fail_and_write_nothing(self, place: Target) -> None:
        """Its statements, prepared before or waiting for the upgrade, only fail."""
        schema = quoted(place)
        mark = (["k"], ["n"], ["mark"], [None], [None], [60.0], [None], [None])
        async with connected(place.settings.url) as old:
            await create_version_1(old, schema)
            write = await old.prepare(statement("write_batch", schema))
            read = await old.prepare(statement("read_batch", schema))
            assert await write.fetch(*mark)
            assert await read.fetch(*mark)
            assert await old.fetch(statement("cleanup", schema), 1e12, "", "", 100)
            async with at(place) as store:
                before = [one async for one in store.records()]
                for prepared in (write, read):
                    for _ in range(2):
                        with pytest.raises(asyncpg.UndefinedColumnError):
                            await prepared.fetch(*mark)
                with pytest.raises(asyncpg.UndefinedColumnError):
                    await old.fetch(statement("write_batch", schema), *mark)
                with pytest.raises(asyncpg.PostgresError):
                    await old.fetch(statement("cleanup", schema), 0.0, "", "", 100)
                assert [one async for one in store.records()] == before

    async def test_its_purge_removes_what_has_expired(self, place: Target) -> None:
        """Its purge, which names no changed column, removes expired rows, and no note.

        A note that lost its row so does not come back.
        """
        schema = quoted(place)
        async with connected(place.settings.url) as old:
            await create_version_1(old, schema)
            purge = await old.prepare(statement("purge", schema))
            assert (await purge.fetchrow(1, float("-inf"), 100))[0] == 0
            async with at(place) as store:
                await store.mark_seen("live", ttl=60, note="text")
                await store.mark_seen("expired", ttl=0.001, note="old")
                await asyncio.sleep(0.01)
                assert (await purge.fetchrow(1, float("-inf"), 100))[0] == 1
                record = await store.get("live")
                assert record is not None
                assert record.note == "text"
                assert (await store.claim("expired")).note is None

    async def test_its_open_is_refused(self, place: Target) -> None:
        """What it looks for when it opens is there, with a version that it refuses."""
        schema = quoted(place)
        async with connected(place.settings.url) as old:
            await create_version_1(old, schema)
            async with at(place):
                pass
            found = await old.fetchval(
                f"SELECT max(version) FROM {schema}.seen_version"
            )
            assert found == 4
            assert await old.fetchval(f"SELECT to_regclass('{schema}.seen')")


async def test_server_is_checked_before_an_upgrade(place: Target) -> None:
    """A server that a store refuses is refused before its schema is changed."""
    async with connected(place.settings.url) as other:
        rows = await create_version_1(other, quoted(place))
        with pytest.raises(ConfigurationError, match="14 is needed"):
            await at(place, tuning=Tuning(oldest_postgres=10**9)).open()
        assert await has_version_1(other, quoted(place), rows)
