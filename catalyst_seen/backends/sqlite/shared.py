"""The state that all connections of one store share."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ..._clock import read_clock
from .files import MEMORY, DatabaseFile
from .wal import WriteAheadLog

if TYPE_CHECKING:
    from ..._config import SeenStoreConfig


class SharedState:
    """Settings, clock, file identity and write-ahead log of one store.

    Attributes:
        path: The file, or ``":memory:"``.
        config: The settings.
        ttl: Time to live of the rows of an old store's file, counted from their ``ts``.
        file: Identity of the file.
        wal: Its write-ahead log.
        opens_unfinished: Is the file opened although a move to it has not ended?
    """

    def __init__(self, path: str, config: SeenStoreConfig, ttl: float | None) -> None:
        self.path = path
        self.config = config
        self.ttl = ttl
        self.file: DatabaseFile = DatabaseFile(path, config.sqlite)
        self.wal: WriteAheadLog = WriteAheadLog(
            self.file, is_used=config.wal_mode and self.is_file
        )
        self.opens_unfinished: bool = False
        self._latest = 0.0
        # Readers have threads of their own, and a signal handler may call a store.
        self._clock_lock = threading.RLock()

    @property
    def is_file(self) -> bool:
        """Is the database in a file?"""
        return self.path != MEMORY

    @property
    def database(self) -> str:
        """The path behind any links."""
        return os.path.realpath(self.path)

    def now(self) -> float:
        """Return the wall time, which never runs backwards while the store is open."""
        now = read_clock(self.config.clock)
        with self._clock_lock:
            self._latest = max(self._latest, now)
            return self._latest
