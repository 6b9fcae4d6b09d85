"""What is compared: the store, its limit, and what one would use without it.

Each is in its natural best form, with the same settings where it uses SQLite.
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
    """Says of a key whether it is new, and marks it."""

    async def check_and_mark(self, key: str) -> bool:
        """Mark a key unless it is seen; true if it marked."""


class MarkingMany(Protocol):
    """Says how many of many keys are new, and marks them."""

    async def check_and_mark_many(self, keys: Sequence[str]) -> int:
        """Mark the keys that are not seen; how many it marked."""


class Repeating(Marking, MarkingMany, Protocol):
    """Does both."""


class Looking(MarkingMany, Protocol):
    """Says of a key whether it is seen."""

    async def is_seen(self, key: str) -> bool:
        """Is the key seen?"""


class Claiming(Protocol):
    """Gives a key to one owner until that one confirms."""

    async def claim_and_confirm(self, key: str) -> bool:
        """Claim a key and confirm it; true if both worked."""


class ByHand(Marking, MarkingMany, Claiming, Protocol):
    """Does all that programs do with a plain client."""


def settings(synchronous: Synchronous) -> tuple[str, ...]:
    """The store's settings of SQLite."""
    return (
        "PRAGMA journal_mode = WAL",
        f"PRAGMA synchronous = {synchronous}",
        "PRAGMA cache_size = 10000",
        "PRAGMA temp_store = MEMORY",
    )
