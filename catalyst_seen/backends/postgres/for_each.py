"""The results of one operation on many keys, without an object for each key.

Of each verb, the records that are usual are read here. What else there may be (a note
that was not read, a key that another program inserted at the same time, a retry that
has to recognise its first attempt) is left to ``results``.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from ..._types import ClaimState, Sighting
from ..operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    Confirm,
    IsSeen,
    Mark,
    Operation,
    Refresh,
)
from .results import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..operations import ForEach
    from .results import Record, Results

# The columns of a record.
_NOW, _VERDICT, _IS_DONE = 0, 1, 2
_IS_UNREAD = 6
_FIRST_SEEN, _LAST_SEEN, _EXPIRES_AT = 7, 8, 9
_TOKEN, _ATTEMPT, _LEASE_UNTIL = 10, 11, 12
_NOTE = 14


def read(each: ForEach[Any], records: Sequence[Record], results: Results) -> list[Any]:
    """Return the result of each key.

    Args:
        each: The operation and its keys, of which none occurs twice in the batch.
        records: The record of each key.
        results: The results of the attempt.
    """
    return _READ[type(each.operation)](each, records, results)


def all_seen(records: Sequence[Record]) -> AllSeen | None:
    """Summarize the rows of records; ``None`` unless all keys are seen."""
    for record in records:
        if record[_FIRST_SEEN] is None or record[_LEASE_UNTIL] is not None:
            return None
    ends = [end for record in records if (end := record[_EXPIRES_AT]) is not None]
    earliest = min(ends, default=None)
    if earliest is not None and earliest <= records[0][_NOW]:
        return None
    return AllSeen.at(
        earliest,
        [record[_FIRST_SEEN] for record in records],
        [record[_LAST_SEEN] for record in records],
        [record[_ATTEMPT] for record in records],
    )


def _are_seen(_: ForEach[bool], records: Sequence[Record], __: Results) -> list[bool]:
    return [record[_VERDICT] == "duplicate" for record in records]


def _are_done(_: ForEach[bool], records: Sequence[Record], __: Results) -> list[bool]:
    return [record[_IS_DONE] for record in records]


def _nothing(each: ForEach[None], _: Sequence[Record], __: Results) -> list[None]:
    return [None] * len(each.keys)


def _sightings(
    each: ForEach[Sighting], records: Sequence[Record], results: Results
) -> list[Sighting]:
    namespace, nonce = each.namespace, results.nonce
    sightings: list[Any] = []
    for index, record in enumerate(records):
        key = each.keys[index]
        verdict, lease_until = record[_VERDICT], record[_LEASE_UNTIL]
        retry_after = None
        if verdict is None:
            if record[_TOKEN] == nonce and lease_until is None:
                verdict = "new"
        elif verdict == "in_flight":
            retry_after = lease_until - record[_NOW]
        if verdict is None or results.maybe_applied:
            _read_alone(each, index, record, results, sightings)
            continue
        sightings.append(
            Sighting(
                key, namespace, VERDICTS[verdict], record[_FIRST_SEEN],
                record[_LAST_SEEN], record[_ATTEMPT], retry_after,
            )
        )  # fmt: skip
    return sightings


def _claim_states(
    each: ForEach[ClaimState], records: Sequence[Record], results: Results
) -> list[ClaimState]:
    claim = each.operation
    assert isinstance(claim, Acquire)  # noqa: S101 - see _READ
    assert each.tokens is not None  # noqa: S101 - every claim has one
    states: list[Any] = []
    for index, record in enumerate(records):
        verdict, lease_until = record[_VERDICT], record[_LEASE_UNTIL]
        is_done, retry_after, note = record[_IS_DONE], None, None
        if verdict is None:
            if record[_TOKEN] == each.tokens[index] and lease_until is not None:
                verdict, is_done = "new", True
        elif verdict == "in_flight":
            retry_after = lease_until - record[_NOW]
        elif not is_done:
            lease_until = None
        if is_done:
            note = record[_NOTE] if claim.note is None else claim.note or None
        is_unread = is_done and claim.note is None and record[_IS_UNREAD]
        if verdict is None or is_unread or results.maybe_applied:
            _read_alone(each, index, record, results, states)
            continue
        states.append(
            ClaimState(
                VERDICTS[verdict], record[_ATTEMPT], lease_until, retry_after, note
            )
        )
    return states


def _read_alone(
    each: ForEach[Any], index: int, record: Record, results: Results, values: list[Any]
) -> None:
    """Append the result of a single operation."""
    operation: Any = copy(each.operation)
    operation.key = each.keys[index]
    if each.tokens is not None:
        operation.token = each.tokens[index]
    value, _, is_unread = results.read(operation, results.nonce, record)
    values.append(value)
    if is_unread:
        results.expect_note(operation, values, len(values) - 1)


_READ: dict[
    type[Operation[Any]], Callable[[Any, Sequence[Record], Results], list[Any]]
] = {
    IsSeen: _are_seen,
    Mark: _nothing,
    CheckAndMark: _sightings,
    Refresh: _are_done,
    Acquire: _claim_states,
    Confirm: _are_done,
}

SUPPORTED = frozenset(_READ)
"""The operations that are known here."""
