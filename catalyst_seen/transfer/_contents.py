"""What a store has, counted by kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._types import RECORD_STATES
from ..backends._state_machine import state_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..backends.operations import Row


@dataclass
class Contents:
    """How many keys of each kind a store has; approximate while it is written to.

    Attributes:
        states: The number of keys in each state of ``Record``.
        sources: The number of namespaces that are sources, or were cleared.
        notes: The number of keys that have a note.
    """

    states: Counter[str] = field(default_factory=Counter)
    sources: int = 0
    notes: int = 0

    @property
    def keys(self) -> int:
        """The number of keys in any state."""
        return self.states.total()

    def as_dict(self) -> dict[str, int]:
        """Return every number by its name, also those that are 0."""
        states: dict[str, int] = {one: self.states[one] for one in RECORD_STATES}
        return {**states, "sources": self.sources, "notes": self.notes}

    def add(self, rows: Iterable[Row], now: float) -> None:
        """Count rows that have not expired."""
        for row in rows:
            is_mark = row.lease_until is None  # nearly every one is
            state = "seen" if is_mark else state_of(verdict_of(row, now), row)
            self.states[state] += 1
            self.notes += bool(row.note)
