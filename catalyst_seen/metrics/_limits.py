"""At most so many sources are told apart: each one is several series."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .._metrics import MAX_NAMESPACES, OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .. import Source

_SUMS = (
    "polls", "failed", "new", "duplicates", "changed", "replaced",
    "listed", "pending", "held",
)  # fmt: skip


def limited(sources: Sequence[Source]) -> list[Source]:
    """Return the first sources, and one that stands for all others."""
    first, rest = list(sources[:MAX_NAMESPACES]), sources[MAX_NAMESPACES:]
    if rest:
        polled = [one.last_poll for one in rest if one.last_poll is not None]
        sums = {name: sum(getattr(one, name) for one in rest) for name in _SUMS}
        last = min(polled, default=None)
        first.append(replace(rest[0], namespace=OTHER, last_poll=last, **sums))
    return first
