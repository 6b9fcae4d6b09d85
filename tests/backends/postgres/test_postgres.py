"""PostgreSQL: opening, batches, transactions, purges and faults of a real server."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    LeaseLostError,
    OperationCount,
    OutcomeUnknownError,
    SchemaError,
    SeenStore,
    SeenStoreConfig,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends.postgres import PostgresBackend, schema
from catalyst_seen.backends.postgres.schema import create_or_upgrade, lock_id
from catalyst_seen.transfer import check_can_be_made

from ...faults.harness.report import Fault
from ...support.postgres_stores import (
    at,
    connected,
    named,
    opened,
    places_log,
    until_blocked,
    until_read_only,
)
from ...support.scripts import Run
from ...support.servers import HOST, Postgres, free_port
from ...support.targets import Places, Target

SECRET = "s3cret-w0rd"  # noqa: S105 - of a server that lives for a test


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A durable server for one test."""
    with Postgres(durable=True) as made:
        yield made


class TestOpening:
    """Creation and recognition of the schema."""

    async def test_eight_processes_create_one_schema(
        self, place: Target, run_script: Run
    ) -> None:
        """Eight processes that open an empty database at once can all use it."""
        done = run_script(
            """
            import subprocess, sys
            CODE = '''
            import sys
            from catalyst_seen import SeenStore, SeenStoreConfig
            with SeenStore(SeenStoreConfig(url=sys.argv[1], schema=sys.argv[2])) as one:
                one.check_and_mark(sys.argv[3])
            '''
            import textwrap
            made = [
                subprocess.Popen([sys.executable, "-c", textwrap.dedent(CODE),
                                  *sys.argv[1:], str(number)])
                for number in range(8)
            ]
            print([one.wait() for one in made])
            """,
            str(place.settings.url), place.settings.schema, timeout=50,
        )  # fmt: skip
        assert done.stdout.strip() == str([0] * 8), done.stderr
        async with at(place) as store:
            assert await store.count() == 8

    async def test_newer_schema_version_is_refused(self, place: Target) -> None:
        """A schema of a later release is refused, untouched."""
        async with at(place) as store:
            await store.mark_seen("k")
        table = f'"{place.settings.schema}".seen_version'
        async with connected(place.settings.url) as other:
            await other.execute(f"UPDATE {table} SET version = 99")
            with pytest.raises(SchemaError, match=r"version 99.*upgrade"):
                await at(place).open()
            await other.execute(f"UPDATE {table} SET version = 4")
        async with at(place) as store:
            assert await store.is_seen("k")

    async def test_foreign_table_is_refused(self, place: Target) -> None:
        """Another program's table of the same name is refused, untouched."""
        schema = f'"{place.settings.schema}"'
        async with connected(place.settings.url) as other:
            await other.execute(
                f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.seen (x text)"
            )
            with pytest.raises(SchemaError, match="choose another schema"):
                await at(place).open()

    async def test_version_without_table_is_refused(self, place: Target) -> None:
        """A version without a table is refused: a new table would forget all keys."""
        async with at(place) as store:
            await store.mark_seen("k")
        table = f'"{place.settings.schema}".seen'
        async with connected(place.settings.url) as other:
            await other.execute(f"DROP TABLE {table}")
            with pytest.raises(SchemaError, match="restore the table"):
                await at(place).open()

    async def test_failed_create_leaves_no_schema(
        self, place: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The schema is created in one transaction: completely or not at all."""
        monkeypatch.setattr(schema, "CREATE", "SELECT 1 / 0")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await at(place).open()
        async with connected(place.settings.url) as other:
            there = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"
            assert await other.fetchval(there, place.settings.schema) == 0

    async def test_open_waits_for_concurrent_create(self, place: Target) -> None:
        """An open waits for a concurrent create of the schema, and uses its result."""
        store = at(place)
        async with connected(place.settings.url) as other:
            async with other.transaction():
                await create_or_upgrade(other, place.settings.schema, "here")
                opening = asyncio.create_task(store.open())
                await until_blocked(other)
                assert not opening.done()
            await opening
        assert await store.check_and_mark("k")
        await store.aclose()

    async def test_existing_empty_schema_is_used(self, place: Target) -> None:
        """An existing, empty schema is used: the role may be unable to create one."""
        async with connected(place.settings.url) as other:
            await other.execute(f'CREATE SCHEMA "{place.settings.schema}"')
        async with at(place) as store:
            assert await store.check_and_mark("k")

    async def test_role_without_create_right_works(self, place: Target) -> None:
        """A role that may only use the table works after another role created it."""
        async with at(place) as store:
            await store.mark_seen("k")
        schema, url = f'"{place.settings.schema}"', str(place.settings.url)
        async with connected(url) as other:
            await other.execute(
                f"""DROP ROLE IF EXISTS poller; CREATE ROLE poller LOGIN;
                GRANT USAGE ON SCHEMA {schema} TO poller;
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}
                TO poller"""
            )
            config = place.config(url=url.replace("//postgres@", "//poller@"))
            async with AsyncSeenStore(config) as store:
                assert not await store.check_and_mark("k")
                assert await store.check_and_mark("another")
                await store.purge_expired()
            await other.execute("DROP OWNED BY poller; DROP ROLE poller")

    @pytest.mark.parametrize("has_schema", [False, True])
    async def test_missing_right_is_named(
        self, place: Target, has_schema: bool
    ) -> None:
        """A role that may not create the store is told what to grant; that helps.

        A rehearsal tells the same, and creates nothing.
        """
        schema, url = f'"{place.settings.schema}"', str(place.settings.url)
        async with connected(url) as other:
            await other.execute("DROP ROLE IF EXISTS maker; CREATE ROLE maker LOGIN")
            grant = "GRANT CREATE ON DATABASE postgres TO maker"
            if has_schema:
                await other.execute(f"CREATE SCHEMA {schema}")
                grant = f"GRANT USAGE, CREATE ON SCHEMA {schema} TO maker"
            config = place.config(url=url.replace("//postgres@", "//maker@"))
            try:
                for attempt in (
                    check_can_be_made(config),
                    AsyncSeenStore(config).open(),
                ):
                    with pytest.raises(StoreUnavailableError) as caught:
                        await attempt
                    assert f"execute {grant};" in caught.value.advice
                await other.execute(grant)
                await check_can_be_made(config)
                with pytest.raises(
                    StoreUnavailableError, match="no store in the schema"
                ):
                    await AsyncSeenStore(config, create=False).open()
                async with AsyncSeenStore(config) as store:
                    assert await store.check_and_mark("k")
            finally:
                await other.execute("DROP OWNED BY maker CASCADE; DROP ROLE maker")

    async def test_unreachable_server_fails_at_once(self) -> None:
        """An open fails at once if no server listens; the password is not shown."""
        url = f"postgresql://me:{SECRET}@{HOST}:{free_port()}/db"
        store = AsyncSeenStore(url)
        async with asyncio.timeout(25):  # the timeout of the store is 30 seconds
            with pytest.raises(StoreUnavailableError) as caught:
                await store.open()
        assert SECRET not in f"{caught.value!r} {caught.value} {store!r}"

    async def test_missing_database_names_remedy(self, place: Target) -> None:
        """A missing database is an error that names the remedy."""
        url = str(place.settings.url).removesuffix("/postgres") + "/nowhere"
        with pytest.raises(StoreUnavailableError, match="Create the database"):
            await AsyncSeenStore(url).open()

    async def test_old_server_version_is_refused(self, place: Target) -> None:
        """A server older than the minimum version is refused."""
        old = at(place, tuning=Tuning(oldest_postgres=10**9))
        with pytest.raises(ConfigurationError, match="14 is needed"):
            await old.open()

    async def test_database_without_utf8_is_refused(self, place: Target) -> None:
        """A database whose encoding lacks characters is refused."""
        url = str(place.settings.url)
        async with connected(url) as other:
            await other.execute(
                "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
            )
            try:
                config = place.config(url=url.removesuffix("/postgres") + "/latin")
                with pytest.raises(ConfigurationError, match="encoding LATIN1"):
                    await AsyncSeenStore(config).open()
            finally:
                await other.execute("DROP DATABASE latin WITH (FORCE)")

    async def test_passwords_never_appear_in_errors(self) -> None:
        """No error, log event or repr contains a right or a wrong password."""
        with Postgres() as server:
            server.execute(f"ALTER ROLE postgres PASSWORD '{SECRET}'")
            data = server._data / "pg_hba.conf"
            data.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            right = f"postgresql://postgres:{SECRET}@{HOST}:{server.port}/postgres"
            wrong = right.replace(SECRET, "another")
            server.stop()
            server.start()
            with pytest.raises(StoreError, match="password") as caught:
                await AsyncSeenStore(wrong).open()
            assert "another" not in f"{caught.value!r} {caught.value}"
            config = SeenStoreConfig(url=right, timeout=3, purge_interval=None)
            with capture_logs() as logs:
                async with AsyncSeenStore(config) as store:
                    assert await store.check_and_mark("k")
                    server.kill()
                    with pytest.raises(StoreError) as caught:
                        await store.check_and_mark("another")
                    assert not await store.is_seen("a third")
            error = caught.value
            shown = f"{error!r} {error} {error.__cause__!r} {store!r} {config!r} {logs}"
            assert "lookup_failed" in shown
            assert SECRET not in shown

    @pytest.mark.parametrize(
        "url",
        ["postgresql://u:{}@host:port/db", "postgres://u:{}@h/db?sslmode=perhaps"],
    )
    async def test_invalid_url_is_refused_unseen(self, url: str) -> None:
        """A URL that asyncpg rejects is refused, and the error does not repeat it."""
        with pytest.raises(ConfigurationError, match="must be like") as caught:
            await AsyncSeenStore(url.format(SECRET)).open()
        assert SECRET not in f"{caught.value} {caught.value.__cause__!r}"

    async def test_blocking_store_takes_postgres_url(self, place: Target) -> None:
        """SeenStore accepts the same URLs."""
        with SeenStore(place.config()) as store:
            assert store.check_and_mark("k")
            assert not store.check_and_mark("k")

    async def test_unix_socket_url_connects(
        self, places: Places, place: Target
    ) -> None:
        """A URL of a Unix domain socket connects."""
        async with AsyncSeenStore(
            place.config(url=places.postgres.socket_url)
        ) as store:
            assert await store.check_and_mark("k")


class TestRoundTrips:
    """Round trips and writes of a batch."""

    async def test_concurrent_calls_share_a_statement(self, place: Target) -> None:
        """Calls of 100 concurrent tasks are one statement, or two."""
        statements: list[str] = []

        async def listen(connection: asyncpg.Connection) -> None:
            connection.add_query_logger(lambda record: statements.append(record.query))

        async with asyncpg.create_pool(
            place.settings.url, min_size=1, max_size=2, init=listen
        ) as pool:
            config = place.config(purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                await store.check_and_mark("before")
                statements.clear()
                marks = (store.check_and_mark(f"k{number}") for number in range(100))
                claims = (store.claim(f"c{number}") for number in range(100))
                assert all(await asyncio.gather(*marks, *claims))
                assert 1 <= sum("unnest" in query for query in statements) <= 2

    async def test_forget_counts_under_every_name(self, place: Target) -> None:
        """What a store forgets counts at once under every name of the server."""
        url = str(place.settings.url)
        names = url.replace(HOST, "localhost"), url.replace("postgresql:", "postgres:")
        async with AsyncSeenStore(place.settings) as store:
            for name in names:
                assert name != url
                async with AsyncSeenStore(place.config(url=name)) as other:
                    await store.mark_seen("k")
                    assert await store.is_seen("k")
                    await other.forget("k")
                assert await store.check_and_mark("k")

    async def test_duplicates_write_no_wal(self, place: Target) -> None:
        """A duplicate and a refused claim write nothing to the WAL."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k")
            await store.claim("c")
            before = await other.fetchval("SELECT pg_current_wal_insert_lsn()")
            for _ in range(10):
                assert not await store.check_and_mark("k")
                assert not await store.claim("c")
                assert not await store.filter_new(["k"])
            assert await other.fetchval("SELECT pg_current_wal_insert_lsn()") == before

    async def test_repeated_keys_apply_in_order(self, place: Target) -> None:
        """Operations of one batch on one key apply in order."""
        async with at(place) as store:
            await store.mark_many(["a", "b", "a"])
            answers = await asyncio.gather(
                store.forget("a"), store.check_and_mark("a"), store.check_and_mark("a"),
                store.mark_seen("c"), store.forget("c"), store.is_seen("c"),
                *(store.check_and_mark("hot") for _ in range(64)),
            )  # fmt: skip
            assert list(map(bool, answers[:3])) == [True, True, False]
            assert answers[4:6] == [True, False]
            assert sum(map(bool, answers[6:])) == 1


