"""A batch: operations become the parameters of statements, and records become results.

A batch is one statement, ``queries.write_batch``, if each of its keys occurs once and
there are at most a thousand of them. Any other batch takes several statements, in one
transaction.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._types import ClaimState, Sighting
from ..._verdict import Verdict
from .._retry import ambiguous, safe_to_repeat
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
    ReadOperation,
    Row,
)
from .encoding import Names, encode
from .queries import READ_NOTES, read_batch, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import asyncpg

    from .._retry import ServerClock
    from ..operations import Id
    from .tables import Tables


class _State(NamedTuple):
    """The row of a key after an operation, and whether its note was not read."""

    row: Row | None
    is_unread: bool


_MAX_KEYS = 1_000
"""Keys per statement."""

_NONCE_BYTES = 6


class Batch:
    """Operations that are executed together, and may be executed again by a retry.

    The tokens of marks begin with a nonce of the batch: by it, a retry recognises the
    marks that an earlier attempt stored.

    Attributes:
        ids: The keys of the batch.
        is_change: Whether the batch may change a row.
        is_single_statement: Whether one statement is enough.
    """

    def __init__(
        self, operations: Sequence[Operation[object]], tables: Tables, location: str
    ) -> None:
        """Prepare a batch; no I/O.

        Args:
            operations: The operations, in the order of their results.
            tables: The tables of the store.
            location: The address of the database, for errors.
        """
        self._operations = operations
        self._tables = tables
        self._location = location
        self._nonce = secrets.token_urlsafe(_NONCE_BYTES)
        first: dict[Id, int] = {}
        self._later: defaultdict[Id, list[int]] = defaultdict(list)
        self._repeats: set[int] = set()
        for index, operation in enumerate(operations):
            id_ = operation.namespace, operation.key
            if first.setdefault(id_, index) != index:
                self._later[id_].append(index)
                self._repeats.add(index)
        self._first = first
        self._names = Names(operations)
        self.ids: frozenset[Id] = frozenset(first)
        self.is_change: bool = not all(
            isinstance(one, ReadOperation) for one in operations
        )
        self.is_single_statement: bool = not self._later and len(first) <= _MAX_KEYS

    async def execute(
        self,
        connection: asyncpg.Connection,
        clock: ServerClock,
        *,
        maybe_applied: bool = False,
        timeout: float | None = None,
    ) -> BatchResult:
        """Execute the first operation on each key, then the later ones, in rounds.

        A round ends for a key at the next operation that changes its row.

        Args:
            connection: In a transaction, unless the batch is a single statement.
            clock: Observes the server's time.
            maybe_applied: Whether an earlier attempt may have been applied.
            timeout: Seconds that a statement may take.
        """
        size = len(self._operations)
        result = BatchResult([None] * size, [None] * size, None)
        later = {id_: deque(indexes) for id_, indexes in self._later.items()}
        pending: Mapping[Id, int] = self._first
        while pending:
            next_round: dict[Id, int] = {}
            for indexes in _statements(pending):
                statement, parameters = self._statement(
                    indexes, maybe_applied=maybe_applied
                )
                sent = clock.monotonic()
                records = await connection.fetch(
                    statement, *parameters, timeout=timeout
                )
                clock.observe(records[0]["now"], sent)
                unread = []
                for record in records:
                    now, verdict, is_done, position, place, key, *stored = record
                    if position is None:
                        id_ = self._names.all[place - 1], key
                        index = pending[id_]
                    else:
                        index = indexes[position - 1]
                        operation = self._operations[index]
                        id_ = operation.namespace, operation.key
                    state = self._state(index, verdict, stored, is_done=is_done)
                    self._read(
                        result, index, now, verdict, state, is_done=is_done,
                        maybe_applied=maybe_applied,
                    )  # fmt: skip
                    if state.is_unread and _is_owned_claim(result.results[index]):
                        unread.append(index)
                    if id_ in later:
                        next_round |= self._read_repeats(
                            result, later[id_], state, now, maybe_applied=maybe_applied
                        )
                if unread:
                    await self._read_notes(connection, result, unread, timeout)
            pending = next_round
        return result

    def _statement(
        self, indexes: Sequence[int], *, maybe_applied: bool
    ) -> tuple[str, list[Sequence[object]]]:
        operations = [self._operations[index] for index in indexes]
        if maybe_applied:
            operations = list(map(safe_to_repeat, operations))
        shape, parameters = encode(
            operations, list(map(self._mark_token, indexes)), self._names
        )
        is_change = not all(
            isinstance(operation, ReadOperation) for operation in operations
        )
        template = write_batch(shape) if is_change else read_batch(shape)
        return self._tables.render(template), parameters

    def _state(
        self,
        index: int,
        verdict: str | None,
        stored: Sequence[Any],
        *,
        is_done: bool | None,
    ) -> _State:
        """Return the row of a record, with the note that the operation wrote, if any.

        The record of an insert has no verdict. Its row is that of a concurrent insert
        unless the operation won, or is a Mark, which is merged into any row.
        """
        is_unread, *columns = stored
        operation = self._operations[index]
        if columns[0] is None or (is_done and isinstance(operation, Forget)):
            return _State(None, is_unread=False)
        row = Row._make(columns)
        note = operation.note if isinstance(operation, Noted) else None
        if note is not None and (
            is_done
            or (
                verdict is None
                and (isinstance(operation, Mark) or self._is_own(index, row))
            )
        ):
            return _State(row._replace(note=note or None), is_unread=False)
        return _State(row, is_unread=bool(is_unread))

    def _read(
        self,
        result: BatchResult,
        index: int,
        now: float,
        verdict: str | None,
        state: _State,
        *,
        is_done: bool | None,
        maybe_applied: bool,
    ) -> None:
        """Store the result of one record."""
        operation, row = self._operations[index], state.row
        if verdict is None:
            value = self._insert_result(index, row, now)
        else:
            value = to_result(
                operation, Verdict(verdict), row, now, is_done=bool(is_done)
            )
        self._store(result, index, value, row, now, maybe_applied=maybe_applied)

    async def _read_notes(
        self,
        connection: asyncpg.Connection,
        result: BatchResult,
        indexes: Sequence[int],
        timeout: float | None,
    ) -> None:
        """Read the notes of claims that waited for the locks of their rows.

        The snapshot of their statement was older than the rows, and so may be the notes
        that it would have returned.
        """
        operations = [self._operations[index] for index in indexes]
        records = await connection.fetch(
            self._tables.render(READ_NOTES),
            [operation.namespace for operation in operations],
            [operation.key for operation in operations],
            timeout=timeout,
        )
        for index, (note,) in zip(indexes, records, strict=True):
            state, row = result.results[index], result.rows[index]
            if isinstance(state, ClaimState) and isinstance(row, Row):
                result.results[index] = replace(state, note=note)
                result.rows[index] = row._replace(note=note)

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

    def _read_repeats(
        self,
        result: BatchResult,
        indexes: deque[int],
        state: _State,
        now: float,
        *,
        maybe_applied: bool,
    ) -> dict[Id, int]:
        """Compute the results of further operations on a key that change nothing.

        Returns:
            The first operation that changes the row, or needs a note that was not read,
            for the next round.
        """
        row = state.row
        while indexes:
            index = indexes.popleft()
            operation = self._operations[index]
            value, after = transition(row, operation, now)
            if after is not row or (state.is_unread and _needs_note(operation)):
                return {(operation.namespace, operation.key): index}
            self._store(result, index, value, row, now, maybe_applied=maybe_applied)
        return {}

    def _store(
        self,
        result: BatchResult,
        index: int,
        value: object,
        row: Row | None,
        now: float,
        *,
        maybe_applied: bool,
    ) -> None:
        """Store a result; if an earlier attempt was applied, the result of that one."""
        operation = self._operations[index]
        if maybe_applied:
            if isinstance(value, Sighting | ClaimState) and not value.verdict:
                if row is not None and self._is_own(index, row):
                    is_first = row.attempt == isinstance(operation, Acquire)
                    verdict = Verdict.NEW if is_first else Verdict.RETRY
                    value = to_result(operation, verdict, row, now, is_done=True)
            elif value is False:
                value = ambiguous(operation, self._location) or value
        result.results[index] = value
        result.rows[index] = row

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
            is_first = index not in self._repeats
            return row.token == self._mark_token(index) or (
                is_first and row.token.startswith(self._nonce)
            )
        return (
            isinstance(operation, Acquire)
            and row.lease_until is not None
            and row.token == operation.token
        )

    def _mark_token(self, index: int) -> str:
        """Return the token of a mark, unique among the operations on one key."""
        return f"{self._nonce}{index}" if index in self._repeats else self._nonce


def _statements(pending: Mapping[Id, int]) -> Iterator[list[int]]:
    """Divide operations into statements, in the order of the collation "C".

    All batches lock rows in this order, so that no two of them deadlock.
    """
    indexes = [pending[id_] for id_ in sorted(pending)]
    for first in range(0, len(indexes), _MAX_KEYS):
        yield indexes[first : first + _MAX_KEYS]


def _needs_note(operation: Operation[object]) -> bool:
    """Does the operation read the note of a key, or write it?"""
    if isinstance(operation, Get | Acquire):
        return True
    return isinstance(operation, Noted) and operation.note is not None


def _is_owned_claim(result: object) -> bool:
    return isinstance(result, ClaimState) and bool(result.verdict)
