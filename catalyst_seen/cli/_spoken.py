"""Words for a person: times, states, counts, and what a key is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._output import counted, local

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_KEPT = 2  # units of a length
_LONGEST = 80


def rough(seconds: float) -> str:
    """Return a length with its two largest units, such as ``6d23h``."""
    rest = max(round(seconds), 0)
    parts: list[str] = []
    for unit, length in _UNITS.items():
        amount, rest = divmod(rest, length)
        if amount and len(parts) < _KEPT:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def when(instant: float, now: float) -> str:
    """Return an instant and how far it is: ``2026-11-28 06:30:00 (3h12m ago)``."""
    distance = instant - now
    text = rough(abs(distance))
    return f"{local(instant)} ({f'in {text}' if distance > 0 else f'{text} ago'})"


def quoted(key: str) -> str:
    """Return a key as a message shows it: in quotes, not too long, and harmless."""
    text = repr(key)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}…{text[-1]}"


def called(name: str) -> str:
    """Return what a namespace is called; the default one has no name."""
    return f"the namespace {quoted(name)}" if name else "the default namespace"


def in_namespace(name: str) -> str:
    """Return where a key is."""
    return f"in {called(name)}"


def keys(count: int) -> str:
    """Return a number of keys."""
    return counted(count, "key")


def by_state(counts: Mapping[str, int]) -> str:
    """Return what a number of keys consists of: ``2 seen, 1 claimed``."""
    return ", ".join(
        f"{number:,} {state}" for state, number in counts.items() if number
    )
