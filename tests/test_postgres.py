"""What only PostgreSQL can do to a store; a real server, real faults."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    LeaseLostError,
    OutcomeUnknownError,
    SchemaError,
    SeenStore,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends import _postgres_schema
from catalyst_seen.backends._postgres_schema import create, lock_id
from catalyst_seen.backends.postgres import PostgresBackend

from .conftest import Fault, Run
from .servers import HOST, Postgres, free_port
from .targets import Places, Target

SECRET = "s3cret-w0rd"  # noqa: S105 - of a server that lives for a test
SOON = 10.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test's own, which keeps what it has acknowledged."""
    with Postgres(durable=True) as made:
        yield made


def at(place: Target | Postgres, **settings: object) -> AsyncSeenStore:
    """A store on a server, without a purge or a memory."""
    config = {
        "purge_interval": None,
        "recent_staleness": 0,
        "timeout": SOON,
        **settings,
    }
    if isinstance(place, Postgres):
        return AsyncSeenStore(SeenStoreConfig(url=place.url, **config))  # type: ignore[arg-type]
    return AsyncSeenStore(place.config(**config))


@asynccontextmanager
async def connected(url: str | None) -> AsyncIterator[asyncpg.Connection]:
    """A connection of another program."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class TestOpening:
    """How a schema becomes a store's."""

    async def test_eight_at_once(self, place: Target, run_script: Run) -> None:
        """Of eight processes that open an empty database at once, all can use it."""
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
            str(place.settings.url), place.settings.schema,
        )  # fmt: skip
        assert done.stdout.strip() == str([0] * 8), done.stderr
        async with at(place) as store:
            assert await store.count() == 8

    async def test_newer_schema(self, place: Target) -> None:
        """A schema of a later release is refused, untouched."""
        async with at(place) as store:
            await store.mark_seen("k")
        table = f'"{place.settings.schema}".seen_version'
        async with connected(place.settings.url) as other:
            await other.execute(f"UPDATE {table} SET version = 99")
            with pytest.raises(SchemaError, match=r"version 99.*upgrade"):
                await at(place).open()
            await other.execute(f"UPDATE {table} SET version = 1")
        async with at(place) as store:
            assert await store.is_seen("k")

    async def test_foreign_table(self, place: Target) -> None:
        """Another program's table of the same name is refused, untouched."""
        schema = f'"{place.settings.schema}"'
        async with connected(place.settings.url) as other:
            await other.execute(
                f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.seen (x text)"
            )
            with pytest.raises(SchemaError, match="choose another schema"):
                await at(place).open()

    async def test_half_a_schema(self, place: Target) -> None:
        """A version without a table is refused: an empty one would call all new."""
        async with at(place) as store:
            await store.mark_seen("k")
        table = f'"{place.settings.schema}".seen'
        async with connected(place.settings.url) as other:
            await other.execute(f"DROP TABLE {table}")
            with pytest.raises(SchemaError, match="restore the table"):
                await at(place).open()

    async def test_half_created(
        self, place: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A schema is created whole, or not at all."""
        monkeypatch.setattr(_postgres_schema, "_CREATE", "SELECT 1 / 0")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await at(place).open()
        async with connected(place.settings.url) as other:
            there = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"
            assert await other.fetchval(there, place.settings.schema) == 0

    async def test_created_meanwhile(self, place: Target) -> None:
        """Who opens while another one creates waits, and creates nothing itself."""
        store = at(place)
        async with connected(place.settings.url) as other:
            async with other.transaction():
                await create(other, place.settings.schema, "here")
                opening = asyncio.create_task(store.open())
                await asyncio.sleep(0.2)
                assert not opening.done()
            await opening
        assert await store.check_and_mark("k")
        await store.aclose()

    async def test_schema_is_there(self, place: Target) -> None:
        """A schema that is there and empty is used: the role may not create one."""
        async with connected(place.settings.url) as other:
            await other.execute(f'CREATE SCHEMA "{place.settings.schema}"')
        async with at(place) as store:
            assert await store.check_and_mark("k")

    async def test_few_rights(self, place: Target) -> None:
        """A role that may only use the table can, once another one has made it."""
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
            config = place.config(url=config.url, schema="not_mine")
            with pytest.raises(StoreUnavailableError, match="Grant"):
                await AsyncSeenStore(config).open()
            await other.execute("DROP OWNED BY poller; DROP ROLE poller")

    async def test_nobody_there(self) -> None:
        """An address where nobody answers is said at once."""
        url = f"postgresql://me:{SECRET}@{HOST}:{free_port()}/db"
        store = AsyncSeenStore(url)
        async with asyncio.timeout(25):  # the timeout of the store is 30 seconds
            with pytest.raises(StoreUnavailableError) as caught:
                await store.open()
        assert SECRET not in f"{caught.value!r} {caught.value} {store!r}"

    async def test_wrong_database(self, place: Target) -> None:
        """A database that is not there is said at once."""
        url = str(place.settings.url).removesuffix("/postgres") + "/nowhere"
        with pytest.raises(StoreUnavailableError, match="Create the database"):
            await AsyncSeenStore(url).open()

    async def test_old_server(
        self, place: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that is too old is refused."""
        monkeypatch.setattr(_postgres_schema, "_OLDEST_SERVER", 10**9)
        with pytest.raises(ConfigurationError, match="14 is needed"):
            await at(place).open()

    async def test_encoding(self, place: Target) -> None:
        """A database that could not keep every key is refused."""
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

    async def test_passwords(self) -> None:
        """A wrong password is said at once; neither it nor the right one appears."""
        with Postgres() as server:
            server.execute(f"ALTER ROLE postgres PASSWORD '{SECRET}'")
            data = server._data / "pg_hba.conf"
            data.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            right = f"postgresql://postgres:{SECRET}@{HOST}:{server.port}/postgres"
            wrong = right.replace(SECRET, "another")
            server.stop()
            server.start()
            with pytest.raises(StoreUnavailableError, match="password") as caught:
                await AsyncSeenStore(wrong).open()
            assert "another" not in f"{caught.value!r} {caught.value}"
            config = SeenStoreConfig(url=right, timeout=3, purge_interval=None)
            with capture_logs() as logs:
                async with AsyncSeenStore(config) as store:
                    assert await store.check_and_mark("k")
                    server.kill()
                    with pytest.raises(StoreUnavailableError) as caught:
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
    async def test_bad_url(self, url: str) -> None:
        """A URL of which asyncpg can make nothing is refused without showing it."""
        with pytest.raises(ConfigurationError, match="must be like") as caught:
            await AsyncSeenStore(url.format(SECRET)).open()
        assert SECRET not in f"{caught.value} {caught.value.__cause__!r}"

    async def test_blocking_twin(self, place: Target) -> None:
        """SeenStore takes the same URLs."""
        with SeenStore(place.config()) as store:
            assert store.check_and_mark("k")
            assert not store.check_and_mark("k")

    async def test_socket(self, places: Places, place: Target) -> None:
        """A socket in the file system will do."""
        async with AsyncSeenStore(
            place.config(url=places.postgres.socket_url)
        ) as store:
            assert await store.check_and_mark("k")


class TestRoundTrips:
    """Group commit, to a server."""

    async def test_one_for_many(self, place: Target) -> None:
        """What a hundred tasks ask at once is one statement, or two."""
        said: list[str] = []

        async def listen(connection: asyncpg.Connection) -> None:
            connection.add_query_logger(lambda record: said.append(record.query))

        async with asyncpg.create_pool(
            place.settings.url, min_size=1, max_size=2, init=listen
        ) as pool:
            config = place.config(purge_interval=None)
            async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
                await store.check_and_mark("before")
                said.clear()
                marks = (store.check_and_mark(f"k{number}") for number in range(100))
                claims = (store.claim(f"c{number}") for number in range(100))
                assert all(await asyncio.gather(*marks, *claims))
                assert 1 <= sum("unnest" in query for query in said) <= 2

    async def test_duplicates_write_nothing(self, place: Target) -> None:
        """A duplicate, and a claim that is not given, write nothing, lock nothing."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k")
            await store.claim("c")
            before = await other.fetchval("SELECT pg_current_wal_insert_lsn()")
            for _ in range(10):
                assert not await store.check_and_mark("k")
                assert not await store.claim("c")
                assert not await store.filter_new(["k"])
            assert await other.fetchval("SELECT pg_current_wal_insert_lsn()") == before

    async def test_repeated_keys(self, place: Target) -> None:
        """A batch that asks for a key again and again changes it step by step."""
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
    """Many processes, one table."""

    @pytest.mark.torture
    async def test_opposite_batches(self, place: Target, fault: Fault) -> None:
        """Batches in opposite order wait for each other, and never for ever."""
        row = fault("H8", "PostgreSQL, batches of 500 keys in opposite order")
        keys = [f"k{number}" for number in range(500)]
        async with at(place, timeout=20) as one, at(place, timeout=20) as other:
            for round_ in range(10):
                namespace = f"n{round_}"
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

    async def test_new_keys(self, place: Target) -> None:
        """Of four stores that mark the same new keys at once, one wins each key."""
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

    async def test_insert_under_way(self, place: Target) -> None:
        """Who meets an insert that is not committed waits for what becomes of it."""
        table = f'"{place.settings.schema}".seen'
        insert = f"INSERT INTO {table} VALUES ('', $1, 1e9, 1e9)"
        async with at(place) as store, connected(place.settings.url) as other:
            for key, end, verdict in (
                ("kept", "COMMIT", Verdict.DUPLICATE),
                ("gone", "ROLLBACK", Verdict.NEW),
            ):
                await other.execute("BEGIN")
                await other.execute(insert, key)
                marking = asyncio.create_task(store.check_and_mark(key))
                await until_waiting(other)
                assert not marking.done()
                await other.execute(end)
                assert (await marking).verdict is verdict

    @pytest.mark.torture
    async def test_lock_timeout(self, place: Target, fault: Fault) -> None:
        """Who holds a row for too long is told of; nothing was stored."""
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


async def until_waiting(connection: asyncpg.Connection) -> None:
    """Wait until another connection waits for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'"
    )
    async with asyncio.timeout(60):
        while not await connection.fetchval(query):
            await asyncio.sleep(0.005)
            await connection.execute("SELECT pg_stat_clear_snapshot()")


