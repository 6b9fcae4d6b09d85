"""A batch in which ``ForEach`` is replaced by single operations, and its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import BatchResult
from .operations import AllSeen, ForEach

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .operations import Operation


class Expansion:
    """A batch with single operations in the place of a ``ForEach``.

    Attributes:
        operations: The batch; the given one if nothing had to be replaced.
    """

    def __init__(
        self,
        operations: Sequence[Operation[Any]],
        kept: Collection[type[Operation[Any]]] = (),
    ) -> None:
        """Expand a batch.

        Args:
            operations: The batch.
            kept: A ``ForEach`` of these operations is left as it is.
        """
        self.operations: Sequence[Operation[Any]] = operations
        self._sizes: list[int | None] = []
        if not any(isinstance(one, ForEach) for one in operations):
            return
        flat: list[Operation[Any]] = []
        for one in operations:
            if isinstance(one, ForEach) and type(one.operation) not in kept:
                singles = one.singles()
                flat += singles
                self._sizes.append(len(singles))
            else:
                flat.append(one)
                self._sizes.append(None)
        self.operations = flat

    def regroup(self, results: Sequence[Any]) -> list[Any]:
        """Collect the results of each ``ForEach`` in a list again."""
        if not self._sizes:
            return list(results)
        return [
            results[start] if size is None else list(results[start : start + size])
            for start, size in self._spans()
        ]

    def regroup_batch(self, result: BatchResult, now: float) -> BatchResult:
        """Do so with the results and the rows of a batch."""
        if not self._sizes:
            return result
        rows = result.rows
        summaries = [
            rows[start] if size is None else AllSeen.of(rows[start : start + size], now)  # type: ignore[arg-type]
            for start, size in self._spans()
        ]
        return BatchResult(self.regroup(result.results), summaries, result.version)

    def _spans(self) -> list[tuple[int, int | None]]:
        """Return the first index of each operation, and its size."""
        spans, start = [], 0
        for size in self._sizes:
            spans.append((start, size))
            start += 1 if size is None else size
        return spans
