"""The schema of a store: recognise it, create it, refuse any other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..._errors import ConfigurationError, SchemaError
from .dsn import SETTING, quote_identifier

if TYPE_CHECKING:
    import asyncpg

SCHEMA_VERSION = 1

_SERVER = """SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS number,
    current_setting('server_encoding') AS encoding, current_database() AS database,
    host(inet_server_addr()) AS host, inet_server_port() AS port"""
# to_regclass reads a cache, which a session that waits for an advisory lock does not
# invalidate: it would miss the table that the holder of the lock creates.
_FIND = """SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS has_schema,
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
# With synchronous_commit off, a crash may lose the newest marks, but never the table.
_FORCE_DURABLE_COMMIT = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off'"""
_LOCK = "SELECT pg_advisory_xact_lock($1::bigint)"


def lock_id(name: str, purpose: str) -> int:
    """Return the number of the advisory lock that serialises a task on a table."""
    digest = hashlib.blake2b(f"catalyst-seen {purpose} {name}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), signed=True)


async def check_server(connection: asyncpg.Connection, oldest: int) -> asyncpg.Record:
    """Return version, encoding and address of a server, if a store can use it.

    Raises:
        ConfigurationError: The server is too old, or its encoding lacks characters.
    """
    server = await connection.fetchrow(_SERVER)
    if server["number"] < oldest:
        raise ConfigurationError(
            "PostgreSQL",
            f"14 is needed at least, this server has {server['version']}",
        )
    if server["encoding"] != "UTF8":
        raise ConfigurationError(
            SETTING,
            f"the database {server['database']} has the encoding {server['encoding']},"
            " which cannot keep every key; name one with UTF8",
        )
    return server


async def is_created(
    connection: asyncpg.Connection, schema: str, location: str
) -> bool:
    """Check the version of the schema; false if there is none.

    Raises:
        SchemaError: A newer schema, or another program's table; it is untouched.
    """
    name = quote_identifier(schema)
    found = await connection.fetchrow(_FIND, schema)
    if not found["has_version"]:
        if found["has_table"]:
            raise SchemaError(
                location,
                f"another program's table {name}.seen",
                "It is untouched; choose another schema",
            )
        return False
    if not found["has_table"]:
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
    """Create the schema in a transaction, unless another process has created it."""
    await connection.fetchval(_LOCK, lock_id(schema, "create"))
    if await is_created(connection, schema, location):
        return
    name = quote_identifier(schema)
    await connection.execute(_FORCE_DURABLE_COMMIT)
    if not (await connection.fetchrow(_FIND, schema))["has_schema"]:
        await connection.execute(_CREATE_SCHEMA.format(schema=name))
    await connection.execute(_CREATE.format(schema=name, version=SCHEMA_VERSION))
