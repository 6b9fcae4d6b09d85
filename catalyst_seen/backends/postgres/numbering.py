"""The keys of a batch, numbered: statements and records refer to them by number."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from .._for_each import Expansion
from ..operations import Acquire, ForEach
from .for_each import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..operations import Id, Operation

Numbers = dict[str, dict[str, int]]
"""The numbers of keys, by namespace and key."""


class Numbering:
    """The keys of a batch, numbered in the order of its operations.

    A ``ForEach`` has a number for each of its keys, and stays whole unless a key of the
    batch occurs twice: then the order of its effects matters, and the batch consists of
    single operations.

    Attributes:
        expansion: The operations of the batch, and how to regroup their results.
        single: For each operation, itself; for a ``ForEach``, what it repeats.
        keys: The key of each number.
        owners: The index of its operation.
        first: The numbers of the first operation on each key.
        later: The numbers of the later ones, in order, of the keys that have any.
        echoes: The numbers of claims with the token of an earlier one on the same key.
    """

    def __init__(self, operations: Sequence[Operation[Any]]) -> None:
        self.expansion: Expansion = Expansion(operations, SUPPORTED)
        self.later: defaultdict[Id, list[int]] = defaultdict(list)
        self.echoes: set[int] = set()
        self._number()
        if sum(map(len, self.first.values())) < len(self.keys):
            self.expansion = Expansion(operations)
            self._number()
            self._number_repeats()

    def _number(self) -> None:
        self.keys: list[str] = []
        self.owners: list[int] = []
        self.single: list[Operation[Any]] = []
        self.first: Numbers = defaultdict(dict)
        for index, one in enumerate(self.expansion.operations):
            number = len(self.keys)
            if isinstance(one, ForEach):
                numbers = range(number, number + len(one.keys))
                self.first[one.namespace].update(zip(one.keys, numbers, strict=True))
                self.single.append(one.operation)
                self.keys += one.keys
                self.owners += [index] * len(one.keys)
            else:
                self.first[one.namespace][one.key] = number
                self.single.append(one)
                self.keys.append(one.key)
                self.owners.append(index)

    def _number_repeats(self) -> None:
        self.first = defaultdict(dict)
        tokens: set[tuple[str, str, str]] = set()
        for number, one in enumerate(self.single):
            if self.first[one.namespace].setdefault(one.key, number) != number:
                self.later[one.namespace, one.key].append(number)
            if isinstance(one, Acquire):
                claim = one.namespace, one.key, one.token
                if claim in tokens:
                    self.echoes.add(number)
                tokens.add(claim)

    def ids(self) -> frozenset[Id]:
        """Return the keys of the batch."""
        return frozenset(
            (namespace, key)
            for namespace, numbers in self.first.items()
            for key in numbers
        )

    def among(self, ids: Iterable[Id]) -> frozenset[Id]:
        """Return those of the keys that the batch has."""
        return frozenset(id_ for id_ in ids if id_[1] in self.first.get(id_[0], ()))


def in_order(numbers: Numbers, page: int) -> Iterator[list[int]]:
    """Yield the numbers in pages, in the order of the collation "C" of their keys.

    All batches lock rows in this order, so that no two of them deadlock.
    """
    ordered: list[int] = []
    for namespace in sorted(numbers):
        of_key = numbers[namespace]
        ordered += map(of_key.__getitem__, sorted(of_key))
    for first in range(0, len(ordered), page):
        yield ordered[first : first + page]
