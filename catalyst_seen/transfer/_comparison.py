"""When a row, or the state of a source, is the same in two databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..backends.operations import Listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..backends.operations import Row

_INSTANTS = frozenset(
    {
        *("first_seen", "last_seen", "expires_at", "lease_until"),
        *("clock", "kept_until"),
        *("poll_clock", "first_poll", "last_poll", "baseline_at"),
    }
)
"""The fields of rows and of states that databases may round."""

_NOISE = 0.5
"""Seconds by which the clocks of two databases may seem to differ, and do not: the time
of a server is known to a round trip only."""

_ESTIMATED = 1.0
"""Seconds by which a lease that was converted may differ from one converted by another
process, which has estimated the clocks anew."""

_ENDING = 5.0
"""Seconds before its end in which a row may be on the one side only: it is read there a
moment earlier, or by a clock that is behind."""


class Difference(NamedTuple):
    """What is not the same in two stores.

    Attributes:
        namespace: The namespace.
        key: The key; ``None`` is the state of the namespace's source.
        what: ``"missing"`` or ``"extra"`` in the target, or the fields that differ.
    """

    namespace: str
    key: str | None
    what: str


@dataclass(frozen=True)
class Comparison:
    """Compares what is in two databases, each of which has a clock of its own.

    Attributes:
        ahead: Seconds by which the clock of the target is ahead.
        tolerance: Seconds by which instants may differ.
    """

    ahead: float
    tolerance: float

    def converted(self, row: Row) -> Row:
        """Return a row of the source as the target has to store it.

        A lease, and the delay after a release, keeps what is left of it. Every other
        instant is one of the calendar.
        """
        if not self.ahead or row.lease_until is None:
            return row
        return row._replace(lease_until=row.lease_until + self.ahead)

    def difference(self, wanted: Any, present: Any) -> str:  # noqa: ANN401 - rows, states
        """Return in a few words how a row, or a state, differs; empty if it does not.

        Args:
            wanted: That of the source, converted.
            present: That of the target.
        """
        if wanted == present:
            return ""
        if present is None:
            return "missing"
        if wanted is None:
            return "extra"
        return ", ".join(self._fields(wanted, present))

    def _fields(self, wanted: Any, present: Any) -> Iterator[str]:  # noqa: ANN401
        for name, one, other in zip(wanted._fields, wanted, present, strict=True):
            if one == other:
                continue
            if isinstance(one, Listed) and isinstance(other, Listed):
                yield from self._fields(one, other)
            elif not self._is_rounded(name, one, other):
                yield name

    def _is_rounded(self, name: str, one: float | None, other: float | None) -> bool:
        if name not in _INSTANTS or one is None or other is None:
            return False
        tolerance = self.tolerance
        if self.ahead and name == "lease_until":
            tolerance = max(tolerance, _ESTIMATED)
        return abs(one - other) <= tolerance


def difference_of(source_now: float, target_now: float) -> float:
    """Return by how much the second clock, read at the same time, is ahead."""
    ahead = target_now - source_now
    return 0.0 if abs(ahead) < _NOISE else ahead


def is_ending(row: Row | None, now: float) -> bool:
    """Has a row expired, or will it within moments, by the later of two clocks?"""
    if row is None or row.expires_at is None:
        return False
    return row.expires_at <= now + _ENDING
