"""The results of a ``ForEach``, without an operation for each key."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from ..._types import Sighting
from ..._verdict import Verdict
from .._state_machine import to_result
from ..operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    Confirm,
    Forget,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
)
from .replies import EACH_DONE, EACH_VERDICT, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..operations import ForEach
    from .replies import EachReply

SUPPORTED: frozenset[type[Operation[Any]]] = frozenset(
    {Acquire, CheckAndMark, Confirm, Forget, IsSeen, Mark, Refresh, Release}
)
"""The operations that a ``ForEach`` may repeat."""

_DUPLICATE = VERDICTS.index(Verdict.DUPLICATE)


class EachResult:
    """The results of a ``ForEach``, collected from the replies to its runs.

    Attributes:
        results: The result of each key.
    """

    def __init__(self, each: ForEach[Any]) -> None:
        self.results: list[Any] = [None] * len(each.keys)
        self._parts: list[AllSeen | None] = []

    def add(
        self, offsets: Sequence[int], results: list[Any], summary: AllSeen | None
    ) -> None:
        """Add the results of some keys, and what is known of all of them."""
        self._parts.append(summary)
        if len(results) == len(self.results):
            self.results = results
            return
        for offset, result in zip(offsets, results, strict=True):
            self.results[offset] = result

    def summary(self) -> AllSeen | None:
        """Return what is known of all keys."""
        if len(self._parts) == 1:
            return self._parts[0]
        parts = [part for part in self._parts if part is not None]
        if not parts or len(parts) < len(self._parts):
            return None
        ends = [part.expires_at for part in parts if part.expires_at is not None]
        return AllSeen(min(ends, default=None))


def results(
    operation: Operation[Any], keys: Sequence[str], reply: EachReply, now: float
) -> list[Any]:
    """Return the result of an operation on each key, as if none had failed.

    Args:
        operation: The operation.
        keys: The keys.
        reply: The reply.
        now: The server's time.
    """
    return _RESULTS[type(operation)](operation, keys, reply, now)


def _are_seen(
    _: IsSeen, _keys: Sequence[str], reply: EachReply, _now: float
) -> list[bool]:
    return [code == _DUPLICATE for code in reply.codes]


def _are_done(
    _: Operation[bool], _keys: Sequence[str], reply: EachReply, _now: float
) -> list[bool]:
    return [code & EACH_DONE != 0 for code in reply.codes]


def _sightings(
    check: CheckAndMark, keys: Sequence[str], reply: EachReply, now: float
) -> list[Any]:
    assert reply.instants is not None  # noqa: S101 - the reply to this operation
    instants, namespace, verdicts = reply.instants, check.namespace, VERDICTS
    made: list[Any] = [
        Sighting(key, namespace, verdicts[code & EACH_VERDICT], first_seen, last_seen)
        for key, code, first_seen, last_seen in zip(
            keys, reply.codes, instants[::2], instants[1::2], strict=True
        )
    ]
    single = copy(check)
    for number in reply.claims:
        single.key = keys[number]
        made[number] = _result(single, reply, number, now)
    return made


def _claim_states(
    acquire: Acquire, keys: Sequence[str], reply: EachReply, now: float
) -> list[Any]:
    return [_result(acquire, reply, number, now) for number in range(len(keys))]


def _result(
    operation: Operation[Any], reply: EachReply, number: int, now: float
) -> object:
    verdict, is_done, row, *_ = reply.of_key(number)
    return to_result(operation, verdict, row, now, is_done=is_done)


_RESULTS: dict[
    type[Operation[Any]],
    Callable[[Any, Sequence[str], EachReply, float], list[Any]],
] = {
    Acquire: _claim_states,
    CheckAndMark: _sightings,
    Confirm: _are_done,
    Forget: _are_done,
    IsSeen: _are_seen,
    Mark: lambda _, keys, *_others: [None] * len(keys),
    Refresh: _are_done,
    Release: _are_done,
}
