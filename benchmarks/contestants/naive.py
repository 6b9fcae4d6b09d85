"""aiosqlite in its usual form: a lock, then one await after the other."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import aiosqlite

from . import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.arena import Arena


class NaiveAiosqlite:
    """A table of keys and timestamps, and an ``asyncio.Lock``."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        """Use an open connection."""
        self.db = db
        self.lock = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's file, and create the table."""
        async with aiosqlite.connect(arena.file) as db:
            for setting in settings(arena.synchronous):
                await db.execute(setting)
            await db.execute(
                "CREATE TABLE IF NOT EXISTS seen"
                " (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)"
            )
            await db.commit()
            yield cls(db)

    async def check_and_mark(self, key: str) -> bool:
        """Select, insert, commit."""
        async with self.lock:
            async with self.db.execute(
                "SELECT ts FROM seen WHERE id = ?", (key,)
            ) as cursor:
                if await cursor.fetchone() is not None:
                    return False
            await self.db.execute(
                "INSERT INTO seen (id, ts) VALUES (?, ?)", (key, int(time.time()))
            )
            await self.db.commit()
            return True

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Check one item of a feed after the other, as in most programs."""
        return sum([await self.check_and_mark(f"{namespace}|{key}") for key in keys])

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Insert keys that are new."""
        rows = [(key, int(time.time())) for key in keys]
        await self.db.executemany("INSERT INTO seen (id, ts) VALUES (?, ?)", rows)
        await self.db.commit()
        return len(keys)
