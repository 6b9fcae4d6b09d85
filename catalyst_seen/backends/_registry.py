"""Construction of the backend for a URL or a path.

The backend on SQLite is imported with the package, because programs usually construct
their store inside the event loop, where an import would stall it. The driver of a
server is an optional dependency: it is imported, completely, when a store with such a
URL is constructed. Programs that cannot afford that in their event loop construct the
store before it, or import ``catalyst_seen.backends.redis`` or ``.postgres``.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._config import check_path
from .._errors import ConfigurationError
from .sqlite.backend import SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._config import SeenStoreConfig
    from .base import Backend

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_SETTING = "url (SEEN_STORE_URL)"


def is_url(text: str) -> bool:
    """Is the text a URL, and not a path?"""
    return _SCHEME.match(text) is not None


def make_backend(config: SeenStoreConfig, ttl: float | None) -> Backend:
    """Construct the backend of a configuration; no I/O.

    Args:
        config: The settings; ``url`` takes precedence over ``path``.
        ttl: The store's TTL in seconds.

    Raises:
        ConfigurationError: The URL is malformed, or its scheme is unknown, or the
            driver of its backend is not installed.
    """
    if config.url is None:
        return _sqlite_file(str(config.path), config, ttl)
    match = _SCHEME.fullmatch(config.url)
    if match is None:
        raise ConfigurationError(
            _SETTING,
            "must be like sqlite:///seen.db (relative), sqlite:////var/seen.db,"
            " redis://host or postgresql://host/database; a plain path goes into path"
            " (SEEN_DB_PATH)",
        )
    scheme, rest = match.groups()
    if scheme.lower() not in _FACTORIES:
        raise ConfigurationError(
            _SETTING, f"no backend for {scheme}://, there is {_known()}"
        )
    return _FACTORIES[scheme.lower()](rest, config, ttl)


def _sqlite_url(rest: str, config: SeenStoreConfig, ttl: float | None) -> Backend:
    """Parse ``sqlite:///relative`` and ``sqlite:////absolute``."""
    host, _, path = rest.partition("/")
    if host or "?" in path or "#" in path:
        raise ConfigurationError(
            _SETTING,
            "a sqlite URL has no host and no options: sqlite:///relative.db or"
            " sqlite:////absolute.db; settings go into SeenStoreConfig",
        )
    from urllib.parse import unquote  # imports ipaddress; only URLs need it

    file = unquote(path) or ":memory:"
    try:
        check_path(file)
    except ValueError as exc:
        raise ConfigurationError(_SETTING, str(exc)) from exc
    return _sqlite_file(file, config, ttl)


def _sqlite_file(path: str, config: SeenStoreConfig, ttl: float | None) -> Backend:
    return SqliteBackend(path, config, ttl)


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
    "sqlite": _sqlite_url,
    **dict.fromkeys(
        (
            f"{server}{transport}"
            for server in ("redis", "valkey")
            for transport in ("", "s", "+unix", "+cluster", "s+cluster")
        ),
        _redis,
    ),
    "postgresql": _postgres,
    "postgres": _postgres,
}


def _known() -> str:
    return ", ".join(f"{scheme}://" for scheme in _FACTORIES)
