"""A batch of operations on its way to PostgreSQL and back."""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from ..._types import ClaimState, Sighting, Verdict
from .._retry import ambiguous
from .._state_machine import to_result, transition
from ..base import BatchResult
from ..operations import Acquire, CheckAndMark, Forget, Get, Mark, Row
from . import queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import asyncpg

    from .._retry import ServerClock
    from ..operations import Id, Operation

_AT_ONCE = 1_000  # keys in a statement
_NONCE = 6  # random bytes: they tell a batch's mark of a key from every other one


class Batch:
    """Operations, which are carried out in few statements: in one, if no key repeats.

    Attributes:
        is_change: Would it matter if they were carried out?
        is_simple: Is one statement enough?
    """

    def __init__(
        self,
        operations: Sequence[Operation[object]],
        table: queries.Table,
        location: str,
    ) -> None:
        """Nothing is sent yet.

        Args:
            operations: What is to be done.
            table: Where, as SQL has it.
            location: The same for people.
        """
        self._operations = operations
        self._table = table
        self._location = location
        self._nonce = secrets.token_urlsafe(_NONCE)
        first: dict[Id, int] = {}
        self._later: defaultdict[Id, list[int]] = defaultdict(list)
        self._repeats: set[int] = set()
        for place, operation in enumerate(operations):
            id_ = operation.namespace, operation.key
            if first.setdefault(id_, place) != place:
                self._later[id_].append(place)
                self._repeats.add(place)
        self._first = first
        self.is_change: bool = not all(isinstance(one, Get) for one in operations)
        self.is_simple: bool = not self._later and len(first) <= _AT_ONCE

    async def send(
        self,
        connection: asyncpg.Connection,
        clock: ServerClock,
        *,
        again: bool = False,
        limit: float | None = None,
    ) -> BatchResult:
        """Carry them out: the first one of each key, then what is left for it.

        Args:
            connection: Where to; in a transaction, unless it is simple.
            clock: Is told the server's time.
            again: May they have been carried out before?
            limit: Seconds that a statement may take.
        """
        size = len(self._operations)
        applied = BatchResult([None] * size, [None] * size, None)
        later = {id_: deque(places) for id_, places in self._later.items()}
        waiting: Mapping[Id, int] = self._first
        while waiting:
            left: dict[Id, int] = {}
            for places in _parts(waiting):
                statement, columns = self._written(places)
                sent = clock.monotonic()
                found = await connection.fetch(statement, *columns, timeout=limit)
                clock.observe(found[0]["now"], sent)
                for record in found:
                    id_ = record["namespace"], record["id"]
                    place = waiting[id_]
                    row = self._read(applied, place, record, again=again)
                    if id_ in later:
                        now, rest = record["now"], later[id_]
                        left |= self._go_on(applied, rest, row, now, again=again)
            waiting = left
        return applied

    def _written(self, places: Sequence[int]) -> tuple[str, list[Sequence[object]]]:
        """Write the statement for some operations, and its parameters."""
        operations = [self._operations[place] for place in places]
        is_change = not all(isinstance(operation, Get) for operation in operations)
        statement = self._table.change() if is_change else self._table.get()
        return statement, queries.parameters(
            operations, list(map(self._mark_id, places))
        )

    def _read(
        self, applied: BatchResult, place: int, record: asyncpg.Record, *, again: bool
    ) -> Row | None:
        """Put the answer where it belongs; return the row that is left."""
        now, verdict, is_done, _, _, *stored = record
        operation = self._operations[place]
        row = None if stored[0] is None else Row._make(stored)
        if verdict is None:
            result = self._inserted(place, row, now)
        else:
            if is_done and isinstance(operation, Forget):
                row = None
            result = to_result(operation, Verdict(verdict), row, now, is_done=is_done)
        self._put(applied, place, result, row, now, again=again)
        return row

    def _inserted(self, place: int, row: Row | None, now: float) -> object:
        """Answer what was to insert a row: a rival may have been faster."""
        operation = self._operations[place]
        if isinstance(operation, Mark):
            return None
        if self._is_own(place, row):
            return to_result(operation, Verdict.NEW, row, now, is_done=True)
        result, after = transition(row, operation, now)
        if after is row or row is None:
            return result
        # The rival's lease or mark is over by now, but a moment ago it was not.
        over = row._replace(lease_until=now)
        return to_result(operation, Verdict.IN_FLIGHT, over, now, is_done=False)

    def _go_on(
        self,
        applied: BatchResult,
        places: deque[int],
        row: Row | None,
        now: float,
        *,
        again: bool,
    ) -> dict[Id, int]:
        """Answer what else is asked of a key, up to what changes it: that is left."""
        while places:
            place = places.popleft()
            operation = self._operations[place]
            result, after = transition(row, operation, now)
            if after is not row:
                return {(operation.namespace, operation.key): place}
            self._put(applied, place, result, row, now, again=again)
        return {}

    def _put(
        self,
        applied: BatchResult,
        place: int,
        result: object,
        row: Row | None,
        now: float,
        *,
        again: bool,
    ) -> None:
        """Note an answer; if an earlier attempt was carried out, the one it had."""
        operation = self._operations[place]
        if again:
            if isinstance(result, Sighting | ClaimState) and not result.verdict:
                if row is not None and self._is_own(place, row):
                    is_first = row.attempt == isinstance(operation, Acquire)
                    verdict = Verdict.NEW if is_first else Verdict.RETRY
                    result = to_result(operation, verdict, row, now, is_done=True)
            elif result is False:
                result = ambiguous(operation, self._location) or result
        applied.results[place] = result
        applied.rows[place] = row

    def _is_own(self, place: int, row: Row | None) -> bool:
        """Is it the mark or the claim that this very operation left?"""
        operation = self._operations[place]
        if row is None:
            return False
        if isinstance(operation, CheckAndMark):
            if row.lease_until is not None or row.token is None:
                return False
            # Of a key's first operation, even if a later one forgot and marked anew.
            is_first = place not in self._repeats
            return row.token == self._mark_id(place) or (
                is_first and row.token.startswith(self._nonce)
            )
        return (
            isinstance(operation, Acquire)
            and row.lease_until is not None
            and row.token == operation.token
        )

    def _mark_id(self, place: int) -> str:
        """Name a mark; for each key the batch has another one."""
        return f"{self._nonce}{place}" if place in self._repeats else self._nonce


def _parts(waiting: Mapping[Id, int]) -> Iterator[list[int]]:
    """Divide operations into statements, in the order of the collation "C".

    So all batches lock rows in the same order, and never wait for each other.
    """
    places = [waiting[id_] for id_ in sorted(waiting)]
    for first in range(0, len(places), _AT_ONCE):
        yield places[first : first + _AT_ONCE]
