"""Internal limits of a store, in one object, so that tests can change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Limits that are no settings: they may change in any release.

    Attributes:
        close_timeout: Seconds that a close waits for calls under way; then it abandons
            them.
        release_timeout: Seconds that the end of a claim's block waits for its release,
            which then completes in the background.
        stall_after: Seconds after which a batch counts as blocked, and reads are served
            beside it. Most batches take a hundredth of that.
        first_poll: Seconds before a caller that waits for a claimed key tries again;
            the pause doubles up to ``last_poll``.
        last_poll: The longest of these pauses.
        lock_patience: Seconds that a batch waits for rows that another transaction has
            locked; then its calls on other keys go first. Transactions of stores take a
            tenth of that.
        locked_pause: Seconds before the calls on the locked keys are sent again.
        removal_page: Rows that one page of a purge or a cleanup examines, about 10 ms
            of the worker's time.
        maintenance_interval: Seconds between two runs of a backend's maintenance; a
            database file that is gone is noticed after as long.
        cache_page: Keys that the cache reads or stores before other tasks run.
        oldest_redis: The oldest server version that has ``PEXPIRETIME``.
        oldest_postgres: The oldest server version that is tested, as
            ``server_version_num``.
        sqlite_version: The version by which SQLite is judged, for tests; ``None`` is
            the library's own.
        sqlite_factory: Class of the SQLite connections, for fault injection; ``None``
            is the library's own class.
        server_time: The time of every server, for tests; ``None`` is the server's own
            clock. SQLite's is the public setting ``clock``.
    """

    close_timeout: float = 5.0
    release_timeout: float = 5.0
    stall_after: float = 0.1
    first_poll: float = 0.05
    last_poll: float = 1.0
    lock_patience: float = 0.2
    locked_pause: float = 0.1
    removal_page: int = 1_000
    maintenance_interval: float = 1.0
    cache_page: int = 1_000
    oldest_redis: tuple[int, int] = (7, 0)
    oldest_postgres: int = 140_000
    sqlite_version: tuple[int, int, int] | None = None
    sqlite_factory: type[sqlite3.Connection] | None = None
    server_time: Callable[[], float] | None = None
