"""What an open store counts, as plain integers.

A call costs one addition for each key, and a batch a few more; the names that people
read are made by the snapshot. A monitoring library, which costs about as much as a
mark, is never called from here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .._errors import SeenError
from .._metrics import MAX_NAMESPACES, OTHER, Histogram, OperationCount
from .._types import ClaimState, Sighting
from .._verdict import Verdict
from ..backends.operations import ForEach, Get, IsSeen, Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..backends.listings import Observed
    from ..backends.operations import Operation

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10, 30)
"""From a commit on a fast disk to the default timeout."""

_KEYS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 50_000)
"""From a lone call to the largest listing."""

_VERDICT, _NAMESPACE = attrgetter("verdict"), attrgetter("namespace")
_READS = {IsSeen.verb, Get.verb}

_Outcome = str | bool | None
"""The value of a verdict, or what the operation returned; a record and the end of a
lease are true."""

_Key = tuple[str, str, _Outcome]
"""Namespace, verb and outcome."""

_OUTCOMES: tuple[Verdict | bool | None, ...] = (*Verdict, False, None)
_MOST_KEYS = 10 * MAX_NAMESPACES
"""Keys of a tally after which its namespaces are limited."""


class Distribution:
    """Counts values by the ranges in which they are."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> Histogram:
        """Return what was counted."""
        return Histogram(self._bounds, tuple(self._counts), self._sum)


class Namespaces:
    """The namespaces that are counted by themselves: the first ones that are used."""

    def __init__(self) -> None:
        self._names = {"": ""}

    def label(self, name: str) -> str:
        """Return the name under which a namespace is counted."""
        if name in self._names or len(self._names) <= MAX_NAMESPACES:
            return self._names.setdefault(name, name)
        return OTHER


class Tally:
    """Counts operations by namespace, verb and outcome.

    Adding is the hot path: there, the namespaces are not limited, but from time to
    time, when there are many.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._counts: Counter[_Key] = Counter()

    def add(self, key: _Key, number: int = 1) -> None:
        """Count operations of one kind."""
        self._counts[key] = self._counts.get(key, 0) + number
        if len(self._counts) > _MOST_KEYS:
            self._limit()

    def snapshot(self) -> Counter[OperationCount]:
        """Return the counts, by the words that people read."""
        found: Counter[OperationCount] = Counter()
        for (namespace, verb, outcome), number in dict(self._counts).items():
            label = self._namespaces.label(namespace)
            found[OperationCount(verb, _word(verb, outcome), label)] += number
        return found

    def by_verb(self) -> Counter[str]:
        """Return the number of operations of each verb."""
        verbs: Counter[str] = Counter()
        for (_, verb, _), number in dict(self._counts).items():
            verbs[verb] += number
        return verbs

    def total(self) -> int:
        """Return the number of all operations."""
        return sum(dict(self._counts).values())

    def _limit(self) -> None:
        limited: Counter[_Key] = Counter()
        for (namespace, verb, outcome), number in self._counts.items():
            limited[self._namespaces.label(namespace), verb, outcome] += number
        self._counts = limited


class Counters:
    """Counts the operations and batches of a store.

    Attributes:
        operations: The operations that were sent to the backend.
        batch_keys: As in ``StoreMetrics``.
        batch_seconds: As in ``StoreMetrics``.
        wait_seconds: As in ``StoreMetrics``.
        leases_lost: As in ``StoreMetrics``.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self.operations: Tally = Tally(namespaces)
        self.batch_keys: Distribution = Distribution(_KEYS)
        self.batch_seconds: Distribution = Distribution(_SECONDS)
        self.wait_seconds: Distribution = Distribution(_SECONDS)
        self.leases_lost: int = 0

    def count_results(
        self, operations: Sequence[Operation[Any]], results: Sequence[Any]
    ) -> None:
        """Count the operations of a batch by their results."""
        keys = len(operations)
        if keys == 1:
            keys = self._count_one(operations[0], results[0])
        elif _are_alike(operations):
            self._count_each(operations[0], results)
        else:
            keys = sum(map(self._count_one, operations, results))
        self.batch_keys.add(keys)

    def count_outside(self, operation: Operation[Any], result: object) -> None:
        """Count an operation that was in no batch, but in a caller's transaction."""
        self._count_one(operation, result)

    def _count_one(self, operation: Operation[Any], result: Any) -> int:  # noqa: ANN401
        """Count an operation; return on how many keys it was."""
        kind = type(result)
        if kind is Sighting or kind is ClaimState:
            outcome = result.verdict._value_
        elif kind is bool or result is None:
            outcome = result
        elif isinstance(result, SeenError):
            return operation.count()[1]  # it is counted as an error
        elif isinstance(operation, ForEach):
            self._count_each(operation.operation, result)
            return len(result)
        else:
            outcome = True
        self.operations.add((operation.namespace, operation.verb, outcome))
        return 1

    def _count_each(self, operation: Operation[Any], results: Sequence[Any]) -> None:
        """Count an operation on many keys, with as little as possible for each key."""
        outcomes: Sequence[object]
        try:
            outcomes = [*map(_VERDICT, results)]
        except AttributeError:  # there is none, or some keys have failed alone
            done = (one for one in results if not isinstance(one, SeenError))
            outcomes = [getattr(one, "verdict", one) for one in done]
        left = len(outcomes)
        for outcome in _OUTCOMES:
            if left and (number := outcomes.count(outcome)):
                left -= number
                word = outcome.value if isinstance(outcome, Verdict) else outcome
                key = operation.namespace, operation.verb, word
                self.operations.add(key, number)
        if left:
            self.operations.add((operation.namespace, operation.verb, True), left)

    def count_listing(self, namespace: str, observed: Observed) -> None:
        """Count the items of a listing by what became of them."""
        counted = observed.counted
        outcomes = {
            "new": counted.new,
            "duplicate": counted.duplicates,
            "changed": counted.changed,
            "replaced": counted.replaced,
            "baseline": observed.summary.baseline if counted.polls else 0,
        }
        for outcome, number in outcomes.items():
            if number:
                self.operations.add((namespace, "observe", outcome), number)

    def count_batch(self, seconds: float, waited: float) -> None:
        """Count a batch that was sent: how long it took, and how long it waited."""
        self.batch_seconds.add(seconds)
        self.wait_seconds.add(waited)


def _are_alike(operations: Sequence[Operation[Any]]) -> bool:
    """Have they one verb and one namespace, each on a single key?"""
    return (
        len({*map(type, operations)}) == 1
        and type(operations[0]) is not ForEach
        and len({*map(_NAMESPACE, operations)}) == 1
    )


def _word(verb: str, outcome: _Outcome) -> str:
    if isinstance(outcome, str):
        return outcome
    if verb in _READS:
        return "seen" if outcome else "unseen"
    return "done" if outcome or verb == Mark.verb else "refused"
