"""A batch: operations become the parameters of statements, and records become results.

A batch is one statement, ``queries.WRITE_BATCH``, if each of its keys occurs once and
there are at most a thousand of them. Any other batch takes several statements, in one
transaction.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from ..._types import ClaimState, Sighting
from ..._verdict import Verdict
from .._retry import ambiguous, safe_to_repeat
from .._state_machine import to_result, transition
from ..base import BatchResult
from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Mark,
    Operation,
    ReadOperation,
    Refresh,
    Release,
    Renew,
    Resolve,
    Row,
)
from .queries import READ_BATCH, WRITE_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import asyncpg

    from .._retry import ServerClock
    from ..operations import Id
    from .queries import Table

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
        self, operations: Sequence[Operation[object]], table: Table, location: str
    ) -> None:
        """Prepare a batch; no I/O.

        Args:
            operations: The operations, in the order of their results.
            table: The table of the store.
            location: The address of the database, for errors.
        """
        self._operations = operations
        self._table = table
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
                for record in records:
                    id_ = record["namespace"], record["id"]
                    row = self._read(
                        result, pending[id_], record, maybe_applied=maybe_applied
                    )
                    if id_ in later:
                        next_round |= self._read_repeats(
                            result,
                            later[id_],
                            row,
                            record["now"],
                            maybe_applied=maybe_applied,
                        )
            pending = next_round
        return result

    def _statement(
        self, indexes: Sequence[int], *, maybe_applied: bool
    ) -> tuple[str, list[Sequence[object]]]:
        operations = [self._operations[index] for index in indexes]
        if maybe_applied:
            operations = list(map(safe_to_repeat, operations))
        is_change = not all(
            isinstance(operation, ReadOperation) for operation in operations
        )
        statement = self._table.render(WRITE_BATCH if is_change else READ_BATCH)
        return statement, _parameters(operations, list(map(self._mark_token, indexes)))

    def _read(
        self,
        result: BatchResult,
        index: int,
        record: asyncpg.Record,
        *,
        maybe_applied: bool,
    ) -> Row | None:
        """Store the result of one record; return the row that the operation left."""
        now, verdict, is_done, _, _, *stored = record
        operation = self._operations[index]
        row = None if stored[0] is None else Row._make(stored)
        if verdict is None:
            value = self._insert_result(index, row, now)
        else:
            if is_done and isinstance(operation, Forget):
                row = None
            value = to_result(operation, Verdict(verdict), row, now, is_done=is_done)
        self._store(result, index, value, row, now, maybe_applied=maybe_applied)
        return row

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
        row: Row | None,
        now: float,
        *,
        maybe_applied: bool,
    ) -> dict[Id, int]:
        """Compute the results of further operations on a key that change nothing.

        Returns:
            The first operation that changes the row, for the next round.
        """
        while indexes:
            index = indexes.popleft()
            operation = self._operations[index]
            value, after = transition(row, operation, now)
            if after is not row:
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


def _parameters(
    operations: Sequence[Operation[object]], mark_tokens: Sequence[str]
) -> list[Sequence[object]]:
    """Return the parameters of a statement: the keys, then ``queries.PARAMETERS``.

    A value that all operations share is sent once: to encode one value per key would
    dominate the time that asyncpg takes.

    Args:
        operations: The operations, in the order in which their rows are locked.
        mark_tokens: The token of each operation that marks a key.
    """
    columns = zip(*map(_encode, operations, mark_tokens), strict=True)
    return [
        [operation.key for operation in operations],
        *(column if len(set(column)) > 1 else column[:1] for column in columns),
    ]


def _encode(operation: Operation[object], mark_token: str) -> tuple[str, *_Encoded]:
    return operation.namespace, *_ENCODERS[type(operation)](operation, mark_token)


_Encoded = tuple[str, str | None, float | None, float | None, str | None, float | None]
"""Verb, token, lease, TTL, policy and ts; see ``queries.PARAMETERS``."""


def _encode_lease(claim: Acquire | Renew) -> _Encoded:
    """Encode an operation that starts a lease; the row of a held key never expires."""
    ttl = None if claim.on_abandoned == "hold" else claim.ttl
    return claim.verb, claim.token, claim.lease, ttl, claim.on_abandoned, None


def _encode_resolve(resolve: Resolve) -> _Encoded:
    if resolve.is_handled:
        return "resolve_handled", None, None, resolve.ttl, None, None
    return "resolve", None, 0.0, resolve.ttl, None, None


_ENCODERS: dict[type[Operation[Any]], Callable[[Any, str], _Encoded]] = {
    Get: lambda one, _: (one.verb, None, None, None, None, None),
    Mark: lambda one, _: (one.verb, None, None, one.ttl, None, one.ts),
    CheckAndMark: lambda one, token: (one.verb, token, None, one.ttl, None, None),
    Refresh: lambda one, _: (one.verb, None, None, one.ttl, None, None),
    Forget: lambda one, _: (one.verb, None, None, None, None, None),
    Acquire: lambda one, _: _encode_lease(one),
    Renew: lambda one, _: _encode_lease(one),
    Confirm: lambda one, _: (one.verb, one.token, None, one.ttl, None, None),
    Release: lambda one, _: (one.verb, one.token, one.delay, one.ttl, None, None),
    Resolve: lambda one, _: _encode_resolve(one),
}
