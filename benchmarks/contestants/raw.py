"""SQLite without the store: the upper limits of the store."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Self

import aiosqlite

from . import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.arena import Arena, Layout


class RawSqlite:
    """``sqlite3`` in the thread of the caller, on a file of the store."""

    def __init__(self, db: sqlite3.Connection, layout: Layout) -> None:
        """Use an open connection."""
        self._db = db
        self._layout = layout
        self._insert = f"{layout.insert} ON CONFLICT DO NOTHING"

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Copy the store's file and connect to it."""
        arena.layout.copy(arena.file)
        with closing(sqlite3.connect(arena.file, isolation_level=None)) as db:
            for setting in settings(arena.synchronous):
                db.execute(setting)
            yield cls(db, arena.layout)

    async def check_and_mark(self, key: str) -> bool:
        """Insert a key, in a transaction of its own."""
        return self._db.execute(self._insert, self._layout.row(key)).rowcount == 1

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Insert keys in one transaction, with a result for each."""
        row, execute, insert = self._layout.row, self._db.execute, self._insert
        execute("BEGIN IMMEDIATE")
        new = [execute(insert, row(key)).rowcount == 1 for key in keys]
        execute("COMMIT")
        return sum(new)


class RawExecutemany(RawSqlite):
    """The same, without a result for each key."""

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Insert keys in one transaction by ``executemany``."""
        self._db.execute("BEGIN IMMEDIATE")
        rows = map(self._layout.row, keys)
        inserted = self._db.executemany(self._insert, rows).rowcount
        self._db.execute("COMMIT")
        return inserted


class OneHop:
    """One statement through aiosqlite: there to its thread, and back."""

    def __init__(self, db: aiosqlite.Connection, layout: Layout) -> None:
        """Use an open connection."""
        self._db = db
        self._layout = layout

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Copy the store's file and connect to it."""
        arena.layout.copy(arena.file)
        async with aiosqlite.connect(arena.file, isolation_level=None) as db:
            for setting in settings(arena.synchronous):
                await db.execute_fetchall(setting)
            yield cls(db, arena.layout)

    async def check_and_mark(self, key: str) -> bool:
        """Insert a key without a check before; false if it exists."""
        row = self._layout.row(key)
        try:
            await self._db.execute_fetchall(self._layout.insert, row)
        except sqlite3.IntegrityError:
            return False
        return True

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Insert nothing: ``is_seen`` needs no stored keys."""
        return len(keys)

    async def is_seen(self, key: str) -> bool:
        """Select a constant: only the hop is measured."""
        await self._db.execute_fetchall("SELECT 1")
        return bool(key)
