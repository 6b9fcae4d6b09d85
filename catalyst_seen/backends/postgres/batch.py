"""A batch: the statements that execute operations, and their records.

A batch is one statement, ``queries.write_batch``, if each of its keys occurs once and
there are at most a thousand of them. Any other batch takes several statements, in one
transaction. The keys of a ``ForEach`` are sent as they are.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any

from .._retry import safe_to_repeat
from .._state_machine import transition
from ..base import BatchResult
from ..operations import ForEach, ReadOperation
from . import for_each
from .details import READ_NOTES
from .encoding import Names, encode
from .numbering import Numbering, in_order
from .queries import read_batch, write_batch
from .results import Results, needs_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from .._retry import ServerClock
    from ..operations import Id, Operation, Row
    from .numbering import Numbers
    from .results import Record
    from .tables import Tables

_MAX_KEYS = 1_000
"""Keys per statement."""

_NONCE_BYTES = 6


class Batch:
    """Operations that are executed together, and may be executed again by a retry.

    The tokens of marks begin with a nonce of the batch: by it, a retry recognises the
    marks that an earlier attempt stored.

    Attributes:
        is_change: Whether the batch may change a row.
        is_single_statement: Whether one statement is enough.
    """

    def __init__(
        self, operations: Sequence[Operation[Any]], tables: Tables, location: str
    ) -> None:
        """Prepare a batch; no I/O.

        Args:
            operations: The operations, in the order of their results.
            tables: The tables of the store.
            location: The address of the database, for errors.
        """
        self._tables = tables
        self._location = location
        self._nonce = secrets.token_urlsafe(_NONCE_BYTES)
        self._keys = keys = Numbering(operations)
        self._operations = keys.operations
        self._mark_tokens: list[str | None] = [self._nonce] * len(self._operations)
        for numbers in keys.later.values():
            for number in numbers:  # unique among the operations on one key
                token = None if number in keys.echoes else f"{self._nonce}{number}"
                self._mark_tokens[number] = token
        self._names = Names(keys.single)
        self.is_change: bool = not all(
            isinstance(one, ReadOperation) for one in keys.single
        )
        self.is_single_statement: bool = not keys.later and len(keys.keys) <= _MAX_KEYS

    def ids(self) -> frozenset[Id]:
        """Return the keys of the batch."""
        return self._keys.ids()

    def among(self, ids: Iterable[Id]) -> frozenset[Id]:
        """Return those of the keys that the batch has."""
        return self._keys.among(ids)

    async def execute(
        self,
        connection: asyncpg.Connection,
        clock: ServerClock,
        *,
        maybe_applied: bool = False,
        timeout: float | None = None,
    ) -> BatchResult:
        """Execute the first operation on each key, then the later ones, in rounds.

        A round ends for a key at the next operation that changes its row, or needs a
        note that was not read.

        Args:
            connection: In a transaction, unless the batch is a single statement.
            clock: Observes the server's time.
            maybe_applied: Whether an earlier attempt may have been applied.
            timeout: Seconds that a statement may take.
        """
        results = Results(self._nonce, self._location, maybe_applied=maybe_applied)
        size = len(self._operations)
        done = BatchResult([None] * size, [None] * size, None)
        records: list[Record] = [None] * len(self._keys.keys)
        later = {id_: deque(numbers) for id_, numbers in self._keys.later.items()}
        pending, now = self._keys.first, 0.0
        while pending:
            for numbers in in_order(pending, _MAX_KEYS):
                statement, parameters = self._statement(
                    numbers, maybe_applied=maybe_applied
                )
                sent = clock.monotonic()
                found = await connection.fetch(statement, *parameters, timeout=timeout)
                now = found[0]["now"]
                clock.observe(now, sent)
                self._place(found, numbers, pending, records)
            if later:
                pending = self._read_round(pending, later, records, results, done)
            else:
                pending = {}
                self._read_all(records, results, done)
            if results.unread:
                await self._read_notes(connection, results, timeout)
        expansion = self._keys.expansion
        return expansion.regroup_batch(done, now) if expansion else done

    def _statement(
        self, numbers: Sequence[int], *, maybe_applied: bool
    ) -> tuple[str, list[Sequence[object]]]:
        """Return the statement of some keys, and its parameters."""
        keys, owners, needed = self._keys, None, numbers
        if keys.owners is not None:
            owners = [keys.owners[number] for number in numbers]
            places = {owner: place for place, owner in enumerate(dict.fromkeys(owners))}
            owners, needed = [places[owner] for owner in owners], list(places)
        operations = [keys.single[owner] for owner in needed]
        if maybe_applied:
            operations = list(map(safe_to_repeat, operations))
        shape, parameters = encode(
            [keys.keys[number] for number in numbers],
            operations,
            [self._mark_tokens[owner] for owner in needed],
            owners,
            self._names,
            tokens=keys.tokens and [keys.tokens[number] for number in numbers],
        )
        is_change = self.is_change and not all(
            isinstance(operation, ReadOperation) for operation in operations
        )
        template = write_batch(shape) if is_change else read_batch(shape)
        return self._tables.render(template), parameters

    def _place(
        self,
        found: Sequence[Record],
        numbers: Sequence[int],
        pending: Numbers,
        records: list[Record],
    ) -> None:
        """Store the records of a statement by the numbers of their keys."""
        names = self._names.all
        for record in found:
            position = record[3]
            if position is None:
                place, key = record[4], record[5]
                records[pending[names[place - 1]][key]] = record
            else:
                records[numbers[position - 1]] = record

    def _read_all(
        self, records: Sequence[Record], results: Results, done: BatchResult
    ) -> None:
        """Read the results of a batch in which each key occurs once."""
        number = 0
        for index, one in enumerate(self._operations):
            if isinstance(one, ForEach):
                start, number = number, number + len(one.keys)
                own = records[start:number]
                done.results[index] = for_each.read(one, own, results)
                done.rows[index] = for_each.all_seen(own)
            else:
                self._read(index, records[number], results, done)
                number += 1

    def _read_round(
        self,
        pending: Numbers,
        later: dict[Id, deque[int]],
        records: Sequence[Record],
        results: Results,
        done: BatchResult,
    ) -> Numbers:
        """Read the results of a round, and of repeats that change nothing.

        Returns:
            The next operation on each key that has one left.
        """
        next_round: Numbers = {}
        for namespace, numbers in pending.items():
            for key, number in numbers.items():
                record = records[number]
                row, is_unread = self._read(number, record, results, done)
                repeats = later.get((namespace, key))
                while repeats:
                    repeat = repeats.popleft()
                    operation = self._operations[repeat]
                    value, after = transition(row, operation, record["now"])
                    if after is not row or (is_unread and needs_note(operation)):
                        next_round.setdefault(namespace, {})[key] = repeat
                        break
                    done.rows[repeat] = row
                    done.results[repeat] = results.first_value(
                        value, operation, self._mark_tokens[repeat], row, record["now"]
                    )
        return next_round

    def _read(
        self, index: int, record: Record, results: Results, done: BatchResult
    ) -> tuple[Row | None, bool]:
        """Read the result of a single operation.

        Returns:
            The row that it left, and whether that has a note that was not read.
        """
        operation = self._operations[index]
        value, row, is_unread = results.read(
            operation, self._mark_tokens[index], record
        )
        done.results[index], done.rows[index] = value, row
        if is_unread:
            results.expect_note(operation, done.results, index)
        return row, is_unread

    async def _read_notes(
        self, connection: asyncpg.Connection, results: Results, timeout: float | None
    ) -> None:
        """Read the notes of claims that waited for the locks of their rows.

        The snapshot of their statement was older than the rows, and so may be the notes
        that it would have returned.
        """
        operations = [operation for operation, _, _ in results.unread]
        records = await connection.fetch(
            self._tables.render(READ_NOTES),
            [operation.namespace for operation in operations],
            [operation.key for operation in operations],
            timeout=timeout,
        )
        results.add_notes([note for (note,) in records])
