"""The counters of the engine."""

from __future__ import annotations

from catalyst_seen._engine.counters import _MOST_KEYS, Namespaces, Tally
from catalyst_seen._metrics import MAX_NAMESPACES


def test_memory_is_limited() -> None:
    """However many namespaces there are, a tally keeps so many, and loses no count."""
    tally = Tally(Namespaces())
    for number in range(3 * _MOST_KEYS):
        tally.add((f"n{number}", "mark", None))
        assert len(tally._counts) <= _MOST_KEYS
    assert tally.total() == 3 * _MOST_KEYS
    assert len(tally.snapshot()) == MAX_NAMESPACES + 1