class TestRaces:
    """Concurrent stores on one table."""

    @pytest.mark.torture
    async def test_opposite_key_order_never_deadlocks(
        self, place: Target, fault: Fault
    ) -> None:
        """Batches with their keys in opposite order never deadlock."""
        row = fault("H8", "PostgreSQL, batches of 500 keys in opposite order")
        keys = [f"k{number}" for number in range(500)]
        async with at(place, timeout=20) as one, at(place, timeout=20) as other:
            for round_ in range(10):
                namespace = f"n{round_}"
                # Else the batches wait for each other at its name.
                await one.mark_seen(keys[0], namespace=namespace)
                await asyncio.gather(
                    one.mark_many(keys, namespace=namespace),
                    other.mark_many(reversed(keys), namespace=namespace),
                    one.check_and_mark_many(keys, namespace=namespace),
                    other.claim_many(reversed(keys), namespace=namespace),
                )
                assert await one.count(namespace=namespace) == 500
                row.passed()
        log = places_log(place)
        assert "deadlock" not in log
        row.note("four at once in each round; deadlocks 0")

    async def test_each_new_key_has_one_winner(self, place: Target) -> None:
        """Of four stores that mark the same new keys, one wins each key."""
        stores = [at(place, timeout=20) for _ in range(4)]
        for store in stores:
            await store.open()
        keys = [f"k{number}" for number in range(1_000)]
        wins: Counter[str] = Counter()

        async def mark(store: AsyncSeenStore) -> None:
            for first in range(0, 1_000, 50):
                part = keys[first : first + 50]
                random.Random(first).shuffle(part)
                sightings = await store.check_and_mark_many(part)
                wins.update(one.key for one in sightings if one)

        await asyncio.gather(*map(mark, stores))
        for store in stores:
            await store.aclose()
        assert wins == Counter(keys)

    async def test_uncommitted_insert_decides_verdict(self, place: Target) -> None:
        """A mark waits for an uncommitted insert of its key; the outcome decides."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            default = await named(other, place)
            insert = f"INSERT INTO {table} VALUES ({default}, $1, 1e9, 1e9)"
            for key, end, verdict in (
                ("kept", "COMMIT", Verdict.DUPLICATE),
                ("gone", "ROLLBACK", Verdict.NEW),
            ):
                await other.execute("BEGIN")
                await other.execute(insert, key)
                marking = asyncio.create_task(store.check_and_mark(key))
                await until_blocked(other)
                assert not marking.done()
                await other.execute(end)
                assert (await marking).verdict is verdict

    @pytest.mark.torture
    async def test_lock_timeout_stores_nothing(
        self, place: Target, fault: Fault
    ) -> None:
        """A row lock that outlasts the timeout is an error; nothing is stored."""
        row = fault("H7", "PostgreSQL, a row locked for longer than the timeout 2 s")
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=2) as store:
            claim = await store.claim("k")
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                begun = time.monotonic()
                async with asyncio.timeout(60):
                    with pytest.raises(
                        StoreUnavailableError, match="pg_stat_activity"
                    ) as caught:
                        await claim.confirm()
                assert not isinstance(caught.value, OutcomeUnknownError)
                row.seconds = time.monotonic() - begun
                assert not await store.is_seen("k")
            await claim.confirm()
        row.passed()


async def until_connected(store: AsyncSeenStore) -> None:
    """Read until the server responds, so that the next stall hits a connection."""
    async with asyncio.timeout(60):
        while True:
            try:
                await store.get("unused")
            except StoreUnavailableError:
                continue
            return


def left_in_the_loop() -> list[str]:
    """Return the names of the tasks of stores in this loop."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if "catalyst" in name]


