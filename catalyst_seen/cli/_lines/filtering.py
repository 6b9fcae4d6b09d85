"""What ``filter`` does with the lines: which pass, and which keys are marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .elsewhere import Elsewhere
from .reading import Sink, set_aside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType

    from catalyst_seen import AsyncSeenStore, Claim

    from .passing import Passing
    from .reading import Keyed

_AT_ONCE, _BYTES_AT_ONCE = 1_000, 64 * 1024
"""Lines, and their bytes, that are claimed at once: as much as a pipe holds."""


class Sieve(Sink, Protocol):
    """Decides on lines.

    Attributes:
        chosen: How many passed, or would have.
    """

    chosen: int


@dataclass
class Claiming:
    """Passes the lines that are new, and marks each when it has arrived."""

    store: AsyncSeenStore
    passing: Passing
    ttl: float | EllipsisType | None
    chosen: int = 0
    held: int = 0
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    async def take(self, lines: Sequence[Keyed]) -> None:
        """Pass the lines that can be claimed."""
        fresh = await fresh_of(self.store, lines)
        while fresh:
            size = 0
            part: dict[str, bytes] = {}
            while fresh and len(part) < _AT_ONCE and size < _BYTES_AT_ONCE:
                key = next(iter(fresh))
                part[key] = fresh.pop(key)
                size += len(part[key])
            await self._pass_on(part)

    async def _pass_on(self, part: dict[str, bytes]) -> None:
        owned: list[tuple[Claim, bytes]] = []
        async with self.passing.claimed(part, self.ttl) as claims:
            for claim, (key, line) in zip(claims, part.items(), strict=True):
                if claim:
                    owned.append((claim, line))
                else:
                    set_aside(self, claim, key, line)
            self.chosen += await self.passing.pass_on(owned)


@dataclass
class Marking:
    """Marks the lines that are new, and counts them."""

    store: AsyncSeenStore
    ttl: float | EllipsisType | None
    chosen: int = 0
    held: int = 0
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    async def take(self, lines: Sequence[Keyed]) -> None:
        """Mark the lines."""
        keys = [key for key, _ in lines]
        if not await self.store.filter_new(keys):
            return  # the common case is a read
        sightings = await self.store.check_and_mark_many(keys, ttl=self.ttl)
        for sighting, (key, line) in zip(sightings, lines, strict=True):
            if sighting:
                self.chosen += 1
            else:
                set_aside(self, sighting, key, line)


@dataclass
class Looking:
    """Passes the lines that are new, or those that are seen; marks nothing."""

    store: AsyncSeenStore
    passing: Passing | None
    is_inverted: bool
    chosen: int = 0
    held: int = 0
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    _passed: set[str] = field(default_factory=set)

    async def take(self, lines: Sequence[Keyed]) -> None:
        """Pass the lines that are asked for."""
        if self.is_inverted:
            fresh = {*await self.store.filter_new([key for key, _ in lines])}
            chosen = [line for key, line in lines if key not in fresh]
        else:
            new = await fresh_of(self.store, lines)
            chosen = [line for key, line in new.items() if key not in self._passed]
            self._passed |= new.keys()
        self.chosen += len(chosen)
        if self.passing is not None and chosen:
            await self.passing.write(chosen)


async def fresh_of(store: AsyncSeenStore, lines: Sequence[Keyed]) -> dict[str, bytes]:
    """Return the keys that are not seen, each with its first line."""
    keys = [key for key, _ in lines]
    fresh = {*await store.filter_new(keys)}
    if not fresh:
        return {}
    first: dict[str, bytes] = {}
    for key, line in lines:
        if key in fresh:
            first.setdefault(key, line)
    return first
