"""One batch: operations grouped by slot into script calls, replies turned to results.

A batch that fails in part is sent again by ``backends/_retry.py``; ``Batch.send``
repeats only the script calls that have no reply yet.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import TryAgainError

from ..._errors import OutcomeUnknownError, SchemaError, StoreUnavailableError
from .._retry import TransientError, ambiguous, as_outcome_unknown, safe_to_repeat
from .._state_machine import to_result
from ..base import BatchResult
from ..operations import Acquire, Get, ReadOperation
from . import script
from .administration import Export, Select
from .errors import translate
from .pipeline import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._errors import SeenError
    from .._retry import ServerClock
    from ..operations import Operation
    from .cluster import Topology
    from .pipeline import Arg
    from .script import KeyReply

_MAX_WEIGHT = 1_000  # of one script call: the server blocks other clients meanwhile
_WEIGHTS = dict.fromkeys((Get, Select, Export, Acquire), 4)  # their replies have notes
_BYTES_WEIGHT = 1_000  # bytes of a text that weigh as much as a key
_FEW = 250  # operations that do not exceed the weight if they write no text
_LIGHT = 15  # operations that do not exceed it in any case
_ID_BYTES = 9  # random; with the index in the call they identify a mark


@dataclass
class _ScriptCall:
    """One call of the script: operations whose keys are in one slot.

    Attributes:
        indexes: The positions of its operations in the batch.
        command: The command, and its reply.
        maybe_applied: Whether a failed attempt may have been applied.
    """

    indexes: Sequence[int]
    command: Command
    maybe_applied: bool = False

    @property
    def is_complete(self) -> bool:
        """Has the server replied, so that the call need not be sent again?"""
        reply = self.command.reply
        return reply is not None and not isinstance(reply, TransientError)


class Batch:
    """Operations on their way to the servers and back; each one is atomic.

    Attributes:
        is_change: Whether any operation may write.
        replies: The reply to each operation, as far as known.
    """

    def __init__(
        self,
        operations: Sequence[Operation[object]],
        redis_keys: Sequence[bytes],
        topology: Topology,
        clock: ServerClock,
        *,
        location: str,
        replicas: int = 0,
    ) -> None:
        """Group the operations into script calls; no I/O.

        Args:
            operations: The operations, in order.
            redis_keys: The Redis key of each operation.
            topology: The servers.
            clock: The estimate of the server's time, which each reply improves.
            location: The address of the servers, for messages.
            replicas: Number of replicas that must acknowledge a change.
        """
        self.is_change: bool = not all(
            isinstance(one, ReadOperation) for one in operations
        )
        self.replies: list[KeyReply | None] = [None] * len(operations)
        self._operations = operations
        self._redis_keys = redis_keys
        self._topology = topology
        self._clock = clock
        self._location = location
        self._replicas = replicas if self.is_change else 0
        self._calls = [
            self._call(indexes, slot)
            for slot, same in _by_slot(redis_keys, topology.slot).items()
            for indexes in _parts(same, operations)
        ]

    def _call(self, indexes: Sequence[int], slot: int) -> _ScriptCall:
        now = self._clock.override()
        args: list[Arg] = [
            "EVALSHA",
            script.SCRIPT.sha,
            len(indexes),
            *(self._redis_keys[index] for index in indexes),
            secrets.token_urlsafe(_ID_BYTES),
            script.pack(self._operations[index] for index in indexes),
            "" if now is None else repr(now),
        ]
        return _ScriptCall(indexes, Command(args, slot))

    def _prepare_retry(self, call: _ScriptCall) -> None:
        """Remove from a call what must not be done twice; its random id stays."""
        operations = (self._operations[index] for index in call.indexes)
        call.command.args[-2] = script.pack(map(safe_to_repeat, operations))

    async def send(self, timeout: float | None = None) -> None:
        """Send the script calls that have no reply yet.

        Raises:
            TransientError: A call has no reply from this attempt either.
        """
        calls = [call for call in self._calls if not call.is_complete]
        for call in calls:
            if call.maybe_applied:
                self._prepare_retry(call)
        commands = [call.command for call in calls]
        sent = self._clock.monotonic()
        try:
            await self._topology.send(commands, script.SCRIPT, self._replicas, timeout)
        finally:
            failure = self._record_replies(calls, sent)
        if failure:
            raise failure

    def _record_replies(
        self, calls: Sequence[_ScriptCall], sent: float
    ) -> TransientError | None:
        """Record the state of each call after an attempt; return one that failed.

        A failure that may have been applied takes precedence.
        """
        failure = None
        for call in calls:
            reply = call.command.reply
            if isinstance(reply, TryAgainError):
                reply = call.command.reply = TransientError(reply, maybe_applied=False)
                self._split(call)
            if isinstance(reply, TransientError):
                was_applied = reply.maybe_applied and self.is_change
                call.maybe_applied = call.maybe_applied or was_applied
                if failure is None or reply.maybe_applied:
                    failure = reply
            elif isinstance(reply, bytes):
                self._clock.observe(script.server_time(reply), sent)
        return failure

    def _split(self, call: _ScriptCall) -> None:
        """Replace a call by one call per key, because its slot is in migration.

        Keys of such a slot may be on two nodes, and a call that needs both is refused
        before it changes anything. A call with one key is always possible.
        """
        self._calls.remove(call)
        for index in call.indexes:
            single = self._call([index], call.command.slot)
            single.maybe_applied = call.maybe_applied
            self._calls.append(single)

    def result(self, failure: SeenError | None = None) -> BatchResult:
        """Return the result of each operation.

        Args:
            failure: The error of the calls without a reply, after the last attempt.

        Raises:
            SeenError: All calls failed.
        """
        size = len(self._operations)
        result = BatchResult([None] * size, [None] * size, None)
        failures = [self._collect(call, result, failure) for call in self._calls]
        if failures and None not in failures:
            raise next(filter(None, failures))
        return result

    def _collect(
        self, call: _ScriptCall, result: BatchResult, failure: SeenError | None
    ) -> SeenError | None:
        """Copy the results of one call to those of the batch; return its error."""
        reply = call.command.reply
        if not isinstance(reply, bytes):
            error = self._call_error(call, failure)
            for index in call.indexes:
                result.results[index] = error
            return error
        now = script.server_time(reply)
        replicas = call.command.replicas or 0
        is_uncertain = call.maybe_applied or replicas < self._replicas
        replies = script.unpack(reply, len(call.indexes))
        for index, one in zip(call.indexes, replies, strict=True):
            operation = self._operations[index]
            self.replies[index] = one
            result.rows[index] = one.row
            failed = None
            if one.is_foreign:
                failed = self._foreign_key_error(operation)
            elif one.refusal:
                failed = self._refusal_error(call, one.refusal)
            elif is_uncertain:
                failed = self._ambiguity(call, operation, is_done=one.is_done)
            result.results[index] = failed or to_result(
                operation, one.verdict, one.row, now, is_done=one.is_done
            )
        return None

    def _call_error(self, call: _ScriptCall, failure: SeenError | None) -> SeenError:
        if failure is None or call.is_complete:
            return self._refusal_error(call, call.command.reply)
        if call.maybe_applied and isinstance(failure, StoreUnavailableError):
            return as_outcome_unknown(failure)
        return failure

    def _refusal_error(self, call: _ScriptCall, refusal: Exception) -> SeenError:
        """Return the error of a key, or a call, that the server refused to change."""
        error: SeenError = translate(refusal, self._location)
        error.__cause__ = refusal
        if call.maybe_applied and isinstance(error, StoreUnavailableError):
            return as_outcome_unknown(error)
        return error

    def _foreign_key_error(self, operation: Operation[object]) -> SeenError:
        error = SchemaError(
            self._location,
            "a key of this call has the name of another program's key",
            "It is untouched; choose another prefix",
        )
        error.add_note(f"It is {operation.key!r}.")  # not in the text: logs repeat that
        return error

    def _ambiguity(
        self, call: _ScriptCall, operation: Operation[object], *, is_done: bool
    ) -> SeenError | None:
        """Return the error of an outcome that is unknown, or not replicated."""
        replicas = call.command.replicas or 0
        if is_done and replicas < self._replicas:
            return OutcomeUnknownError(
                self._location,
                f"{replicas} of {self._replicas} replicas have it",
                "Ask again when they are back; if the primary is lost before, it is",
            )
        if call.maybe_applied and not is_done:
            return ambiguous(operation, self._location)
        return None


def _by_slot(
    redis_keys: Sequence[bytes], slot_of: Callable[[bytes], int]
) -> dict[int, list[int]]:
    """Group the indexes of keys by slot, in order."""
    indexes_by_slot: defaultdict[int, list[int]] = defaultdict(list)
    for index, redis_key in enumerate(redis_keys):
        indexes_by_slot[slot_of(redis_key)].append(index)
    return indexes_by_slot


def _parts(
    indexes: Sequence[int], operations: Sequence[Operation[object]]
) -> Iterator[Sequence[int]]:
    """Divide operations, in order, so that no script call takes long."""
    is_small = len(indexes) <= _LIGHT
    if is_small or (len(indexes) <= _FEW and not any(map(_text, operations))):
        yield indexes
        return
    part: list[int] = []
    total = 0
    for index in indexes:
        operation = operations[index]
        weight = _WEIGHTS.get(type(operation), 1)
        weight += len(_text(operation) or "") // _BYTES_WEIGHT
        total += weight
        if part and total > _MAX_WEIGHT:
            yield part
            part, total = [], weight
        part.append(index)
    yield part


def _text(operation: Operation[object]) -> str | bytes | None:
    return getattr(operation, "note", None) or getattr(operation, "value", None)
