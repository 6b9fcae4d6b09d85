"""The upgrade of a schema of version 1, in place and in one transaction.

The table ``seen`` stays the same object, with its owner, grants and storage settings.
It is rewritten once. Batches of earlier releases wait for the lock on it, and fail
afterwards, because their statements refer to a column that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import tables

if TYPE_CHECKING:
    import asyncpg

# The expression of a column type may not contain a subquery, and a constant with all
# names is searched by bisection. The columns are in the order of a new table.
_REWRITE = """SELECT format('ALTER TABLE {text}.seen
        ALTER COLUMN namespace TYPE bigint USING (%L::jsonb ->> namespace)::bigint,
        ADD COLUMN seq bigint,
        ADD COLUMN listed_poll bigint,
        ADD COLUMN listed_at float8,
        ADD COLUMN kept_until float8,
        ADD COLUMN has_detail boolean NOT NULL DEFAULT false',
    coalesce(jsonb_object_agg(name, id), '{{}}')) FROM {schema}.namespace"""
# The upgrade may be made by another role than the owner, such as a superuser.
_OWN = """SELECT format('ALTER TABLE {text}.%I OWNER TO %I', made,
        pg_get_userbyid(relowner))
    FROM pg_class CROSS JOIN unnest(ARRAY['namespace', 'detail']) AS made
    WHERE pg_class.oid = '{literal}.seen'::regclass
        AND pg_get_userbyid(relowner) <> current_user"""
# Who may use the keys may use their namespaces and details.
_GRANT = """SELECT format('GRANT %s ON {text}.namespace, {text}.detail TO %s%s',
        privilege_type,
        CASE grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class CROSS JOIN aclexplode(relacl)
    WHERE pg_class.oid = '{literal}.seen'::regclass AND grantee <> relowner"""
STEPS = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL enable_seqscan = on",
    "LOCK TABLE {schema}.seen IN ACCESS EXCLUSIVE MODE",
    tables.CREATE_NAMES,
    """INSERT INTO {schema}.namespace (name)
        SELECT DISTINCT namespace FROM {schema}.seen ORDER BY namespace""",
    "ALTER TABLE {schema}.seen RENAME COLUMN id TO key",
    _REWRITE,
    tables.CREATE_SEQ_INDEX,
    tables.CREATE_LISTED_INDEX,
    tables.CREATE_DETAILS,
    tables.CREATE_ALIAS_INDEX,
    _OWN,
    _GRANT,
)
"""Statements, one after the other. Each row that one returns is a statement as well."""


async def upgrade(connection: asyncpg.Connection, schema: str) -> None:
    """Upgrade from version 1, but for the version, in the caller's transaction.

    Args:
        connection: The connection, which holds the lock of ``create_or_upgrade``.
        schema: The schema, quoted.
    """
    literal = schema.replace("'", "''")
    names = {
        "schema": schema,
        "literal": literal,
        "text": literal.replace("%", "%%"),
    }
    for step in STEPS:
        for (statement,) in await connection.fetch(step.format(**names)):
            await connection.execute(statement)