async def until_shown(server: Postgres, value: str) -> None:
    """Wait until new connections to a server are read-only, or are not."""
    async with asyncio.timeout(60):
        while server.execute("SHOW default_transaction_read_only") != [[(value,)]]:
            await asyncio.sleep(0.01)


async def opened(server: Postgres, patience: float) -> AsyncSeenStore:
    """Open a store whose timeout may be too short for that on a busy machine."""
    async with asyncio.timeout(60):
        while True:
            store = at(server, timeout=patience)
            try:
                await store.open()
            except StoreUnavailableError:
                continue
            return store


async def until_connected(store: AsyncSeenStore) -> None:
    """Ask until there is an answer: the next stall is to meet a connection."""
    async with asyncio.timeout(60):
        while True:
            try:
                await store.get("nobody's")
            except StoreUnavailableError:
                continue
            return


def left_in_the_loop() -> list[str]:
    """What stores have under way in this loop."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if "catalyst" in name]


def places_log(place: Target) -> str:
    """What the server that tests share has said."""
    server = getattr(place.wipe, "func", None)
    return str(server.__self__.log) if server else ""


class TestTransaction:
    """claim.confirm(connection=…)."""

    async def test_commit_and_rollback(self, place: Target) -> None:
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

    async def test_rolled_back_without_exception(self, place: Target) -> None:
        """A block whose transaction was rolled back by hand does not confirm."""
        async with at(place) as store, connected(place.settings.url) as own:
            async with store.claim("k", lease=0.2) as claim:
                transaction = own.transaction()
                await transaction.start()
                await claim.confirm(connection=own)
                await transaction.rollback()
            assert not await store.is_seen("k")
            assert (await store.claim("k", wait=30)).verdict is Verdict.RETRY

    async def test_outer_transaction(self, place: Target) -> None:
        """A block inside the transaction ends at once; the commit may come later."""
        async with at(place) as store, connected(place.settings.url) as own:
            async with own.transaction():
                async with store.claim("k") as claim:
                    await claim.confirm(connection=own)
                assert (await store.claim("k")).verdict is Verdict.IN_FLIGHT
            assert await store.is_seen("k")

    async def test_lost(self, place: Target) -> None:
        """A claim that is lost is not confirmed, and nothing is changed."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            await store.forget("k")
            async with own.transaction():
                with pytest.raises(LeaseLostError):
                    await claim.confirm(connection=own)
            assert not await store.is_seen("k")

    async def test_ttl_within(self, place: Target) -> None:
        """A TTL counts in a transaction as well."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            async with own.transaction():
                await claim.confirm(ttl=None, connection=own)
            record = await store.get("k")
            assert record is not None
            assert record.expires_at is None

    async def test_closed_within(self, place: Target) -> None:
        """A store that was closed confirms nothing in a transaction either."""
        async with connected(place.settings.url) as own:
            async with at(place) as store:
                claim = await store.claim("k")
            async with own.transaction():
                with pytest.raises(StoreClosedError):
                    await claim.confirm(connection=own)

    async def test_locked_within(self, place: Target) -> None:
        """In a transaction of the caller's a lock is not waited for for ever."""
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

    async def test_misuse(self, place: Target) -> None:
        """What is no connection in a transaction is refused."""
        async with at(place) as store, connected(place.settings.url) as own:
            claim = await store.claim("k")
            with pytest.raises(ConfigurationError, match="one of asyncpg"):
                await claim.confirm(connection="postgresql://")
            with pytest.raises(ConfigurationError, match="in a transaction"):
                await claim.confirm(connection=own)
            await claim.confirm()


