"""Records of the statements become the results of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..._types import ClaimState, Sighting
from ..._verdict import Verdict
from .._retry import ambiguous
from .._state_machine import to_result, transition
from ..operations import (
    Acquire,
    CheckAndMark,
    Forget,
    Get,
    Mark,
    Noted,
    Operation,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = Any
"""A record of a batch, of the class of asyncpg; see ``queries`` for its columns."""


VERDICTS: dict[str, Verdict] = {
    **{verdict.value: verdict for verdict in Verdict},
    "pending": Verdict.NEW,
}
"""The verdicts of the statements."""

Outcome = tuple[object, Row | None, bool]
"""The result, the row, and whether that has a note that was not read."""


def to_row(columns: Sequence[Any]) -> Row:
    """Return the row of a record: its columns, the note, and the error, if read."""
    *row, note, error = (*columns, None, None)[:9]
    return Row._make((*row, note, None, error))


class Results:
    """The results of one attempt to execute a batch.

    Attributes:
        nonce: The token of the first mark of a key; other mark tokens begin with it.
        maybe_applied: Whether an earlier attempt may have been applied.
        unread: The owned claims whose notes were not read, each with the list that has
            its result, and the index in it.
    """

    def __init__(self, nonce: str, location: str, *, maybe_applied: bool) -> None:
        """Begin without a result.

        Args:
            nonce: That of the batch.
            location: The address of the database, for errors.
            maybe_applied: Whether an earlier attempt may have been applied.
        """
        self.nonce: str = nonce
        self.maybe_applied: bool = maybe_applied
        self._location = location
        self.unread: list[tuple[Operation[object], list[Any], int]] = []

    def read(
        self, operation: Operation[object], mark_token: str | None, record: Record
    ) -> Outcome:
        """Return the outcome of an operation.

        Args:
            operation: The operation.
            mark_token: The token of its mark, if it marks a key; see ``first_value``.
            record: Its record; that of an insert has no verdict.
        """
        now, verdict, is_done, _, _, _, is_unread, *columns = record
        row = None if columns[0] is None else to_row(columns)
        note = operation.note if isinstance(operation, Noted) else None
        if note is not None and row is not None:
            if is_done or (
                verdict is None and self._is_inserted(operation, mark_token, row)
            ):
                row, is_unread = row._replace(note=note or None), False
        elif is_done and isinstance(operation, Forget):
            row = None
        if verdict is None:
            value = self._insert_result(operation, mark_token, row, now)
        else:
            value = to_result(
                operation, VERDICTS[verdict], row, now, is_done=bool(is_done)
            )
        if self.maybe_applied:
            value = self.first_value(value, operation, mark_token, row, now)
        return value, row, bool(is_unread)

    def first_value(
        self,
        value: object,
        operation: Operation[object],
        mark_token: str | None,
        row: Row | None,
        now: float,
    ) -> object:
        """Return a result, or that of an earlier attempt if that one was applied.

        ``mark_token`` is ``None`` if the operation has the token of an earlier one on
        the same key: the row is then that one's.
        """
        if not self.maybe_applied or mark_token is None:
            return value
        if isinstance(value, Sighting | ClaimState) and not value.verdict:
            if row is not None and self._is_own(operation, mark_token, row):
                is_first = row.attempt == isinstance(operation, Acquire)
                verdict = Verdict.NEW if is_first else Verdict.RETRY
                return to_result(operation, verdict, row, now, is_done=True)
        elif value is False:
            return ambiguous(operation, self._location) or value
        return value

    def expect_note(
        self, operation: Operation[object], values: list[Any], index: int
    ) -> None:
        """Remember a result, if that is an owned claim, whose note was not read."""
        value = values[index]
        if isinstance(value, ClaimState) and value.verdict:
            self.unread.append((operation, values, index))

    def add_notes(self, notes: Sequence[str | None]) -> None:
        """Complete the results of the claims whose notes were not read."""
        for (_, values, index), note in zip(self.unread, notes, strict=True):
            values[index] = replace(values[index], note=note)
        self.unread = []

    def _insert_result(
        self,
        operation: Operation[object],
        mark_token: str | None,
        row: Row | None,
        now: float,
    ) -> object:
        """Return the result of an insert, which a concurrent insert may have preceded.

        ``row`` is the row after the insert; the token in it is that of the winner.
        """
        if isinstance(operation, Mark):
            return None
        if self._is_own(operation, mark_token, row):
            return to_result(operation, Verdict.NEW, row, now, is_done=True)
        result, after = transition(row, operation, now)
        if after is row or row is None:
            return result
        # The winner's lease or mark has ended since: the key is free, but this
        # operation stored nothing. A caller that gets IN_FLIGHT tries again.
        ended = row._replace(lease_until=now)
        return to_result(operation, Verdict.IN_FLIGHT, ended, now, is_done=False)

    def _is_inserted(
        self, operation: Operation[object], mark_token: str | None, row: Row
    ) -> bool:
        """Had an insert its effect? A Mark is merged into a concurrent insert."""
        return isinstance(operation, Mark) or self._is_own(operation, mark_token, row)

    def _is_own(
        self, operation: Operation[object], mark_token: str | None, row: Row | None
    ) -> bool:
        """Is the row the mark or the claim that this operation stored?"""
        if row is None:
            return False
        if isinstance(operation, CheckAndMark):
            if row.lease_until is not None or row.token is None:
                return False
            # An earlier attempt may also have executed the later operations on the key,
            # and so have replaced the mark of its first one.
            is_first = mark_token == self.nonce
            return row.token == mark_token or (
                is_first and row.token.startswith(self.nonce)
            )
        return (
            isinstance(operation, Acquire)
            and row.lease_until is not None
            and row.token == operation.token
        )


def needs_note(operation: Operation[object]) -> bool:
    """Does the operation read the note of a key, or write it?"""
    if isinstance(operation, Get | Acquire):
        return True
    return isinstance(operation, Noted) and operation.note is not None
