"""Records of the statements become the results of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..._types import ClaimState, Sighting
from ..._verdict import Verdict
from .._retry import ambiguous
from .._state_machine import to_result, transition
from ..base import BatchResult
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
    from collections import deque
    from collections.abc import Sequence


class Results:
    """The results of one attempt to execute a batch.

    Attributes:
        batch: The results so far.
        unread: The owned claims whose notes were not read.
    """

    def __init__(
        self,
        operations: Sequence[Operation[object]],
        mark_tokens: Sequence[str],
        nonce: str,
        location: str,
        *,
        maybe_applied: bool,
    ) -> None:
        """Begin without a result.

        Args:
            operations: The operations of the batch.
            mark_tokens: The token of each operation that marks a key.
            nonce: How these tokens begin; that of the first mark of a key is no longer.
            location: The address of the database, for errors.
            maybe_applied: Whether an earlier attempt may have been applied.
        """
        size = len(operations)
        self.batch = BatchResult([None] * size, [None] * size, None)
        self.unread: list[int] = []
        self._operations = operations
        self._mark_tokens = mark_tokens
        self._nonce = nonce
        self._location = location
        self._maybe_applied = maybe_applied

    def read(
        self,
        index: int,
        now: float,
        verdict: str | None,
        is_done: bool | None,  # noqa: FBT001 - a column of a record
        stored: Sequence[Any],
    ) -> tuple[Row | None, bool]:
        """Store the result of one record.

        The record of an insert has no verdict.

        Returns:
            The row that the operation left, and whether it has a note that was not
            read.
        """
        is_unread, *columns = stored
        operation = self._operations[index]
        row = None if columns[0] is None else Row._make(columns)
        note = operation.note if isinstance(operation, Noted) else None
        if note is not None and row is not None:
            if is_done or (verdict is None and self._is_inserted(index, row)):
                row, is_unread = row._replace(note=note or None), False
        elif is_done and isinstance(operation, Forget):
            row = None
        if verdict is None:
            value = self._insert_result(index, row, now)
        else:
            value = to_result(
                operation, Verdict(verdict), row, now, is_done=bool(is_done)
            )
        self._store(index, value, row, now)
        if is_unread:
            result = self.batch.results[index]
            if isinstance(result, ClaimState) and result.verdict:
                self.unread.append(index)
        return row, bool(is_unread)

    def add_notes(self, notes: Sequence[str | None]) -> None:
        """Complete the claims whose notes were not read."""
        for index, note in zip(self.unread, notes, strict=True):
            state, row = self.batch.results[index], self.batch.rows[index]
            if isinstance(state, ClaimState) and isinstance(row, Row):
                self.batch.results[index] = replace(state, note=note)
                self.batch.rows[index] = row._replace(note=note)
        self.unread = []

    def read_repeats(
        self,
        indexes: deque[int] | None,
        row: Row | None,
        now: float,
        *,
        is_unread: bool,
    ) -> int | None:
        """Compute the results of further operations on a key that change nothing.

        Returns:
            The first operation that changes the row, or needs a note that was not read,
            for the next round.
        """
        while indexes:
            index = indexes.popleft()
            operation = self._operations[index]
            value, after = transition(row, operation, now)
            if after is not row or (is_unread and _needs_note(operation)):
                return index
            self._store(index, value, row, now)
        return None

    def _insert_result(self, index: int, row: Row | None, now: float) -> object:
        """Return the result of an insert, which a concurrent insert may have preceded.

        ``row`` is the row after the insert; the token in it is that of the winner.
        """
        operation = self._operations[index]
        if isinstance(operation, Mark):
            return None
        if self._is_own(index, row):
            return to_result(operation, Verdict.NEW, row, now, is_done=True)
        result, after = transition(row, operation, now)
        if after is row or row is None:
            return result
        # The winner's lease or mark has ended since: the key is free, but this
        # operation stored nothing. A caller that gets IN_FLIGHT tries again.
        ended = row._replace(lease_until=now)
        return to_result(operation, Verdict.IN_FLIGHT, ended, now, is_done=False)

    def _store(self, index: int, value: object, row: Row | None, now: float) -> None:
        """Store a result; if an earlier attempt was applied, the result of that one."""
        if self._maybe_applied:
            operation = self._operations[index]
            if isinstance(value, Sighting | ClaimState) and not value.verdict:
                if row is not None and self._is_own(index, row):
                    is_first = row.attempt == isinstance(operation, Acquire)
                    verdict = Verdict.NEW if is_first else Verdict.RETRY
                    value = to_result(operation, verdict, row, now, is_done=True)
            elif value is False:
                value = ambiguous(operation, self._location) or value
        self.batch.results[index] = value
        self.batch.rows[index] = row

    def _is_inserted(self, index: int, row: Row | None) -> bool:
        """Had an insert its effect? A Mark is merged into a concurrent insert."""
        return isinstance(self._operations[index], Mark) or self._is_own(index, row)

    def _is_own(self, index: int, row: Row | None) -> bool:
        """Is the row the mark or the claim that this operation stored?"""
        operation = self._operations[index]
        if row is None:
            return False
        if isinstance(operation, CheckAndMark):
            if row.lease_until is not None or row.token is None:
                return False
            # An earlier attempt may also have executed the later operations on the key,
            # and so have replaced the mark of its first one.
            is_first = self._mark_tokens[index] == self._nonce
            return row.token == self._mark_tokens[index] or (
                is_first and row.token.startswith(self._nonce)
            )
        return (
            isinstance(operation, Acquire)
            and row.lease_until is not None
            and row.token == operation.token
        )


def _needs_note(operation: Operation[object]) -> bool:
    """Does the operation read the note of a key, or write it?"""
    if isinstance(operation, Get | Acquire):
        return True
    return isinstance(operation, Noted) and operation.note is not None
