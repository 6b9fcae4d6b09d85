"""Settings of a store, from code or from the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ._errors import ConfigurationError
from ._tuning import Tuning
from ._types import ON_ABANDONED, OnAbandoned
from ._validation import (
    MAX_COUNT,
    MAX_SECONDS,
    MIN_SECONDS,
    Duration,
    check_choice,
    check_count,
    check_flag,
    check_mode,
    check_name,
    number,
    seconds,
    seconds_or_never,
)

Clock = Callable[[], float]
OnError = Literal["answer", "raise"]
Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

MAX_TIMEOUT = 2_000_000.0
"""Seconds, 23 days: SQLite counts milliseconds in 31 bits."""

SYNCHRONOUS: tuple[Synchronous, ...] = get_args(Synchronous)
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True)
class SeenStoreConfig:
    """Settings of a store. Checked when made; frozen afterwards.

    Attributes:
        path: The SQLite file; its directory is made when the store opens.
            ``":memory:"`` keeps everything in memory.
        ttl_days: How long a mark counts, in days; ``None`` is for ever.
        url: Where the store is, as a URL; counts instead of ``path``. SQLite's is
            ``sqlite:///relative/path`` or ``sqlite:////absolute/path``; Redis's and
            Valkey's ``redis://``, ``rediss://`` (TLS) or ``redis+cluster://``, or the
            same with ``valkey``; PostgreSQL's ``postgresql://``.
        wal_mode: Use SQLite's write-ahead log, so that readers never wait for a writer.
        cache_size: SQLite's page cache, in pages; below zero, in KiB.
        synchronous: When SQLite waits for the disk. ``NORMAL`` may lose the newest
            marks at a power failure, never at a crash of the process; ``FULL`` loses
            none.
        file_mode: The rights of a new SQLite file, and so of its ``-wal`` and ``-shm``;
            by default nobody but its owner may read it. A file that is there keeps its
            own.
        timeout: How long a call waits for the database, in seconds: for another
            process's lock, for a server that does not answer or is being restarted, for
            a free connection of your pool.
        max_in_flight: How many operations go to the database as one transaction; what
            more is asked meanwhile waits its turn. One call with more keys goes alone.
        recent_keys: How many keys known to be seen are remembered in memory, so that
            asking for them again costs no trip to the database: 0.4 kB for each, if it
            has 60 characters.
        recent_staleness: For how long another store's ``forget``, or a shorter ``ttl``
            that it gives to a key, may go unnoticed because of that, in seconds or as a
            ``timedelta``; 0 switches it off. What stores of this process forget counts
            at once. On a server, nothing is remembered for longer than that.
        purge_interval: Pause between background purges, in seconds or as a
            ``timedelta``. The first one starts when the store opens; ``None`` switches
            them all off.
        on_error: ``"answer"`` keeps two inherited promises: when the store fails,
            ``is_seen`` answers False and ``cleanup_old_entries`` 0, and each logs an
            error. ``"raise"`` makes them raise, as every other verb does.
        on_abandoned: What becomes of a key whose claim was neither confirmed nor
            released when its lease ended: whether it was handled, nobody can know.
            ``"retry"`` lets the next caller claim it (at least once), ``"drop"`` counts
            it as handled (at most once), ``"hold"`` answers ``HELD`` until ``resolve``
            or ``forget``. A claim may have its own.
        clock: Wall time in seconds since 1970, for SQLite. Other backends use their
            server's.
        prefix: What the names of all keys in Redis or Valkey begin with. Stores with
            different ones have nothing in common.
        schema: PostgreSQL's schema that the table is in; made when the store opens.
        allow_eviction: Open a Redis that may evict keys when its memory is full, which
            makes items new again that were handled; otherwise it is refused.
        wait_replicas: How many of Redis's replicas must have a change before it is
            acknowledged; with fewer in a second, it is an ``OutcomeUnknownError``.
        tuning: Internal limits, for the project's own tests. They are no settings, and
            may change in any release.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: A setting is out of its range.
    """

    path: str | os.PathLike[str] = "data/seen_ids.sqlite"
    ttl_days: float | None = 7
    url: str | None = field(default=None, repr=False)  # it may hold a password
    wal_mode: bool = True
    cache_size: int = 10_000
    synchronous: Synchronous = "NORMAL"
    file_mode: int = 0o600
    timeout: float = 30.0
    max_in_flight: int = 1_000
    recent_keys: int = 100_000
    recent_staleness: Duration = 1.0
    purge_interval: Duration | None = 300.0
    on_error: OnError = "answer"
    on_abandoned: OnAbandoned = "retry"
    clock: Clock = field(default=time.time, repr=False)
    prefix: str = "seen"
    schema: str = "catalyst_seen"
    allow_eviction: bool = False
    wait_replicas: int = 0
    tuning: Tuning = field(default=Tuning(), repr=False)

    def __post_init__(self) -> None:
        check_path(self.path)
        if not isinstance(self.url, str | None):
            raise TypeError(f"url must be a str, not {type(self.url).__name__}")
        check_flag(self.wal_mode, "wal_mode")
        _ = self.ttl
        seconds_or_never(self.purge_interval, "purge_interval")
        timeout = number(self.timeout, "timeout", "a number of seconds")
        if not 0 < timeout <= MAX_TIMEOUT:
            raise ValueError(
                f"timeout must be above 0 and at most {MAX_TIMEOUT:,.0f} seconds,"
                f" not {self.timeout!r}"
            )
        check_count(self.cache_size, "cache_size", "pages", least=-MAX_COUNT)
        check_count(self.max_in_flight, "max_in_flight", "operations", least=1)
        check_count(self.recent_keys, "recent_keys", "keys", least=0)
        seconds(self.recent_staleness, "recent_staleness", least=0)
        check_choice(self.synchronous, SYNCHRONOUS, "synchronous")
        check_mode(self.file_mode, "file_mode")
        check_choice(self.on_error, ON_ERROR, "on_error")
        check_choice(self.on_abandoned, ON_ABANDONED, "on_abandoned")
        check_name(self.prefix, "prefix")
        check_name(self.schema, "schema")
        check_flag(self.allow_eviction, "allow_eviction")
        check_count(self.wait_replicas, "wait_replicas", "replicas", least=0)
        if not callable(self.clock):
            raise TypeError("clock must be callable, like time.time")

    @property
    def ttl(self) -> float | None:
        """``ttl_days`` in seconds."""
        if self.ttl_days is None:
            return None
        length = number(self.ttl_days, "ttl_days", "a number of days") * 86_400
        if not MIN_SECONDS <= length <= MAX_SECONDS:
            raise ValueError(
                "ttl_days must be above 0 and at most 36,525 days,"
                f" not {self.ttl_days!r}; None means never"
            )
        return length

    @classmethod
    def from_env(cls) -> SeenStoreConfig:
        """Read the settings from the environment; unset or empty means the default.

        ``SEEN_DB_PATH`` (``data/seen_ids.sqlite``), ``SEEN_TTL_DAYS`` (7),
        ``SEEN_STORE_URL``, ``SQLITE_WAL_MODE`` (1), ``SQLITE_CACHE_SIZE`` (10000
        pages), ``SQLITE_SYNCHRONOUS`` (NORMAL).

        Raises:
            ConfigurationError: A variable has a bad value; it names the variable.
        """
        config = cls()
        for variable, (setting, read) in _VARIABLES.items():
            text = os.environ.get(variable, "").strip()
            if not text:
                continue
            try:
                changed: dict[str, Any] = {setting: read(text)}
                config = replace(config, **changed)
            except ValueError as exc:
                raise ConfigurationError(variable, f"{text!r}: {exc}") from exc
        return config


def env_flag(variable: str, *, default: bool) -> bool:
    """Read a switch from the environment; unset or empty is the default.

    Raises:
        ConfigurationError: It is set to something that is neither on nor off.
    """
    text = os.environ.get(variable, "").strip()
    try:
        return _flag(text) if text else default
    except ValueError as exc:
        raise ConfigurationError(variable, f"{text!r}: {exc}") from exc


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(_FLAGS)}") from None


def _synchronous(text: str) -> str:
    """Accept SQLite's numbers for its words, as the old store did."""
    return SYNCHRONOUS[int(text)] if text in {"0", "1", "2", "3"} else text.upper()


def _read_number(read: Callable[[str], object], wanted: str) -> Callable[[str], object]:
    def reader(text: str) -> object:
        try:
            return read(text)
        except ValueError:
            raise ValueError(f"must be {wanted}") from None

    return reader


_VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "SEEN_DB_PATH": ("path", str),
    "SEEN_TTL_DAYS": ("ttl_days", _read_number(float, "a number of days, like 7")),
    "SEEN_STORE_URL": ("url", str),
    "SQLITE_WAL_MODE": ("wal_mode", _flag),
    "SQLITE_CACHE_SIZE": (
        "cache_size",
        _read_number(int, "a whole number of pages, like 10000"),
    ),
    "SQLITE_SYNCHRONOUS": ("synchronous", _synchronous),
}


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise unless it can be the path of a file."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(
            "path must be a str, a path, a URL or a SeenStoreConfig,"
            f" not {type(path).__name__}"
        )
    if not text.strip() or "\0" in text:
        raise ValueError(f"path must name a file, not {text!r}")
    if "://" in text:
        scheme = text.partition("://")[0]
        raise ValueError(f"path must not be a URL, as {scheme}:// is; give it as url")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"path must be encodable, {text!r} is not") from None
