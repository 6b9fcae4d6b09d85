"""Division of a batch into script calls: keys of one slot each, and none takes long."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .._retry import safe_to_repeat
from ..operations import Acquire, ForEach, Get
from .administration import Export, Select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..operations import Operation

Names = bytes | list[bytes]
"""The Redis key of an operation; the Redis keys of a ``ForEach``."""

_MAX_WEIGHT = 1_000  # of one script call: the server blocks other clients meanwhile
_WEIGHTS: dict[type[Operation[Any]], int] = dict.fromkeys(
    (Get, Select, Export, Acquire), 4
)  # their replies have notes
_BYTES_WEIGHT = 1_000  # bytes of a text that weigh as much as a key
_FEW = 250  # operations that do not exceed the weight if they write no text
_LIGHT = 15  # operations that do not exceed it in any case


@dataclass(slots=True)
class Singles:
    """Operations that follow each other in a script call.

    Attributes:
        indexes: Their positions in the batch.
        operations: The operations as they are sent.
        names: Their Redis keys.
    """

    indexes: Sequence[int]
    operations: Sequence[Operation[Any]]
    names: Sequence[bytes]

    def split(self) -> Iterator[Run]:
        """Yield a run for each key."""
        for number, index in enumerate(self.indexes):
            part = slice(number, number + 1)
            yield Singles([index], self.operations[part], self.names[part])

    def prepare_retry(self) -> None:
        """Replace the operations that must not be done twice."""
        self.operations = list(map(safe_to_repeat, self.operations))


@dataclass(slots=True)
class Each:
    """Keys of a ``ForEach`` that follow each other in a script call.

    Attributes:
        index: The position of the ``ForEach`` in the batch.
        offsets: The positions of the keys in the ``ForEach``.
        operation: The operation on each key, as it is sent.
        names: The Redis keys.
        tokens: The token for each key; ``None`` is that of the operation, if any.
    """

    index: int
    offsets: Sequence[int]
    operation: Operation[Any]
    names: Sequence[bytes]
    tokens: Sequence[str] | None

    def part(self, start: int, stop: int) -> Each:
        """Return some of the keys."""
        if not start and stop >= len(self.offsets):
            return self
        return Each(
            self.index,
            self.offsets[start:stop],
            self.operation,
            self.names[start:stop],
            self.tokens and self.tokens[start:stop],
        )

    def select(self, numbers: Sequence[int]) -> Each:
        """Return the keys with these numbers."""
        return Each(
            self.index,
            [self.offsets[number] for number in numbers],
            self.operation,
            [self.names[number] for number in numbers],
            self.tokens and [self.tokens[number] for number in numbers],
        )

    def split(self) -> Iterator[Run]:
        """Yield a run for each key."""
        return (self.part(start, start + 1) for start in range(len(self.offsets)))

    def prepare_retry(self) -> None:
        """Replace an operation that must not be done twice."""
        self.operation = safe_to_repeat(self.operation)


Run = Singles | Each


def divide(
    operations: Sequence[Operation[Any]],
    names: Sequence[Names],
    slot_of: Callable[[bytes], int] | None,
) -> Iterator[tuple[int, list[Run]]]:
    """Divide a batch, in order; yield the slot and the runs of each script call.

    Args:
        operations: The operations.
        names: The Redis keys of each operation.
        slot_of: Returns the slot of a Redis key; ``None`` if there is one server.
    """
    for slot, runs in _by_slot(operations, names, slot_of).items():
        for part in _parts(runs):
            yield slot, part


def _by_slot(
    operations: Sequence[Operation[Any]],
    names: Sequence[Names],
    slot_of: Callable[[bytes], int] | None,
) -> dict[int, list[Run]]:
    runs_by_slot: defaultdict[int, list[Run]] = defaultdict(list)
    for singles in _stretches(operations):
        if isinstance(singles, int):
            each = cast("ForEach[Any]", operations[singles])
            own = cast("list[bytes]", names[singles])
            run = Each(singles, range(len(own)), each.operation, own, each.tokens)
            for slot, part in _each_by_slot(run, each.namespace, slot_of):
                runs_by_slot[slot].append(part)
            continue
        indexes_by_slot: defaultdict[int, list[int]] = defaultdict(list)
        for index in singles:
            slot = slot_of(cast("bytes", names[index])) if slot_of else 0
            indexes_by_slot[slot].append(index)
        for slot, indexes in indexes_by_slot.items():
            own = [cast("bytes", names[index]) for index in indexes]
            sent = [operations[index] for index in indexes]
            runs_by_slot[slot].append(Singles(indexes, sent, own))
    return runs_by_slot


def _stretches(operations: Sequence[Operation[Any]]) -> Iterator[range | int]:
    """Yield the index of each ``ForEach``, and the indexes between two of them."""
    start = 0
    for index, operation in enumerate(operations):
        if type(operation) is ForEach:
            if index > start:
                yield range(start, index)
            yield index
            start = index + 1
    if start < len(operations):
        yield range(start, len(operations))


def _each_by_slot(
    run: Each, namespace: str, slot_of: Callable[[bytes], int] | None
) -> Iterable[tuple[int, Each]]:
    """Divide keys by slot: those of a namespace share one, but for the default one."""
    if not run.names:
        return []
    if slot_of is None:
        return [(0, run)]
    if namespace:
        return [(slot_of(run.names[0]), run)]
    numbers_by_slot: defaultdict[int, list[int]] = defaultdict(list)
    for number, name in enumerate(run.names):
        numbers_by_slot[slot_of(name)].append(number)
    return [(slot, run.select(numbers)) for slot, numbers in numbers_by_slot.items()]


def _parts(runs: list[Run]) -> Iterator[list[Run]]:
    """Divide the runs of a slot, in order, so that no script call takes long."""
    if len(runs) == 1 and isinstance(runs[0], Singles) and _is_light(runs[0]):
        yield runs
        return
    part: list[Run] = []
    total = 0
    for run in runs:
        for piece, weight in _pieces(run):
            total += weight
            if part and total > _MAX_WEIGHT:
                yield part
                part, total = [], weight
            part.append(piece)
    yield part


def _is_light(run: Singles) -> bool:
    size = len(run.indexes)
    return size <= _LIGHT or (size <= _FEW and not any(map(_text, run.operations)))


def _pieces(run: Run) -> Iterator[tuple[Run, int]]:
    """Yield parts of a run that do not exceed the weight, and the weight of each."""
    if isinstance(run, Each):
        weight = _weight(run.operation)
        size = max(1, _MAX_WEIGHT // weight)
        for start in range(0, len(run.offsets), size):
            piece = run.part(start, start + size)
            yield piece, weight * len(piece.offsets)
        return
    start = total = 0
    for number, operation in enumerate(run.operations):
        weight = _weight(operation)
        if number > start and total + weight > _MAX_WEIGHT:
            yield _slice(run, start, number), total
            start, total = number, 0
        total += weight
    yield _slice(run, start, len(run.operations)), total


def _slice(run: Singles, start: int, stop: int) -> Singles:
    part = slice(start, stop)
    return Singles(run.indexes[part], run.operations[part], run.names[part])


def _weight(operation: Operation[Any]) -> int:
    text = len(_text(operation) or "") // _BYTES_WEIGHT
    return _WEIGHTS.get(type(operation), 1) + text


def _text(operation: Operation[Any]) -> str | bytes | None:
    return getattr(operation, "note", None) or getattr(operation, "value", None)
