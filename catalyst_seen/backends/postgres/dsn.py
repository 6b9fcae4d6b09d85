"""What things in PostgreSQL are called, for its SQL and for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..._errors import ConfigurationError

if TYPE_CHECKING:
    import asyncpg

SETTING = "url (SEEN_STORE_URL)"

_HOSTS = re.compile(r"(?:(?:[^:,\[\]]*|\[[^\[\]]*\])(?::\d+)?(?:,|$))*")


def quoted(schema: str) -> str:
    """Write the name of a schema as SQL has it."""
    return '"' + schema.replace('"', '""') + '"'


def describe(url: str, schema: str) -> str:
    """Say where a URL leads, for people: without user and password.

    Raises:
        ConfigurationError: It cannot be told where the password ends. The URL is not
            repeated.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise bad_url() from None
    hosts = parts.netloc.rpartition("@")[2]
    is_clear = "@" not in parts.path and parts.netloc.count("@") == min(
        url.count("@"), 1
    )
    if parts.fragment or not is_clear or not _HOSTS.fullmatch(hosts):
        raise bad_url()
    database = unquote(parts.path[1:]) or options.get("dbname", options.get("database"))
    more = {key: options[key] for key in ("host", "port") if key in options}
    return _location(hosts, database or "", schema, **more)


def located(facts: asyncpg.Record, schema: str) -> str:
    """Say where a server is, for people, by what it says itself."""
    host = facts["host"] or ""
    if host:
        host = f"[{host}]" if ":" in host else host
        host = f"{host}:{facts['port']}"
    return _location(host, facts["database"], schema)


def _location(hosts: str, database: str, schema: str, **options: str) -> str:
    options["schema"] = schema
    query = "&".join(
        f"{key}={quote(value, safe='/,:')}" for key, value in options.items()
    )
    return f"postgresql://{hosts}/{quote(database)}?{query}"


def bad_url() -> ConfigurationError:
    """Refuse a URL without repeating it: it may hold a password."""
    return ConfigurationError(
        SETTING,
        "asyncpg can make nothing of it; it must be like"
        " postgresql://user:password@host:5432/database, with options that libpq has,"
        " and with %40, %3A, %2F, %3F, %23 and %25 for @, :, /, ?, # and % in the user"
        " or the password",
    )
