"""What callers were told of keys, against what is stored in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

Outcome = Literal["new", "dup", "fail", "unknown"]
"""Marked by this call; seen before; refused, and surely not stored; nobody knows."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass
class History:
    """What callers were told, in whatever order; of one file, in one TTL."""

    told: list[tuple[str, Outcome]] = field(default_factory=list)
    worst: float = 0.0
    """The longest call, in seconds."""

    def tell(self, key: str, outcome: Outcome, seconds: float = 0.0) -> None:
        """Note what a caller was told, and how long that took."""
        self.told.append((key, outcome))
        self.worst = max(self.worst, seconds)

    def read(self, lines: Iterable[str]) -> History:
        """Note what a child wrote: ``+ key`` before a call, ``= key outcome seconds``.

        A call without an answer is unknown: the child was killed meanwhile. So is one
        whose line was cut off.
        """
        asked: Counter[str] = Counter()
        for line in lines:
            match line.split():
                case ["+", key]:
                    asked[key] += 1
                case ["=", key, outcome, seconds] if outcome in OUTCOMES:
                    asked[key] -= 1
                    self.tell(key, outcome, float(seconds))
        for key in asked.elements():
            self.tell(key, "unknown")
        return self

    def keys(self, *outcomes: Outcome) -> set[str]:
        """Every key that somebody was told one of these of."""
        return {key for key, outcome in self.told if outcome in outcomes}


@dataclass(frozen=True)
class Findings:
    """What is wrong, as sets of keys; and what cannot be known."""

    acknowledged: int
    lost: frozenset[str]
    """Acknowledged, and not stored."""
    doubled: frozenset[str]
    """Two callers were told that they are the first."""
    ghost: frozenset[str]
    """Stored, and nobody asked for it, or was told that it was refused."""
    phantom: frozenset[str]
    """Called seen, and nobody was ever the first."""
    unknown: int
    stored: int
    """Of the unknown."""


def check(history: History, final: Collection[str]) -> Findings:
    """Compare a history with the keys that are stored in the end."""
    new = [key for key, outcome in history.told if outcome == "new"]
    unknown = history.keys("unknown")
    return Findings(
        acknowledged=len(new),
        lost=frozenset(new) - {*final},
        doubled=frozenset(key for key, count in Counter(new).items() if count > 1),
        ghost=frozenset(final) - {*new} - unknown,
        phantom=frozenset(history.keys("dup")) - {*new} - unknown,
        unknown=len(unknown),
        stored=len(unknown & {*final}),
    )
