"""The health check: server settings that lose marks, and the state of the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._types import CheckReport
from .schema import SCHEMA_VERSION
from .tables import INDEXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import asyncpg

    from .tables import Tables

_SETTINGS = """SELECT name, setting FROM pg_settings WHERE name IN
    ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum',
    'server_encoding', 'data_checksums', 'max_connections') ORDER BY name"""
_TABLES = """SELECT sum(pg_total_relation_size(made))::bigint AS bytes,
    coalesce(sum(n_live_tup), 0)::bigint AS live,
    coalesce(sum(n_dead_tup), 0)::bigint AS dead,
    (SELECT array_agg(indexrelid::regclass::text) FROM pg_index
        WHERE indrelid = ANY ($1::text[]::regclass[]) AND NOT indisvalid) AS invalid
    FROM unnest($1::text[]::regclass[]) AS made
    LEFT JOIN pg_stat_user_tables ON relid = made"""
_MANY_DEAD = 100_000
_INDEXES = """SELECT relname, array(
        SELECT attname::text FROM unnest(indkey::int[]) WITH ORDINALITY AS part(number)
            JOIN pg_attribute ON attrelid = indrelid AND attnum = number
        ORDER BY ordinality), coalesce(pg_get_expr(indpred, indrelid), '')
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE indrelid = ANY ($1::text[]::regclass[])"""
_FORBIDDEN = """SELECT current_user, string_agg(DISTINCT verb, ', ')
    FROM unnest($1::text[]) AS name,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb
    WHERE NOT has_table_privilege(name, verb)"""


async def check(
    connection: asyncpg.Connection, tables: Tables, location: str, engine: str
) -> CheckReport:
    """Check the settings and the catalogue; ``amcheck`` can verify the rows."""
    settings = dict(await connection.fetch(_SETTINGS))
    state = await connection.fetchrow(_TABLES, tables.all)
    damage = [f"index {name} is not valid" for name in state["invalid"] or ()]
    damage += _missing(await connection.fetch(_INDEXES, tables.all))
    user, forbidden = await connection.fetchrow(_FORBIDDEN, tables.all)
    return CheckReport(
        location=location,
        engine=engine,
        is_full=False,
        schema=SCHEMA_VERSION,
        settings=settings,
        integrity=tuple(damage),
        problems=(
            *damage,
            *_rights(user, forbidden, tables),
            *_risks(settings),
            *_bloat(state),
        ),
        file_bytes=state["bytes"],
    )


def _missing(found: Sequence[tuple[str, list[str], str]]) -> Iterator[str]:
    """Name the indexes that are not there, as after half of a restore."""
    for table, wanted, word in INDEXES:
        if not any(
            (table, wanted) == (name, tuple(columns))
            and (word in condition if word else not condition)
            for name, columns, condition in found
        ):
            where = f" where {word} is set" if word else ""
            yield (
                f"there is no index of {table} ({', '.join(wanted)}){where}: was a"
                " restore of it ended before its end?"
            )


def _rights(user: str, forbidden: str | None, tables: Tables) -> Iterator[str]:
    if forbidden:
        yield (
            f"the role {user} has no right to {forbidden}: let the owner execute GRANT"
            f" SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {tables.schema}"
            f" TO {user}"
        )


def _risks(settings: Mapping[str, str]) -> Iterator[str]:
    for name in ("fsync", "full_page_writes"):
        if settings.get(name) == "off":
            yield f"{name} is off: a power failure may damage the database"
    if settings.get("synchronous_commit") == "off":
        yield "synchronous_commit is off: a crash of the server loses the newest marks"
    if settings.get("autovacuum") == "off":
        yield "autovacuum is off: the table grows with every mark that expires"


def _bloat(state: Mapping[str, int]) -> Iterator[str]:
    if state["dead"] > max(state["live"], _MANY_DEAD):
        yield (
            f"{state['dead']:,} dead rows beside {state['live']:,} live ones: let"
            " autovacuum come sooner, see docs/postgresql.md"
        )
