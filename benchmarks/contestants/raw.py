"""SQLite without the store: the upper limits of the store."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Self

import aiosqlite

from . import TTL, settings

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
        self._confirm = layout.confirm

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

    async def claim_and_confirm_many(self, keys: Sequence[str]) -> int:
        """Claim keys in one transaction, and confirm those in another.

        Each key has a token of its own, as an owner who crashes and returns needs it.
        """
        layout, execute, insert = self._layout, self._db.execute, self._insert
        tokens = [(key, secrets.token_hex(16)) for key in keys]
        execute("BEGIN IMMEDIATE")
        claims = [
            (key, token)
            for key, token in tokens
            if execute(insert, layout.claimed_row(key, token)).rowcount == 1
        ]
        execute("COMMIT")
        execute("BEGIN IMMEDIATE")
        confirmed = [execute(self._confirm, claim).rowcount == 1 for claim in claims]
        execute("COMMIT")
        return sum(confirmed)


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


# It tells which items are new, and no more: the ceiling of a poll through aiosqlite.
_POLL = """INSERT INTO seen SELECT ?1, value, ?2, ?3 FROM json_each(?4) WHERE true
    ON CONFLICT DO UPDATE
    SET first_seen = excluded.first_seen, expires_at = excluded.expires_at
    WHERE seen.expires_at <= excluded.first_seen RETURNING id"""


class PlainStatement:
    """One statement per feed through aiosqlite, in the shape of the question."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        """Use an open connection."""
        self._db = db

    @classmethod
    @asynccontextmanager
    async def opened(cls, arena: Arena) -> AsyncIterator[Self]:
        """Connect to the arena's file, and create the table."""
        async with aiosqlite.connect(arena.file) as db:
            for setting in settings(arena.synchronous):
                await db.execute_fetchall(setting)
            await db.execute_fetchall(
                "CREATE TABLE seen (namespace TEXT, id TEXT, first_seen REAL,"
                " expires_at REAL, PRIMARY KEY (namespace, id)) WITHOUT ROWID"
            )
            await db.commit()
            yield cls(db)

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Insert the items of a feed that are not there, or have expired.

        The commit is a hop of its own. It is often that of other polls too, whose
        statements the thread has executed meanwhile: with a commit in each statement,
        first polls are slower.
        """
        now = time.time()
        new = await self._db.execute_fetchall(
            _POLL, (namespace, now, now + TTL, json.dumps(keys))
        )
        await self._db.commit()
        return len(list(new))
