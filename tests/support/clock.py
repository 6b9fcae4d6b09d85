"""Clocks that a test moves."""

from __future__ import annotations

NOON = 4_000_000_000.0
"""In 2096: by its own clock a Redis server does not expire such keys during a test."""

DAY = 86_400.0


class Clock:
    """A wall clock that a test moves by hand; servers can be bound to it as well."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds
