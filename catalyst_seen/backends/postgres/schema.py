"""How a PostgreSQL schema becomes a store's: look before touching, create, refuse."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..._errors import ConfigurationError, SchemaError
from .dsn import SETTING, quoted

if TYPE_CHECKING:
    import asyncpg

SCHEMA_VERSION = 1

_FACTS = """SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS number,
    current_setting('server_encoding') AS encoding, current_database() AS database,
    host(inet_server_addr()) AS host, inet_server_port() AS port"""
# Not to_regclass: while it waits for an advisory lock, a session does not hear what
# others create.
_LOOK = """SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS is_there,
    bool_or(relname = 'seen') IS TRUE AS has_table,
    bool_or(relname = 'seen_version') IS TRUE AS has_version
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname IN ('seen', 'seen_version')"""
_VERSION = "SELECT max(version) FROM {schema}.seen_version"
_CREATE_SCHEMA = "CREATE SCHEMA {schema}"
_CREATE = """
    CREATE TABLE {schema}.seen (
        namespace text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        first_seen float8 NOT NULL,
        last_seen float8 NOT NULL,
        expires_at float8,
        token text,
        attempt integer NOT NULL DEFAULT 0,
        lease_until float8,
        on_abandoned text,
        PRIMARY KEY (namespace, id)
    );
    CREATE INDEX seen_expires_at ON {schema}.seen (expires_at)
        WHERE expires_at IS NOT NULL;
    CREATE INDEX seen_hold ON {schema}.seen (namespace, id)
        WHERE on_abandoned = 'hold';
    CREATE TABLE {schema}.seen_version (version integer NOT NULL);
    INSERT INTO {schema}.seen_version VALUES ({version})"""
# A table must not be gone after a crash, even where the newest marks may be.
_TO_DISK = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off'"""
_LOCK = "SELECT pg_advisory_xact_lock($1::bigint)"


def lock_id(name: str, purpose: str) -> int:
    """Number the advisory lock for what only one process should do at a time."""
    digest = hashlib.blake2b(f"catalyst-seen {purpose} {name}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), signed=True)


async def check_server(connection: asyncpg.Connection, oldest: int) -> asyncpg.Record:
    """Refuse a server that cannot keep what a store promises; return what it is.

    Raises:
        ConfigurationError: It is too old, or could not keep every key.
    """
    facts = await connection.fetchrow(_FACTS)
    if facts["number"] < oldest:
        raise ConfigurationError(
            "PostgreSQL",
            f"14 is needed at least, this server has {facts['version']}",
        )
    if facts["encoding"] != "UTF8":
        raise ConfigurationError(
            SETTING,
            f"the database {facts['database']} has the encoding {facts['encoding']},"
            " which cannot keep every key; name one with UTF8",
        )
    return facts


async def is_prepared(
    connection: asyncpg.Connection, schema: str, location: str
) -> bool:
    """Tell whether everything is there.

    Raises:
        SchemaError: A newer schema, or another program's table; it is untouched.
    """
    name = quoted(schema)
    there = await connection.fetchrow(_LOOK, schema)
    if not there["has_version"]:
        if there["has_table"]:
            raise SchemaError(
                location,
                f"another program's table {name}.seen",
                "It is untouched; choose another schema",
            )
        return False
    if not there["has_table"]:
        raise SchemaError(
            location,
            f"there is {name}.seen_version, but no {name}.seen",
            "It is untouched; restore the table, or choose another schema",
        )
    version = await connection.fetchval(_VERSION.format(schema=name))
    if version != SCHEMA_VERSION:
        raise SchemaError(
            location,
            f"its schema has version {version}, this release knows {SCHEMA_VERSION}",
            "It is untouched; upgrade catalyst-seen",
        )
    return True


async def create(connection: asyncpg.Connection, schema: str, location: str) -> None:
    """Create what is missing, in a transaction, unless another process was faster."""
    await connection.fetchval(_LOCK, lock_id(schema, "create"))
    if await is_prepared(connection, schema, location):
        return
    name = quoted(schema)
    await connection.execute(_TO_DISK)
    if not (await connection.fetchrow(_LOOK, schema))["is_there"]:
        await connection.execute(_CREATE_SCHEMA.format(schema=name))
    await connection.execute(_CREATE.format(schema=name, version=SCHEMA_VERSION))
