"""Identifiers in SQL, and locations for people: without user and password."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..._config import SeenStoreConfig
from .._urls import bad_url, check_address, check_no_name

if TYPE_CHECKING:
    import asyncpg

    from ..._errors import ConfigurationError

SETTING = "url"

_HOSTS = re.compile(r"(?:(?:[^:,\[\]]*|\[[^\[\]]*\])(?::\d+)?(?:,|$))*")


def quote_identifier(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def redact(url: str, schema: str) -> str:
    """Return the location that a URL names, without user and password.

    Raises:
        ConfigurationError: There is a ``#``, the end of the password is ambiguous, or a
            host or a port is invalid.
    """
    check_no_name(url)
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise invalid_url(url) from None
    hosts = parts.netloc.rpartition("@")[2]
    is_unambiguous = "@" not in parts.path and parts.netloc.count("@") == min(
        url.count("@"), 1
    )
    if not is_unambiguous or not _HOSTS.fullmatch(hosts):
        raise invalid_url(url)
    check_address(url)
    database = unquote(parts.path[1:]) or options.get("dbname", options.get("database"))
    more = {key: options[key] for key in ("host", "port") if key in options}
    return _location(hosts, database or "", schema, **more)


def server_location(server: asyncpg.Record, schema: str) -> str:
    """Return the location of a server from the address that the server reports."""
    host = server["host"] or ""
    if host:
        host = f"[{host}]" if ":" in host else host
        host = f"{host}:{server['port']}"
    return _location(host, server["database"], schema)


def _location(hosts: str, database: str, schema: str, **options: str) -> str:
    query = "&".join(
        f"{key}={quote(value, safe='/,:')}" for key, value in options.items()
    )
    location = f"postgresql://{hosts}/{quote(database)}{'?' if query else ''}{query}"
    return (
        location if schema == SeenStoreConfig.schema else f"{location}#{quote(schema)}"
    )


def schema_of(location: str) -> str:
    """Return the schema that a location names, or the default one, quoted for SQL."""
    _, _, name = location.partition("#")
    return quote_identifier(unquote(name) or SeenStoreConfig.schema)


def named_program(url: str) -> dict[str, str]:
    """Return the setting that names this program in ``pg_stat_activity``.

    What the URL says comes first. PostgreSQL keeps 63 bytes.
    """
    if "application_name" in dict(parse_qsl(urlsplit(url).query)):
        return {}
    program = os.path.basename(sys.argv[0]) or "python"  # noqa: PTH119 - a text
    ascii_only = program.encode("ascii", "replace").decode()
    return {"application_name": f"{ascii_only[:40]} {os.getpid()}"}


def invalid_url(url: str) -> ConfigurationError:
    """Return the error of an invalid URL."""
    return bad_url(
        url,
        "asyncpg can make nothing of it; it must be like"
        " postgresql://user:password@host:5432/database, with options that libpq has,"
        " and with %40, %3A, %2F, %3F, %23 and %25 for @, :, /, ?, # and % in the user"
        " or the password",
    )
