"""The settings of a store, from code or from the environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from ._durations import format_duration
from ._environment import VARIABLES, bad_variable, variables, warn_of_ignored
from ._listings import FeedRules
from ._logging import log
from ._setting_rules import MAX_COUNT, check_count, check_mode, check_name
from ._targets import address_settings, check_path
from ._tuning import Tuning
from ._types import ON_ABANDONED, OnAbandoned
from ._validation import (
    MAX_SECONDS,
    MIN_SECONDS,
    Duration,
    check_choice,
    check_flag,
    number,
    seconds,
    seconds_or_never,
)

if TYPE_CHECKING:
    import os
    from types import EllipsisType

Clock = Callable[[], float]
"""A function that returns the time as a Unix timestamp, as ``time.time`` does."""

OnError = Literal["answer", "raise"]
"""What ``is_seen`` and ``cleanup_old_entries`` do if the store fails."""

SqliteLibrary = Literal["stdlib", "pysqlite3"]
"""The library that reads and writes SQLite files."""

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]
"""SQLite's pragma of that name: what has reached the disk when a call returns."""

MAX_TIMEOUT = 2_000_000.0
"""The longest timeout in seconds, 23 days: SQLite counts milliseconds in 31 bits."""

_SHORT_TTL = 3_600.0
"""Under so many seconds, the TTL of a store may be a number of days by mistake."""

SYNCHRONOUS: tuple[Synchronous, ...] = get_args(Synchronous)
SQLITE: tuple[SqliteLibrary, ...] = get_args(SqliteLibrary)
ON_ERROR: tuple[OnError, ...] = get_args(OnError)


