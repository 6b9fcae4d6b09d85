"""The tables of a store, in SQL, and how statements refer to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._retry import ServerClock

_SERVER_NOW = "extract(epoch FROM clock_timestamp())::float8"
"""The server's time, in seconds since 1970."""

# Text is compared by its bytes, as Python compares it, in every database.
CREATE_NAMES = """
    CREATE TABLE {schema}.namespace (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        recipe text,
        polls bigint NOT NULL DEFAULT 0,
        poll_clock float8 NOT NULL DEFAULT 0,
        first_poll float8,
        last_poll float8,
        digest bytea,
        listed bigint,
        largest bigint,
        recent_sizes text,
        baseline_at float8,
        validators text,
        poller_state text,
        last_error text,
        observation text,
        summary text,
        totals text
    )"""
CREATE_DETAILS = """
    CREATE TABLE {schema}.detail (
        namespace bigint NOT NULL,
        key text COLLATE "C" NOT NULL,
        note text,
        alias text COLLATE "C",
        digest bytea,
        last_error text,
        PRIMARY KEY (namespace, key)
    )"""
CREATE_ALIAS_INDEX = """
    CREATE INDEX detail_alias ON {schema}.detail (namespace, alias)
        WHERE alias IS NOT NULL"""
CREATE_SEQ_INDEX = """
    CREATE INDEX seen_seq ON {schema}.seen (namespace, seq) WHERE seq IS NOT NULL"""
CREATE_LISTED_INDEX = """
    CREATE INDEX seen_listed ON {schema}.seen (namespace, key)
        WHERE listed_poll IS NOT NULL AND listed_at IS NULL"""
CREATE = f"""{CREATE_NAMES};
    CREATE TABLE {{schema}}.seen (
        namespace bigint NOT NULL,
        key text COLLATE "C" NOT NULL,
        first_seen float8 NOT NULL,
        last_seen float8 NOT NULL,
        expires_at float8,
        token text,
        attempt integer NOT NULL DEFAULT 0,
        lease_until float8,
        on_abandoned text,
        seq bigint,
        listed_poll bigint,
        listed_at float8,
        kept_until float8,
        has_detail boolean NOT NULL DEFAULT false,
        PRIMARY KEY (namespace, key)
    );
    CREATE INDEX seen_expires_at ON {{schema}}.seen (expires_at)
        WHERE expires_at IS NOT NULL;
    CREATE INDEX seen_hold ON {{schema}}.seen (namespace, key)
        WHERE on_abandoned = 'hold';
    {CREATE_SEQ_INDEX};
    {CREATE_LISTED_INDEX};
    {CREATE_DETAILS};
    {CREATE_ALIAS_INDEX};
    CREATE TABLE {{schema}}.seen_version (version integer NOT NULL)"""

INDEXES = (
    ("namespace", ("id",), ""),
    ("namespace", ("name",), ""),
    ("seen", ("namespace", "key"), ""),
    ("seen", ("expires_at",), "expires_at"),
    ("seen", ("namespace", "key"), "on_abandoned"),
    ("seen", ("namespace", "seq"), "seq"),
    ("seen", ("namespace", "key"), "listed_poll"),
    ("detail", ("namespace", "key"), ""),
    ("detail", ("namespace", "alias"), "alias"),
)
"""Every index: its table, its columns, and the column in its condition, if any."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a store: their schema in SQL, and the clock of their statements."""

    schema: str
    clock: ServerClock

    @property
    def seen(self) -> str:
        """The name of the table of the keys."""
        return f"{self.schema}.seen"

    @property
    def all(self) -> list[str]:
        """The names of the tables that grow with the keys."""
        return [f"{self.schema}.{name}" for name in ("seen", "namespace", "detail")]

    def render(self, template: str, **parts: str) -> str:
        """Render a statement on these tables, with parts that are templates as well."""
        now = self.clock.override()
        clock = _SERVER_NOW if now is None else f"{now!r}::float8"
        return _render(template, self.schema, clock, tuple(parts.items()))


@lru_cache(maxsize=64)
def _render(
    template: str, schema: str, now: str, parts: tuple[tuple[str, str], ...]
) -> str:
    rendered = {name: part.format(schema=schema, now=now) for name, part in parts}
    # Without indentation: asyncpg caches only statements of up to 15 KiB.
    shorter = " ".join(template.split())
    return shorter.format(schema=schema, now=now, **rendered)