class TestTransaction:
    """claim.confirm(connection=…)."""

    async def test_confirm_commits_with_transaction(self, place: Target) -> None:
        """The effect and the confirm are committed together, or not at all."""
        async with at(place) as store, connected(place.settings.url) as own:
            await own.execute("CREATE TEMP TABLE effect (name text)")
            async with store.claim("k") as claim, own.transaction():
                await own.execute("INSERT INTO effect VALUES ('k')")
                await claim.confirm(connection=own)
                assert not await store.is_seen("k")
            assert await store.is_seen("k")
            with pytest.raises(ValueError, match="no"):
                async with store.claim("x") as claim, own.transaction():
                    await own.execute("INSERT INTO effect VALUES ('x')")
                    await claim.confirm(connection=own)
                    raise ValueError("no")
            assert await own.fetch("SELECT name FROM effect") == [("k",)]
            retried = await store.claim("x")
            assert (retried.verdict, retried.attempt) == (Verdict.RETRY, 2)

    async def test_confirm_in_a_transaction_is_counted(self, place: Target) -> None:
        """The metrics have it as any confirm, though it was in no batch."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            async with own.transaction():
                await claim.confirm(connection=own)
            operations = store.metrics().operations
        assert operations[OperationCount("confirm", "done", "")] == 1

    async def test_address_is_one_that_can_be_used(self, place: Target) -> None:
        """The location of a store names its schema as an address does."""
        schema = place.settings.schema
        async with at(place) as store:
            assert store.location.endswith(f"#{quote(schema)}")
            assert AsyncSeenStore(store.location).cfg.schema == schema
        default = AsyncSeenStore(SeenStoreConfig(url=place.settings.url))
        assert "#" not in default.location

    async def test_manual_rollback_leaves_unconfirmed(self, place: Target) -> None:
        """A transaction that is rolled back by hand does not confirm the claim."""
        async with at(place) as store, connected(place.settings.url) as own:
            async with store.claim("k", lease=0.2) as claim:
                transaction = own.transaction()
                await transaction.start()
                await claim.confirm(connection=own)
                await transaction.rollback()
            assert not await store.is_seen("k")
            assert (await store.claim("k", wait=30)).verdict is Verdict.RETRY

    async def test_commit_after_claim_block_confirms(self, place: Target) -> None:
        """The claim's block may end before the transaction commits."""
        async with at(place) as store, connected(place.settings.url) as own:
            async with own.transaction():
                async with store.claim("k") as claim:
                    await claim.confirm(connection=own)
                assert (await store.claim("k")).verdict is Verdict.IN_FLIGHT
            assert await store.is_seen("k")

    async def test_lost_claim_is_not_confirmed(self, place: Target) -> None:
        """A lost claim is not confirmed in a transaction, and nothing changes."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            await store.forget("k")
            async with own.transaction():
                with pytest.raises(LeaseLostError):
                    await claim.confirm(connection=own)
            assert not await store.is_seen("k")

    async def test_ttl_of_confirm_in_transaction(self, place: Target) -> None:
        """A confirm in a transaction sets the TTL of its argument."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            async with own.transaction():
                await claim.confirm(ttl=None, connection=own)
            record = await store.get("k")
            assert record is not None
            assert record.expires_at is None

    async def test_closed_store_confirms_nothing(self, place: Target) -> None:
        """A closed store confirms nothing in a transaction."""
        async with connected(place.settings.url) as own:
            async with at(place) as store:
                claim = await store.claim("k")
            async with own.transaction():
                with pytest.raises(StoreClosedError):
                    await claim.confirm(connection=own)

    async def test_lock_wait_in_transaction_is_bounded(self, place: Target) -> None:
        """A confirm in a transaction waits for a row lock until the timeout."""
        table = f'"{place.settings.schema}".seen'
        async with (
            at(place, timeout=2) as store,
            connected(place.settings.url) as own,
        ):
            claim = await store.claim("k")
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                transaction = own.transaction()
                await transaction.start()
                with pytest.raises(StoreUnavailableError):
                    async with asyncio.timeout(60):
                        await claim.confirm(connection=own)
                await transaction.rollback()
            await claim.confirm()

    async def test_lost_connection_of_the_caller(self, place: Target) -> None:
        """A connection that was lost in the transaction confirms nothing."""
        kill = "SELECT pg_terminate_backend($1)"
        async with (
            at(place) as store,
            connected(place.settings.url) as other,
            asyncpg.create_pool(place.settings.url, min_size=1) as pool,
        ):
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                async with pool.acquire() as own, own.transaction():
                    claim = await store.claim("k")
                    await other.execute(kill, own.get_server_pid())
                    while not own.is_closed():
                        await asyncio.sleep(0.01)
                    with pytest.raises(StoreUnavailableError, match="connection"):
                        await claim.confirm(connection=own)
            with pytest.raises(StoreUnavailableError, match="your connection is lost"):
                await claim.confirm(connection=own)
            assert not await store.is_seen("k")
            await claim.confirm()

    async def test_unusable_transaction_is_refused(self, place: Target) -> None:
        """A connection of another kind, or without a transaction, is refused."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            with pytest.raises(ConfigurationError, match="one of asyncpg"):
                await claim.confirm(connection="postgresql://")
            with pytest.raises(ConfigurationError, match="in a transaction"):
                await claim.confirm(connection=own)
            await claim.confirm()


@pytest.mark.parametrize("name", ["memory", "valkey"])
async def test_other_backends_refuse_transactions(
    places: Places, tmp_path: Path, name: str
) -> None:
    """Other backends refuse to confirm in a transaction."""
    with places.target(name, tmp_path / "unused") as target:
        async with AsyncSeenStore(target.config()) as store:
            claim = await store.claim("k")
            with pytest.raises(ConfigurationError, match="PostgreSQL"):
                await claim.confirm(connection=object())
            await claim.confirm()


class TestPurge:
    """Removal of expired rows."""

    async def test_background_purge_yields_to_another(self, place: Target) -> None:
        """A background purge removes nothing while another process purges."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, at(place) as another:
            await store.mark_many((f"k{n}" for n in range(2_500)), ttl=0.001)
            await asyncio.sleep(0.01)
            async with connected(place.settings.url) as other, other.transaction():
                lock = lock_id(table, "purge")
                await other.execute(f"SELECT pg_advisory_xact_lock({lock})")
                assert (
                    await store._maintenance.purge_expired(None, lock_timeout=0.1) == 0
                )
            removed = await asyncio.gather(
                store.purge_expired(), another.purge_expired()
            )
        assert sum(removed) == 2_500

    async def test_purge_skips_locked_rows(self, place: Target) -> None:
        """A purge skips locked rows; the next purge removes them."""
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=30) as store:
            await store.mark_many(["a", "b", "c"], ttl=0.001)
            await asyncio.sleep(0.01)
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} WHERE key = 'b' FOR UPDATE")
                assert await store.purge_expired() == 2
            assert await store.purge_expired() == 1


