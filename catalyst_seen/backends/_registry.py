"""Construction of the backend for a URL or a path.

The backend on SQLite is imported with the package, because programs usually construct
their store inside the event loop, where an import would stall it. The driver of a
server is an optional dependency: it is imported, completely, when a store with such a
URL is constructed. Programs that cannot afford that in their event loop construct the
store before it, or import ``catalyst_seen.backends.redis`` or ``.postgres``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._errors import ConfigurationError
from .._targets import (
    POSTGRES_SCHEMES,
    REDIS_SCHEMES,
    check_path,
    closest,
    meant,
    redacted,
    split_url,
)
from ._urls import url_errors
from .sqlite.backend import SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._config import SeenStoreConfig
    from .base import Backend

_SETTING = "url"


def make_backend(config: SeenStoreConfig, ttl: float | None) -> Backend:
    """Construct the backend of a configuration; no I/O.

    Args:
        config: The settings; ``url`` takes precedence over ``path``.
        ttl: The store's TTL in seconds.

    Raises:
        ConfigurationError: The URL is malformed, or its scheme is unknown, or the
            driver of its backend is not installed, or a setting has no effect on it.
        ValueError: The path begins with the name of a user that does not exist.
    """
    if config.url is None:
        return SqliteBackend(os.fspath(config.path), config, ttl)
    with url_errors(config):
        return _from_url(config.url, config, ttl)


def _from_url(url: str, config: SeenStoreConfig, ttl: float | None) -> Backend:
    parts = split_url(url)
    if parts is None:
        advice = meant(url) or "a plain path goes into path (SEEN_DB_PATH)."
        raise ConfigurationError(
            _SETTING,
            f"{redacted(url)!r} is no URL: {advice} A URL is like sqlite:///seen.db"
            " (relative), sqlite:////var/seen.db, valkey://host or"
            " postgresql://host/database",
        )
    scheme, rest = parts
    if scheme not in _FACTORIES:
        suggestion = closest(scheme, _FACTORIES)
        question = f"did you mean {suggestion}://? " if suggestion else ""
        known = ", ".join(f"{scheme}://" for scheme in _FACTORIES)
        raise ConfigurationError(
            _SETTING, f"no backend for {redacted(url)!r}: {question}There is {known}"
        )
    return _FACTORIES[scheme](rest, config, ttl)


def _sqlite(rest: str, config: SeenStoreConfig, ttl: float | None) -> Backend:
    """Parse ``sqlite:///relative`` and ``sqlite:////absolute``."""
    host, _, path = rest.partition("/")
    if host or "?" in path or "#" in path:
        raise ConfigurationError(
            _SETTING,
            f"{redacted(str(config.url))!r}: a sqlite URL has no host and no options:"
            " sqlite:///relative.db or sqlite:////absolute.db; settings go into"
            " SeenStoreConfig",
        )
    from urllib.parse import unquote  # imports ipaddress; only URLs need it

    file = unquote(path) or ":memory:"
    try:
        check_path(file)
        return SqliteBackend(file, config, ttl)
    except ValueError as exc:
        raise ConfigurationError(_SETTING, str(exc)) from exc


def _redis(_rest: str, config: SeenStoreConfig, _ttl: float | None) -> Backend:
    with _driver("redis"):
        from .redis.backend import RedisBackend

    return RedisBackend(str(config.url), config)


def _postgres(_rest: str, config: SeenStoreConfig, _ttl: float | None) -> Backend:
    with _driver("postgres"):
        from .postgres.backend import PostgresBackend

    return PostgresBackend(str(config.url), config)


@contextmanager
def _driver(extra: str) -> Iterator[None]:
    """Convert a failed import to an error that names the missing extra."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            _SETTING,
            f"{exc.name} is not installed: pip install 'catalyst-seen[{extra}]'",
        ) from exc


_FACTORIES: dict[str, Callable[[str, SeenStoreConfig, float | None], Backend]] = {
    "sqlite": _sqlite,
    **dict.fromkeys(REDIS_SCHEMES, _redis),
    **dict.fromkeys(POSTGRES_SCHEMES, _postgres),
}