@dataclass(frozen=True)
class SeenStoreConfig:
    """The settings of a store, validated on construction, and immutable.

    Attributes:
        path: The SQLite file; its directory is created when the store opens.
            ``":memory:"`` keeps everything in memory.
        ttl_days: Days until a mark expires; ``None`` is never.
        url: The database as a URL; takes precedence over ``path``. SQLite's is
            ``sqlite:///relative/path`` or ``sqlite:////absolute/path``; Redis's and
            Valkey's ``redis://``, ``rediss://`` (TLS) or ``redis+cluster://``, or the
            same with ``valkey``; PostgreSQL's ``postgresql://``.
        wal_mode: Use SQLite's write-ahead log, so that readers never wait for a writer.
        cache_size: Size of SQLite's page cache, in pages; a negative number is in KiB.
        synchronous: SQLite's ``synchronous`` mode: ``"OFF"``, ``"NORMAL"``, ``"FULL"``
            or ``"EXTRA"``. With ``NORMAL``, a power failure may lose the newest marks,
            a crash of the process none; ``FULL`` loses none at either.
        create: Make a new database where there is none. With False an open raises
            ``StoreUnavailableError`` instead, and leaves no file: there has to be a
            SQLite file, or the schema in PostgreSQL. In Redis there is nothing to make,
            so that False is refused.
        file_mode: The permissions of a new SQLite file, and so of its ``-wal`` and
            ``-shm``; by default only the owner may read it. An existing file keeps its
            own permissions.
        sqlite: The SQLite library: ``"stdlib"`` is Python's own; ``"pysqlite3"`` is a
            newer one, of the extra ``sqlite``. All stores of a process that share a
            file use the same one: two libraries would drop each other's locks.
        timeout: How long a call waits for the database: for the lock of another
            process, for a server that does not respond or restarts, for a free
            connection of your pool. This and all durations are seconds, a
            ``timedelta``, or a text such as ``"30s"`` or ``"1h30m"``.
        max_in_flight: Maximum number of operations in one transaction; further
            operations queue. A single call with more keys is a transaction of its own.
        recent_keys: Maximum number of seen keys in the cache in memory, which saves
            round trips to the database: 0.4 kB for a key of 60 characters.
        recent_staleness: How long the cache may hide a ``forget`` by another store, or
            a shorter ``ttl`` that it gives to a key; 0 disables the cache. A ``forget``
            by a store of this process takes effect at once. On a server, no key is
            cached for longer than this.
        purge_interval: Pause between background purges. The first one starts when the
            store opens; ``None`` disables them.
        sample_interval: Least time between two readings of what only the database knows
            (``Sizes``), such as the number of keys: each reads the whole table, while
            other calls run. They are read after ``metrics`` was called; ``None`` never
            reads them.
        on_error: ``"answer"`` keeps two inherited promises: when the store fails,
            ``is_seen`` returns False and ``cleanup_old_entries`` returns 0, and each
            logs an error. ``"raise"`` makes them raise, as every other verb does.
        on_abandoned: The policy for a key whose lease ended without a confirm or a
            release, so that the item may be handled or not. ``"retry"`` lets the next
            caller claim the key (at least once), ``"drop"`` counts it as handled (at
            most once), ``"hold"`` returns ``HELD`` until ``resolve`` or ``forget``. A
            claim may override it.
        clock: Returns wall time in seconds since 1970, for SQLite. Other backends use
            the clock of their server. While it raises, or returns no finite number, an
            open and every call raise ``ConfigurationError``.
        prefix: The prefix of all key names in Redis or Valkey. Stores with different
            prefixes share no keys.
        schema: The PostgreSQL schema of the table, created when the store opens.
        allow_eviction: Accept a Redis server that may evict keys when its memory is
            full, so that handled items become new again; otherwise it is refused.
        wait_replicas: Number of Redis replicas that must have a change before it is
            acknowledged; with fewer after one second, the call raises
            ``OutcomeUnknownError``.
        cache_enabled: Use the cache of seen keys; False is the same as
            ``recent_keys=0``. A setting of the old synchronous store.
        feeds: The rules for the listings of sources; see ``FeedRules``.
        tuning: Internal limits, for the project's own tests. They are not settings, and
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
    create: bool = True
    sqlite: SqliteLibrary = "stdlib"
    file_mode: int = 0o600
    timeout: Duration = 30.0
    max_in_flight: int = 1_000
    recent_keys: int = 100_000
    recent_staleness: Duration = 1.0
    purge_interval: Duration | None = 300.0
    sample_interval: Duration | None = 300.0
    on_error: OnError = "answer"
    on_abandoned: OnAbandoned = "retry"
    clock: Clock = field(default=time.time, repr=False)
    prefix: str = "seen"
    schema: str = "catalyst_seen"
    allow_eviction: bool = False
    wait_replicas: int = 0
    cache_enabled: bool = True
    feeds: FeedRules = field(default=FeedRules(), repr=False)
    tuning: Tuning = field(default=Tuning(), repr=False)
    _environment: Mapping[str, tuple[str, object]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_path(self.path)
        if not isinstance(self.url, str | None):
            raise TypeError(f"url must be a str, not {type(self.url).__name__}")
        check_flag(self.wal_mode, "wal_mode")
        _ = self.ttl
        seconds_or_never(self.purge_interval, "purge_interval")
        seconds_or_never(self.sample_interval, "sample_interval")
        _ = self.timeout_seconds
        check_count(self.cache_size, "cache_size", "pages", least=-MAX_COUNT)
        check_count(self.max_in_flight, "max_in_flight", "operations", least=1)
        check_count(self.recent_keys, "recent_keys", "keys", least=0)
        seconds(self.recent_staleness, "recent_staleness", least=0)
        check_choice(self.synchronous, SYNCHRONOUS, "synchronous")
        check_flag(self.create, "create")
        check_choice(self.sqlite, SQLITE, "sqlite")
        check_mode(self.file_mode, "file_mode")
        check_choice(self.on_error, ON_ERROR, "on_error")
        check_choice(self.on_abandoned, ON_ABANDONED, "on_abandoned")
        check_name(self.prefix, "prefix")
        check_name(self.schema, "schema")
        check_flag(self.allow_eviction, "allow_eviction")
        check_flag(self.cache_enabled, "cache_enabled")
        check_count(self.wait_replicas, "wait_replicas", "replicas", least=0)
        if not isinstance(self.feeds, FeedRules):
            raise TypeError(f"feeds must be a FeedRules, not {self.feeds!r}")
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

    @property
    def timeout_seconds(self) -> float:
        """``timeout`` in seconds."""
        length = seconds(self.timeout, "timeout")
        if length > MAX_TIMEOUT:
            raise ValueError(
                f"timeout must be at most {MAX_TIMEOUT:,.0f} seconds,"
                f" not {self.timeout!r}"
            )
        return length

    @classmethod
    def from_env(cls) -> SeenStoreConfig:
        """Read the settings from the environment.

        A variable that is unset or empty means the default:

        ``SEEN_DB_PATH`` (``data/seen_ids.sqlite``), ``SEEN_TTL_DAYS`` (7),
        ``SEEN_STORE_URL``, ``SEEN_STORE_CACHE_ENABLED`` (1), ``SEEN_STORE_CACHE_SIZE``
        (100000 keys), ``SQLITE_WAL_MODE`` (1), ``SQLITE_CACHE_SIZE`` (10000 pages),
        ``SQLITE_SYNCHRONOUS`` (NORMAL).

        A name after the ``#`` of ``SEEN_STORE_URL`` is the ``prefix`` on Redis, the
        ``schema`` on PostgreSQL.

        A path beside a URL is logged as ignored; another variable whose name begins
        with ``SEEN_``, as unknown.

        Raises:
            ConfigurationError: A variable has an invalid value; the error names both.
        """
        config = cls()
        for variable, setting, text in variables():
            try:
                value = VARIABLES[variable][1](text)
                changed: dict[str, Any] = {setting: value}
                if setting == "url":
                    changed = {**address_settings(text)}
                origins = {name: (variable, part) for name, part in changed.items()}
                environment = {**config._environment, **origins}
                config = replace(config, _environment=environment, **changed)
            except ValueError as exc:
                raise bad_variable(variable, text, exc) from exc
        warn_of_ignored()
        return config

    def origin(self, setting: str) -> str:
        """Return the environment variable that a setting was read from, or its name."""
        variable, value = self._environment.get(setting, (setting, None))
        return variable if getattr(self, setting) == value else setting


def default_ttl(
    ttl: Duration | EllipsisType | None, config: SeenStoreConfig
) -> float | None:
    """Return the TTL of a store in seconds; ``...`` is that of its configuration.

    A number under an hour is logged with its length, because days may be meant. A text
    or a ``timedelta`` states its unit.
    """
    if ttl is ...:
        return config.ttl
    length = seconds_or_never(ttl, "ttl")
    if length is not None and length < _SHORT_TTL and isinstance(ttl, int | float):
        text = format_duration(length)
        log(
            "warning",
            "short_ttl",
            ttl=ttl,
            lasts=text,
            advice=(
                f"ttl={ttl!r} is in seconds: write ttl={text!r}, or ttl='7d' for days"
            ),
        )
    return length
