"""The schema of a store: recognise it, create or upgrade it, refuse any other."""

from __future__ import annotations

import hashlib

import asyncpg

from ..._errors import ConfigurationError, SchemaError, StoreUnavailableError
from .dsn import SETTING, quote_identifier
from .tables import CREATE
from .upgrade import upgrade

SCHEMA_VERSION = 4
"""The version of the schema. Versions 2 and 3 were only SQLite's."""

_SERVER = """SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS number,
    current_setting('server_encoding') AS encoding, current_database() AS database,
    host(inet_server_addr()) AS host, inet_server_port() AS port"""
# to_regclass reads a cache, which a session that waits for an advisory lock does not
# invalidate: it would miss the table that the holder of the lock creates.
_FIND = """SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS has_schema,
    ARRAY(SELECT relname::text FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = $1
            AND relname IN ('seen', 'seen_version', 'namespace', 'detail')) AS tables"""
_TABLES: dict[int | None, set[str]] = {
    None: set(),
    1: {"seen"},
    SCHEMA_VERSION: {"detail", "namespace", "seen"},
}
"""The tables of each version that this release knows, beside ``seen_version``."""

_VERSION = "SELECT max(version) FROM {schema}.seen_version"
_SET_VERSION = """DELETE FROM {schema}.seen_version;
    INSERT INTO {schema}.seen_version VALUES ({version})"""
_CREATE_SCHEMA = "CREATE SCHEMA {schema}"
# With synchronous_commit off, a crash may lose the newest marks, but never the table.
_FORCE_DURABLE_COMMIT = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off'"""
_GRANT_ON_DATABASE = """SELECT format(
    'GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)"""
_GRANT_ON_SCHEMA = """SELECT format(
    'GRANT USAGE, CREATE ON SCHEMA %I TO %I', $1::text, current_user)"""
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


async def find_version(
    connection: asyncpg.Connection, schema: str, location: str
) -> int | None:
    """Return the version of the schema; ``None`` if there is none.

    Raises:
        SchemaError: A newer schema, or another program's table; it is untouched.
    """
    name = quote_identifier(schema)
    found, version = await _read(connection, schema)
    if found != _TABLES.get(version):
        # Another process may have upgraded the schema between the two queries.
        found, version = await _read(connection, schema)
    expected = _TABLES.get(version)
    if version == 0:
        raise SchemaError(
            location,
            f"{name}.seen_version is empty: a restore has not ended, or has failed",
            "Wait for its end, or restore it again",
        )
    if expected is None:
        raise SchemaError(
            location,
            f"its schema has version {version}, this release knows {SCHEMA_VERSION}",
            "It is untouched; upgrade catalyst-seen",
        )
    for table in sorted(found - expected):
        raise SchemaError(
            location,
            f"another program's table {name}.{table}",
            "It is untouched; choose another schema",
        )
    for table in sorted(expected - found):
        raise SchemaError(
            location,
            f"there is {name}.seen_version, but no {name}.{table}",
            "It is untouched; restore the table, or choose another schema",
        )
    return version


async def _read(
    connection: asyncpg.Connection, schema: str
) -> tuple[set[str], int | None]:
    """Return the tables of a store that are there, and their version."""
    tables = {*(await connection.fetchrow(_FIND, schema))["tables"]}
    if "seen_version" not in tables:
        return tables, None
    statement = _VERSION.format(schema=quote_identifier(schema))
    return tables - {"seen_version"}, await connection.fetchval(statement) or 0


async def create_or_upgrade(
    connection: asyncpg.Connection, schema: str, location: str
) -> int | None:
    """Create or upgrade the schema in a transaction, unless another process has.

    Returns:
        The version that was found; ``None`` for no schema.

    Raises:
        StoreUnavailableError: The user has no right to create it.
    """
    await connection.fetchval(_LOCK, lock_id(schema, "create"))
    version = await find_version(connection, schema, location)
    if version == SCHEMA_VERSION:
        return version
    name = quote_identifier(schema)
    await connection.execute(_FORCE_DURABLE_COMMIT)
    if version is not None:
        await upgrade(connection, name)
    else:
        await _create(connection, schema, location)
    await connection.execute(_SET_VERSION.format(schema=name, version=SCHEMA_VERSION))
    return version


async def _create(connection: asyncpg.Connection, schema: str, location: str) -> None:
    """Create the schema, unless it is there, and the tables.

    Raises:
        StoreUnavailableError: The user has no right to do so.
    """
    name = quote_identifier(schema)
    if (await connection.fetchrow(_FIND, schema))["has_schema"]:
        grant = await connection.fetchval(_GRANT_ON_SCHEMA, schema)
        statements = CREATE.format(schema=name)
    else:
        grant = await connection.fetchval(_GRANT_ON_DATABASE)
        statements = f"{_CREATE_SCHEMA};{CREATE}".format(schema=name)
    try:
        await connection.execute(statements)
    except asyncpg.InsufficientPrivilegeError as exc:
        raise StoreUnavailableError(
            location,
            f"{exc.args[0]} ({type(exc).__name__})",
            f"Let its owner execute {grant}; or let the owner open the store once, and"
            " grant the rights on its tables",
        ) from exc
