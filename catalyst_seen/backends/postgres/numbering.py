"""The keys of a batch, numbered: statements and records refer to them by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._for_each import Expansion
from ..operations import Acquire, ForEach

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
        operations: The operations of the batch.
        expansion: How to regroup their results, if a ``ForEach`` was replaced.
        single: For each operation, itself; for a ``ForEach``, what it repeats.
        keys: The key of each number.
        owners: The index of its operation; ``None`` if these are single operations.
        tokens: Its token, if it has one of its own in a ``ForEach``; ``None`` if no
            key has.
        first: The numbers of the first operation on each key.
        later: The numbers of the later ones, in order, of the keys that have any.
        echoes: The numbers of claims with the token of an earlier one on the same key.
    """

    def __init__(self, operations: Sequence[Operation[Any]]) -> None:
        self.operations: Sequence[Operation[Any]] = operations
        self.expansion: Expansion | None = None
        self.later: dict[Id, list[int]] = {}
        self.echoes: set[int] = set()
        if any(isinstance(one, ForEach) for one in operations):
            self._number()
        else:
            self._number_singles()
        if sum(map(len, self.first.values())) < len(self.keys):
            self.expansion = Expansion(operations)
            self.operations = self.expansion.operations
            self._number_singles()
            self._number_repeats()

    def _number(self) -> None:
        self.keys: list[str] = []
        self.owners: list[int] | None = []
        tokens: list[str | None] = []
        self.single: Sequence[Operation[Any]] = [
            one.operation if isinstance(one, ForEach) else one
            for one in self.operations
        ]
        self.first: Numbers = {}
        for index, one in enumerate(self.operations):
            keys = one.keys if isinstance(one, ForEach) else (one.key,)
            numbers = range(len(self.keys), len(self.keys) + len(keys))
            of_key = self.first.setdefault(one.namespace, {})
            of_key.update(zip(keys, numbers, strict=True))
            self.keys += keys
            self.owners += [index] * len(keys)
            own = one.tokens if isinstance(one, ForEach) else None
            tokens += own or [None] * len(keys)
        self.tokens: list[str | None] | None = tokens if any(tokens) else None

    def _number_singles(self) -> None:
        self.single = self.operations
        self.keys = [one.key for one in self.operations]
        self.owners = self.tokens = None
        self.first = {}
        for number, one in enumerate(self.operations):
            if one.namespace in self.first:
                self.first[one.namespace][one.key] = number
            else:
                self.first[one.namespace] = {one.key: number}

    def _number_repeats(self) -> None:
        self.first = {}
        tokens: set[tuple[str, str, str]] = set()
        for number, one in enumerate(self.single):
            of_key = self.first.setdefault(one.namespace, {})
            if of_key.setdefault(one.key, number) != number:
                self.later.setdefault((one.namespace, one.key), []).append(number)
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
