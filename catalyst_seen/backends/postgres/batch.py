"""A batch: the statements that execute operations, and their records.

A batch is one statement, ``queries.write_batch``, if each of its keys occurs once and
there are at most a thousand of them. Any other batch takes several statements, in one
transaction.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from .._retry import safe_to_repeat
from ..operations import ReadOperation
from .encoding import Names, encode
from .queries import READ_NOTES, read_batch, write_batch
from .results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import asyncpg

    from .._retry import ServerClock
    from ..base import BatchResult
    from ..operations import Id, Operation
    from .tables import Tables

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
        self._mark_tokens = [self._nonce] * len(operations)
        for index, operation in enumerate(operations):
            id_ = operation.namespace, operation.key
            if first.setdefault(id_, index) != index:
                self._later[id_].append(index)
                # Unique among the operations on one key.
                self._mark_tokens[index] = f"{self._nonce}{index}"
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

        A round ends for a key at the next operation that changes its row, or needs a
        note that was not read.

        Args:
            connection: In a transaction, unless the batch is a single statement.
            clock: Observes the server's time.
            maybe_applied: Whether an earlier attempt may have been applied.
            timeout: Seconds that a statement may take.
        """
        results = Results(
            self._operations, self._mark_tokens, self._nonce, self._location,
            maybe_applied=maybe_applied,
        )  # fmt: skip
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
                    now, verdict, is_done, position, place, key, *stored = record
                    if position is None:
                        index = pending[self._names.all[place - 1], key]
                    else:
                        index = indexes[position - 1]
                    row, is_unread = results.read(index, now, verdict, is_done, stored)
                    if later:
                        operation = self._operations[index]
                        id_ = operation.namespace, operation.key
                        repeat = results.read_repeats(
                            later.get(id_), row, now, is_unread=is_unread
                        )
                        if repeat is not None:
                            next_round[id_] = repeat
                if results.unread:
                    await self._read_notes(connection, results, timeout)
            pending = next_round
        return results.batch

    def _statement(
        self, indexes: Sequence[int], *, maybe_applied: bool
    ) -> tuple[str, list[Sequence[object]]]:
        operations = [self._operations[index] for index in indexes]
        if maybe_applied:
            operations = list(map(safe_to_repeat, operations))
        tokens = [self._mark_tokens[index] for index in indexes]
        shape, parameters = encode(operations, tokens, self._names)
        is_change = self.is_change and not all(
            isinstance(operation, ReadOperation) for operation in operations
        )
        template = write_batch(shape) if is_change else read_batch(shape)
        return self._tables.render(template), parameters

    async def _read_notes(
        self, connection: asyncpg.Connection, results: Results, timeout: float | None
    ) -> None:
        """Read the notes of claims that waited for the locks of their rows.

        The snapshot of their statement was older than the rows, and so may be the notes
        that it would have returned.
        """
        operations = [self._operations[index] for index in results.unread]
        records = await connection.fetch(
            self._tables.render(READ_NOTES),
            [operation.namespace for operation in operations],
            [operation.key for operation in operations],
            timeout=timeout,
        )
        results.add_notes([note for (note,) in records])


def _statements(pending: Mapping[Id, int]) -> Iterator[list[int]]:
    """Divide operations into statements, in the order of the collation "C".

    All batches lock rows in this order, so that no two of them deadlock.
    """
    indexes = [pending[id_] for id_ in sorted(pending)]
    for first in range(0, len(indexes), _MAX_KEYS):
        yield indexes[first : first + _MAX_KEYS]
