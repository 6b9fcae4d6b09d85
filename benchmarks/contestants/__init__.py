"""The contestants: the store, its upper limits, and its alternatives.

Each is written in its best natural form; those on SQLite use the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from benchmarks.arena import Arena, Synchronous

T = TypeVar("T")
Opener = Callable[[Arena], AbstractAsyncContextManager[T]]

TTL = 7 * 86_400
"""Seconds; the store's default, for every contestant that has a time to live."""

LEASE = 60
"""Seconds; the store's default, for every contestant that has claims."""


class Marking(Protocol):
    """Checks whether a key is new, and marks it."""

    async def check_and_mark(self, key: str) -> bool:
        """Mark a key unless it is seen; true if it marked."""


class MarkingMany(Protocol):
    """Counts the new keys among many, and marks them."""

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Mark the keys that are not seen; return their number."""


class Repeating(Marking, MarkingMany, Protocol):
    """Marks single keys and many keys."""


class Looking(MarkingMany, Protocol):
    """Checks whether a key is seen."""

    async def is_seen(self, key: str) -> bool:
        """Return whether the key is seen."""


class Claiming(Protocol):
    """Claims a key for one owner until the owner confirms."""

    async def claim_and_confirm(self, key: str) -> bool:
        """Claim a key and confirm it; true if both worked."""


class ClaimingMany(Protocol):
    """Claims many keys at a time."""

    async def claim_and_confirm_many(self, keys: Sequence[str]) -> int:
        """Claim the keys that are not seen, and confirm them; return their number."""


class Polling(Protocol):
    """Decides about the listing of a feed."""

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Mark the keys that are not seen; return their number."""


class ByHand(Marking, MarkingMany, Claiming, Polling, Protocol):
    """Implements all verbs with a plain client."""


def settings(synchronous: Synchronous) -> tuple[str, ...]:
    """The store's settings of SQLite."""
    return (
        "PRAGMA journal_mode = WAL",
        f"PRAGMA synchronous = {synchronous}",
        "PRAGMA cache_size = 10000",
        "PRAGMA temp_store = MEMORY",
    )
