"""The old synchronous store, called through threads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Self

from . import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.arena import Arena


class OldSeenStore:
    """The method of the old store: one connection, one lock, a commit for each key."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Use an open connection, and create the table."""
        self._db = db
        self._lock = threading.Lock()
        db.execute(
            "CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)"
        )

    def check_and_mark(self, key: str) -> bool:
        """Mark a key unless it is seen; true if it marked."""
        with self._lock:
            select = "SELECT ts FROM seen WHERE id = ?"
            if self._db.execute(select, (key,)).fetchone() is not None:
                return False
            insert = "INSERT OR REPLACE INTO seen (id, ts) VALUES (?, ?)"
            self._db.execute(insert, (key, int(time.time())))
            self._db.commit()
            return True

    def is_seen(self, key: str) -> bool:
        """Return whether the key is seen."""
        with self._lock:
            select = "SELECT ts FROM seen WHERE id = ?"
            return self._db.execute(select, (key,)).fetchone() is not None

    def mark_many(self, keys: Sequence[str]) -> None:
        """Mark many keys in one transaction."""
        rows = [(key, int(time.time())) for key in keys]
        with self._lock:
            self._db.executemany("INSERT INTO seen (id, ts) VALUES (?, ?)", rows)
            self._db.commit()


class OldStoreInThreads:
    """The old store through ``asyncio.to_thread``, as asyncio programs called it."""

    def __init__(self, store: OldSeenStore) -> None:
        """Use an open store."""
        self._store = store

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's file."""
        with closing(sqlite3.connect(arena.file, check_same_thread=False)) as db:
            for setting in settings(arena.synchronous):
                db.execute(setting)
            yield cls(OldSeenStore(db))

    async def check_and_mark(self, key: str) -> bool:
        """Mark a key unless it is seen; true if it marked."""
        return await asyncio.to_thread(self._store.check_and_mark, key)

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Mark keys that are new."""
        self._store.mark_many(keys)
        return len(keys)