@pytest.mark.parametrize("name", ["memory", "valkey"])
async def test_transaction_elsewhere(places: Places, tmp_path: Path, name: str) -> None:
    """Other backends say that they cannot confirm in a transaction."""
    with places.target(name, tmp_path / "unused") as target:
        async with AsyncSeenStore(target.config()) as store:
            claim = await store.claim("k")
            with pytest.raises(ConfigurationError, match="PostgreSQL"):
                await claim.confirm(connection=object())
            await claim.confirm()


class TestPurge:
    """Removing what has expired."""

    async def test_one_at_a_time(self, place: Target) -> None:
        """While another process purges, one in the background leaves it to that one."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store, at(place) as another:
            await store.mark_many((f"k{n}" for n in range(2_500)), ttl=0.001)
            await asyncio.sleep(0.01)
            async with connected(place.settings.url) as other, other.transaction():
                lock = lock_id(table, "purge")
                await other.execute(f"SELECT pg_advisory_xact_lock({lock})")
                assert await store._purge.expired(None, patience=0.1) == 0
            removed = await asyncio.gather(
                store.purge_expired(), another.purge_expired()
            )
        assert sum(removed) == 2_500

    async def test_skips_locked(self, place: Target) -> None:
        """A row that somebody holds is left for the next purge."""
        table = f'"{place.settings.schema}".seen'
        async with at(place, timeout=30) as store:
            await store.mark_many(["a", "b", "c"], ttl=0.001)
            await asyncio.sleep(0.01)
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} WHERE id = 'b' FOR UPDATE")
                assert await store.purge_expired() == 2
            assert await store.purge_expired() == 1


class TestFailures:
    """A server that is gone, or says no."""

    @pytest.mark.torture
    @pytest.mark.timeout(600)
    async def test_stalled(
        self, server: Postgres, fault: Fault, *, torture: bool
    ) -> None:
        """A server that stalls longer than a call waits calls nothing of ours seen."""
        row = fault("H1", "PostgreSQL stalled for 0.35 s, timeout 0.1 s")
        rounds, outcomes = 200 if torture else 5, Counter[str]()
        async with aclosing(await opened(server, 0.1)) as store:
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

    async def test_backend_terminated(self, place: Target) -> None:
        """A connection that an administrator ends is made again, and nobody notices."""
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND query LIKE '%seen%'"
        )
        async with at(place) as store, connected(place.settings.url) as other:
            for number in range(3):
                assert await store.check_and_mark(f"k{number}")
                await other.execute(end)

    async def test_nothing_stays_in_the_loop(self, place: Target) -> None:
        """A store that is closed leaves no task behind."""
        for _ in range(3):
            async with at(place) as store:
                await store.mark_seen("k")
        assert left_in_the_loop() == []

    async def test_read_only(self, server: Postgres) -> None:
        """A server that only reads, as a replica does, says so; reads are answered."""
        async with at(server) as store:
            await store.mark_seen("k")
            server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            server.execute("SELECT pg_reload_conf()")
            await until_shown(server, "on")
            with pytest.raises(StoreUnavailableError, match="name the primary"):
                await store.check_and_mark("another")
            assert await store.is_seen("k")
            server.execute(
                "SET default_transaction_read_only = off",
                "ALTER SYSTEM RESET default_transaction_read_only",
            )
            server.execute("SELECT pg_reload_conf()")
            await until_shown(server, "off")
            assert await store.check_and_mark("another")

    async def test_too_many_connections(self) -> None:
        """A server without a free connection says so."""
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

    async def test_dropped(self, place: Target) -> None:
        """A table that was dropped is said; nothing is marked into nowhere."""
        async with at(place) as store, connected(place.settings.url) as other:
            await store.mark_seen("k")
            await other.execute(f'DROP SCHEMA "{place.settings.schema}" CASCADE')
            with pytest.raises(StoreUnavailableError, match="dropped"):
                await store.check_and_mark("k")
        async with at(place) as store:
            assert await store.check_and_mark("k")

    async def test_cancelled_claim(self, place: Target) -> None:
        """A claim that is cancelled while it waits for a lock is given back."""
        table = f'"{place.settings.schema}".seen'
        async with at(place) as store:
            first = await store.claim("k")
            await first.release()
            async with connected(place.settings.url) as other, other.transaction():
                await other.execute(f"SELECT 1 FROM {table} FOR UPDATE")
                claiming = asyncio.ensure_future(store.claim("k"))
                await until_waiting(other)
                claiming.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await claiming
            claim = await store.claim("k", wait=30)
            assert claim.verdict is Verdict.RETRY


def test_transaction_of_a_blocking_store(place: Target) -> None:
    """A blocking claim says that only an asynchronous one can do that."""
    with (
        SeenStore(place.config()) as store,
        store.claim("k") as claim,
        pytest.raises(ConfigurationError, match="AsyncSeenStore"),
    ):
        claim.confirm(connection=object())