class TestFailures:
    """Servers that fail or refuse."""

    @pytest.mark.torture
    @pytest.mark.timeout(600)
    async def test_stall_never_calls_own_marks_seen(
        self, server: Postgres, fault: Fault, *, torture: bool
    ) -> None:
        """After a server stall, no new mark or claim is reported as seen."""
        row = fault("H1", "PostgreSQL stalled for 0.35 s, timeout 0.1 s")
        rounds, outcomes = 200 if torture else 5, Counter[str]()
        async with aclosing(await opened(server, timeout=0.1)) as store:
            for number in range(rounds):
                server.pause()
                stalled = asyncio.create_task(asyncio.sleep(0.35))
                stalled.add_done_callback(lambda _: server.resume())
                calls = [
                    *(store.check_and_mark(f"m{number}-{one}") for one in range(3)),
                    *(store.claim(f"c{number}-{one}") for one in range(3)),
                ]
                for answer in await asyncio.gather(*calls, return_exceptions=True):
                    verdict = getattr(answer, "verdict", type(answer).__name__)
                    outcomes[str(verdict)] += 1
                await stalled
                await until_connected(store)
        allowed = {"new", "OutcomeUnknownError", "StoreUnavailableError"}
        assert outcomes.keys() <= allowed
        row.passed(rounds)
        row.acknowledged = outcomes["new"]
        row.unknown = outcomes["OutcomeUnknownError"]
        row.note(f"own marks and claims called seen 0 of {6 * rounds:,}")

    async def test_terminated_connection_is_replaced(self, place: Target) -> None:
        """A connection that an administrator terminates is replaced silently."""
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND query LIKE '%seen%'"
        )
        async with at(place) as store, connected(place.settings.url) as other:
            for number in range(3):
                assert await store.check_and_mark(f"k{number}")
                await other.execute(end)

    async def test_closed_store_leaves_no_task(self, place: Target) -> None:
        """A closed store leaves no task in the event loop."""
        for _ in range(3):
            async with at(place) as store:
                await store.mark_seen("k")
        assert left_in_the_loop() == []

    async def test_read_only_server_serves_reads(self, server: Postgres) -> None:
        """A read-only server refuses writes with the remedy, and serves reads."""
        async with at(server) as store:
            await store.mark_seen("k")
            server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            server.execute("SELECT pg_reload_conf()")
            await until_read_only(server, "on")
            with pytest.raises(StoreUnavailableError, match="name the primary"):
                await store.check_and_mark("another")
            assert await store.is_seen("k")
            server.execute(
                "SET default_transaction_read_only = off",
                "ALTER SYSTEM RESET default_transaction_read_only",
            )
            server.execute("SELECT pg_reload_conf()")
            await until_read_only(server, "off")
            assert await store.check_and_mark("another")

    async def test_connection_limit_names_remedy(self) -> None:
        """A server at its connection limit is an error that names the setting."""
        with Postgres(
            max_connections="5",
            superuser_reserved_connections="0",
            reserved_connections="0",
        ) as server:
            others = [await asyncpg.connect(server.url) for _ in range(5)]
            with pytest.raises(StoreUnavailableError, match="max_connections"):
                await at(server).open()
            for other in others:
                await other.close()
            async with at(server) as store:
                assert await store.check_and_mark("k")

    async def test_dropped_table_is_an_error(self, place: Target) -> None:
        """A dropped table is an error: no mark is lost silently."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k")
            await other.execute(f'DROP SCHEMA "{place.settings.schema}" CASCADE')
            with pytest.raises(StoreUnavailableError, match="dropped"):
                await store.check_and_mark("k")
        async with at(place) as store:
            assert await store.check_and_mark("k")

    async def test_error_does_not_contain_the_key(self, place: Target) -> None:
        """The text of an error, which is logged, has no row that the server quotes."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, connected(place.settings.url) as other:
            claim = await store.claim("private")
            await other.execute(f"ALTER TABLE {table} ADD CHECK (key = '') NOT VALID")
            with pytest.raises(StoreUnavailableError, match="check constraint") as one:
                await claim.confirm()
            assert "private" not in str(one.value)
            with capture_logs() as logs, pytest.raises(LookupError):
                async with claim:
                    raise LookupError
        assert [log["event"] for log in logs] == ["confirm_failed"]
        assert "private" not in str(logs)

    async def test_claim_cancelled_in_lock_is_released(self, place: Target) -> None:
        """A claim that is cancelled while it waits for a row lock is released."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store:
            first = await store.claim("k")
            await first.release()
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                claiming = asyncio.ensure_future(store.claim("k"))
                await until_blocked(other)
                claiming.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await claiming
            claim = await store.claim("k", wait=30)
            assert claim.verdict is Verdict.RETRY


def test_blocking_claim_refuses_transaction(place: Target) -> None:
    """A blocking claim refuses a connection, and names AsyncSeenStore."""
    with (
        SeenStore(place.config()) as store,
        store.claim("k") as claim,
        pytest.raises(ConfigurationError, match="AsyncSeenStore"),
    ):
        claim.confirm(connection=object())
