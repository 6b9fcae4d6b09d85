"""How a command opens its store."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from catalyst_seen import (
    AsyncSeenStore,
    ConfigurationError,
    SeenStoreConfig,
    StoreUnavailableError,
)
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.sqlite.driver import without_wal_reset_bug

from .._targets import REDIS_SCHEMES, address_settings, is_url, split_url
from ._codes import Code, Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._settings import Settings

_NO_NAMES = {"prefix": SeenStoreConfig.prefix, "schema": SeenStoreConfig.schema}
"""Those of an address without a ``#``, whatever the environment has."""


class NoStoreError(Failure):
    """There is no store, in the words of the tool.

    Attributes:
        location: Where there is none.
    """

    def __init__(self, exc: StoreUnavailableError, *, is_argument: bool) -> None:
        """Translate an error.

        Args:
            exc: The error.
            is_argument: Is the store an argument of the command, and not that of
                ``--store``?
        """
        what = exc.cause.partition(", and")[0]
        if "the schema" in what:
            what += " (URL#NAME is that in another one; for a move, move makes it)"
        advice = (
            "name one that is there"
            if is_argument
            else "name the store with --store, or make one: filter, each, once, watch"
            " and import do"
        )
        super().__init__(f"{exc.location}: {what}: {advice}", Code.UNAVAILABLE)
        self.location: str = exc.location


def configuration(target: str | None, *, create: bool) -> SeenStoreConfig:
    """Return the configuration of a store that a command line names.

    Args:
        target: A path or a URL; the part of a URL after ``#`` is the prefix of a Redis
            store, or the schema of one on PostgreSQL. ``None`` is the environment.
        create: Is a store made where there is none? A server of Redis always has one.

    Raises:
        ConfigurationError: It names no store.
        ValueError: It is a URL whose password has a ``#``.
    """
    config = SeenStoreConfig.from_env()
    if target is not None:
        if not target.strip():
            raise ConfigurationError("--store", "is empty: name a path or a URL")
        named = (
            address_settings(target)
            if is_url(target)
            else {"url": None, "path": target}
        )
        given: dict[str, Any] = {**_NO_NAMES, **named}
        config = replace(config, **given)
    has_nothing_to_make = _scheme(config) in REDIS_SCHEMES
    return config if has_nothing_to_make else replace(config, create=create)


def of_command(target: str | None, *, create: bool) -> SeenStoreConfig:
    """Return the configuration with which a command opens a store.

    A command opens files beside programs that run. Where the SQLite of Python has the
    WAL-reset bug, and pysqlite3 is installed without it, a command uses that. It is for
    a process of its own: one that has a file open by one library must not open it by
    another.

    Args:
        target: As in ``configuration``.
        create: As in ``configuration``.

    Raises:
        ConfigurationError: It names no store.
    """
    config = configuration(target, create=create)
    if _scheme(config) != "sqlite":
        return config
    return replace(config, sqlite=without_wal_reset_bug())


def _scheme(config: SeenStoreConfig) -> str:
    """Return the scheme of the URL; a path has that of SQLite."""
    scheme, _ = split_url(config.url or "") or ("sqlite", "")
    return scheme


def is_missing(exc: StoreUnavailableError) -> bool:
    """Does an open say that there is no store, and none was to be made?"""
    return "create=False" in exc.cause


def is_gone(reason: str | None) -> bool:
    """Does an error advise to close an open store, whose file is another or none?"""
    return reason is not None and "close this store and open a new one" in reason


def address_of(store: AsyncSeenStore) -> str:
    """Return how a command line names a store, but for what is needed to sign in.

    The location of a store on Redis lacks the prefix.
    """
    location, prefix = store.location, store.cfg.prefix
    is_redis = location.startswith(("redis", "valkey")) and "://" in location
    if not is_redis or prefix == SeenStoreConfig.prefix:
        return location
    return f"{location}#{quote(prefix, safe=':')}"


def is_file_of(store: AsyncSeenStore, path: str | Path) -> bool:
    """Is a path that of the file of a store, which need not be open?"""
    with suppress(OSError):
        return Path(path).samefile(store.location)
    return False


@asynccontextmanager
async def opened(
    settings: Settings,
    *,
    create: bool = False,
    purges: bool = False,
    may_be_missing: bool = False,
    may_be_unfinished: bool = False,
    target: str | None = None,
    **options: Any,
) -> AsyncIterator[AsyncSeenStore]:
    """Open the store of a command, and say where it is.

    Args:
        settings: The options of every command.
        create: Is a store made where there is none?
        purges: Is this a command that runs for long, so that its store has to remove
            what has expired?
        may_be_missing: Is an empty store taken where there is none, as a rehearsal
            may do?
        may_be_unfinished: Is it opened although a move to it has not ended?
        target: Another store than that of the settings.
        options: Further arguments of ``AsyncSeenStore``.

    Raises:
        NoStoreError: There is none, and none is made.
    """
    config = of_command(target or settings.store, create=create)
    if not purges:
        options["purge_interval"] = None
    store = AsyncSeenStore(config, on_error="raise", **options)
    if may_be_unfinished:
        from catalyst_seen.transfer import as_target  # few commands need it

        as_target(store)
    where = address_of(store)
    try:
        await store.open()
    except StoreUnavailableError as exc:
        if create or not is_missing(exc):
            raise
        if not may_be_missing:
            raise NoStoreError(exc, is_argument=target is not None) from None
        store = AsyncSeenStore(MemoryBackend(), **options)
        await store.open()
        where = f"{exc.location}: there is none yet, so that nothing is seen"
    async with aclosing(store):
        (settings.explain if create else settings.say)(f"store: {where}")
        yield store
