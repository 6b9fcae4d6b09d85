"""PostgreSQL: what a check finds after a restore, and which rights a role lacks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from catalyst_seen import SchemaError, SeenStore, StoreUnavailableError
from catalyst_seen.backends.postgres.tables import CREATE, INDEXES

from ...support.postgres_stores import connected
from ...support.servers import Postgres
from ...support.targets import Target

RIGHTS = """
    CREATE SCHEMA catalyst_seen AUTHORIZATION seen_owner;
    GRANT USAGE ON SCHEMA catalyst_seen TO alerts;
    ALTER DEFAULT PRIVILEGES FOR ROLE seen_owner IN SCHEMA catalyst_seen
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO alerts;
    ALTER DEFAULT PRIVILEGES FOR ROLE seen_owner IN SCHEMA catalyst_seen
        GRANT SELECT ON SEQUENCES TO alerts"""
DUMP = ("-Fc", "-n", "catalyst_seen", "-d", "postgres", "-f")
RESTORE = ("--clean", "--if-exists", "--single-transaction", "-d", "postgres")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run a server with the roles of docs/postgresql.md."""
    with Postgres(durable=True) as server:
        server.execute("CREATE ROLE seen_owner LOGIN", "CREATE ROLE alerts LOGIN")
        server.execute("GRANT CREATE ON DATABASE postgres TO seen_owner")
        yield server


@pytest.fixture
def urls(server: Postgres) -> Iterator[tuple[str, str]]:
    """Make the schema; return the addresses for its owner and for the programs."""
    server.execute(*RIGHTS.split(";"))
    owner, alerts = (
        server.url.replace("//postgres@", f"//{role}@")
        for role in ("seen_owner", "alerts")
    )
    with SeenStore(owner):
        yield owner, alerts
    server.execute("DROP SCHEMA IF EXISTS catalyst_seen CASCADE")


def problems(url: str) -> tuple[str, ...]:
    """Return what a check finds."""
    with SeenStore(url, purge_interval=None) as store:
        return store.check().problems


def test_restored_in_one_step(
    server: Postgres, urls: tuple[str, str], tmp_path: Path
) -> None:
    """The restore of the documents brings rows and rights, also beside a program."""
    dump, (_, url) = str(tmp_path / "dump"), urls
    with SeenStore(url) as store:
        store.mark_many(["a", "b"])
    server.run("pg_dump", *DUMP, dump, user="seen_owner")
    with SeenStore(url, purge_interval=None) as store:
        store.mark_many(["late"])
        server.run("pg_restore", *RESTORE, dump, user="seen_owner")
        assert store.count() == 2
        assert store.check_and_mark("new")
    assert problems(url) == ()
    server.execute("DROP SCHEMA catalyst_seen CASCADE")  # it may be lost as a whole
    server.run("pg_restore", *RESTORE, dump, user="seen_owner")
    assert problems(url) == ()


def test_half_restored(server: Postgres, urls: tuple[str, str], tmp_path: Path) -> None:
    """A restore that broke off is named, whether before the rows or the indexes."""
    dump, (_, url) = str(tmp_path / "dump"), urls
    server.run("pg_dump", *DUMP, dump, user="seen_owner")
    server.execute("DROP SCHEMA catalyst_seen CASCADE")
    server.run("pg_restore", "--section=pre-data", "-d", "postgres", dump)
    with (
        pytest.raises(SchemaError, match="a restore has not ended, or has failed"),
        SeenStore(url),
    ):
        pass
    server.run("pg_restore", "--section=data", "-d", "postgres", dump)
    found = problems(url)
    assert len(found) == len(INDEXES)
    assert all("was a restore of it ended before its end?" in one for one in found)
    assert found[2].startswith("there is no index of seen (namespace, key): ")
    server.run("pg_restore", "--section=post-data", "-d", "postgres", dump)
    assert problems(url) == ()


def test_every_index_is_known(server: Postgres, urls: tuple[str, str]) -> None:
    """Each index that a store makes is missed when it is gone."""
    made = len(re.findall(r"CREATE INDEX|PRIMARY KEY|UNIQUE", CREATE))
    assert len(INDEXES) == made == 9
    [rows] = server.execute(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'catalyst_seen'"
    )
    named = [str(name) for (name,) in rows]
    assert len(named) == made
    for name in named:
        kind = "CONSTRAINT" if name.endswith(("_pkey", "_name_key")) else "INDEX"
        drop = f"DROP INDEX catalyst_seen.{name}"
        if kind == "CONSTRAINT":
            table = name.partition("_")[0]
            drop = f"ALTER TABLE catalyst_seen.{table} DROP CONSTRAINT {name}"
        before = len(problems(urls[1]))
        server.execute(drop)
        assert len(problems(urls[1])) == before + 1, name


def test_rights(server: Postgres, urls: tuple[str, str]) -> None:
    """A role that may only read is told what it lacks, before it marks anything."""
    assert problems(urls[1]) == ()
    server.execute("REVOKE SELECT ON ALL TABLES IN SCHEMA catalyst_seen FROM alerts")
    with pytest.raises(StoreUnavailableError, match='ON SCHEMA "catalyst_seen" TO'):
        problems(urls[1])
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA catalyst_seen TO alerts")
    server.execute(
        "REVOKE INSERT, DELETE ON ALL TABLES IN SCHEMA catalyst_seen FROM alerts"
    )
    (problem,) = problems(urls[1])
    assert problem.startswith("the role alerts has no right to DELETE, INSERT: let ")
    server.execute(problem.partition("execute ")[2])
    assert problems(urls[1]) == ()


def test_new_schema_is_logged(place: Target) -> None:
    """A schema that was made is logged once, as a file that was made is."""
    for expected in (["store_created"], []):
        with capture_logs() as logs, SeenStore(place.config()) as store:
            location = store.location
        assert [log["event"] for log in logs] == expected
        assert all(log["location"] == location for log in logs)


async def test_connections_are_named(place: Target) -> None:
    """The server shows program and process, or what the URL says."""
    query = (
        "SELECT application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
    own = f"{Path(sys.argv[0]).name[:40]} {os.getpid()}"
    url = str(place.settings.url)
    async with connected(url) as other:
        for given, name in (("", own), ("?application_name=bot", "bot")):
            with SeenStore(place.config(url=url + given)) as store:
                store.mark_seen("k")
                assert name in {row[0] for row in await other.fetch(query)}
