"""One batch: operations grouped by slot into script calls, replies turned to results.

A batch that fails in part is sent again by ``backends/_retry.py``; ``Batch.send``
repeats only the script calls that have no reply yet.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..._errors import StoreUnavailableError
from .._retry import TransientError, ambiguous, as_outcome_unknown
from .._state_machine import to_result
from ..base import BatchResult
from ..operations import ForEach, ReadOperation
from . import script
from .each import EachResult
from .each import results as results_of_each
from .errors import foreign_key, not_replicated, translate
from .pipeline import Command, as_transient
from .replies import EachReply, server_time, unpack
from .runs import Each, Singles, divide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..._errors import SeenError
    from .._retry import ServerClock
    from ..operations import Operation
    from .cluster import Topology
    from .pipeline import Arg
    from .replies import KeyReply
    from .runs import Names, Run

_ID_BYTES = 9  # random; with the index in the call they identify a mark


@dataclass
class _ScriptCall:
    """One call of the script: operations whose keys are in one slot.

    Attributes:
        runs: Its operations.
        command: The command, and its reply.
        maybe_applied: Whether a failed attempt may have been applied.
    """

    runs: list[Run]
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
        replies: The reply to each operation, as far as known; ``None`` for a
            ``ForEach``.
    """

    def __init__(
        self,
        operations: Sequence[Operation[object]],
        names: Sequence[Names],
        topology: Topology,
        clock: ServerClock,
        *,
        location: str,
        replicas: int = 0,
    ) -> None:
        """Group the operations into script calls; no I/O.

        Args:
            operations: The operations, in order.
            names: The Redis key of each operation; those of a ``ForEach``.
            topology: The servers.
            clock: The estimate of the server's time, which each reply improves.
            location: The address of the servers, for messages.
            replicas: Number of replicas that must acknowledge a change.
        """
        self.is_change: bool = not all(map(_only_reads, operations))
        self.replies: list[KeyReply | None] = [None] * len(operations)
        self._operations = operations
        self._topology = topology
        self._clock = clock
        self._location = location
        self._replicas = replicas if self.is_change else 0
        slot_of = topology.slot if topology.is_cluster else None
        self._calls = [
            self._call(runs, slot) for slot, runs in divide(operations, names, slot_of)
        ]

    def _call(self, runs: list[Run], slot: int, id_: Arg | None = None) -> _ScriptCall:
        now = self._clock.override()
        names = [name for run in runs for name in run.names]
        args: list[Arg] = [
            "EVALSHA",
            script.SCRIPT.sha,
            len(names),
            *names,
            id_ or secrets.token_urlsafe(_ID_BYTES),
            script.pack(runs),
            "" if now is None else repr(now),
        ]
        return _ScriptCall(runs, Command(args, slot))

    def _prepare_retry(self, call: _ScriptCall) -> None:
        """Remove from a call what must not be done twice; its random id stays."""
        for run in call.runs:
            run.prepare_retry()
        call.command.args[-2] = script.pack(call.runs)

    async def send(self, timeout: float | None = None) -> None:
        """Send the script calls that have no reply yet.

        Raises:
            TransientError: A call has no reply from this attempt either.
        """
        calls = [call for call in self._calls if not call.is_complete]
        if not calls:  # there are no keys
            return
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
            moving = isinstance(reply, Exception) and as_transient(reply)
            if moving and moving is not reply:
                reply = call.command.reply = moving
                call.maybe_applied = call.maybe_applied or moving.maybe_applied
                self._split(call)
            if isinstance(reply, TransientError):
                was_applied = reply.maybe_applied and self.is_change
                call.maybe_applied = call.maybe_applied or was_applied
                if failure is None or reply.maybe_applied:
                    failure = reply
            elif isinstance(reply, bytes):
                self._clock.observe(server_time(reply), sent)
        return failure

    def _split(self, call: _ScriptCall) -> None:
        """Replace a call by one call per key, because its slot is in migration.

        Keys of such a slot may be on two nodes, and a call that needs both is refused
        before it changes anything. A call with one key is always possible.

        The first call on each key keeps the random id, by which the script recognises
        a mark of an attempt whose reply was lost. With it a later one would take the
        mark of the first one for its own.
        """
        self._calls.remove(call)
        seen: set[Arg] = set()
        for run in call.runs:
            for part in run.split():
                (name,) = part.names
                id_ = None if name in seen else call.command.args[-3]
                seen.add(name)
                single = self._call([part], call.command.slot, id_)
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
        each_results = {
            index: EachResult(one)
            for index, one in enumerate(self._operations)
            if isinstance(one, ForEach)
        }
        failures = [
            self._collect(call, result, each_results, failure) for call in self._calls
        ]
        if failures and None not in failures:
            raise next(filter(None, failures))
        for index, one in each_results.items():
            result.results[index], result.rows[index] = one.results, one.summary()
        return result

    def _collect(
        self,
        call: _ScriptCall,
        result: BatchResult,
        each_results: Mapping[int, EachResult],
        failure: SeenError | None,
    ) -> SeenError | None:
        """Copy the results of one call to those of the batch; return its error."""
        reply = call.command.reply
        if not isinstance(reply, bytes):
            error = self._call_error(call, failure)
            for run in call.runs:
                if isinstance(run, Each):
                    errors = [error] * len(run.offsets)
                    each_results[run.index].add(run.offsets, errors, None)
                else:
                    for index in run.indexes:
                        result.results[index] = error
            return error
        now = server_time(reply)
        for run, known in zip(call.runs, unpack(reply, call.runs), strict=True):
            if isinstance(run, Each) and isinstance(known, EachReply):
                results = self._each_results(call, run, known, now)
                summary = known.all_seen(now)
                each_results[run.index].add(run.offsets, results, summary)
            elif isinstance(run, Singles) and isinstance(known, list):
                self._collect_singles(call, run, known, result)
        return None

    def _collect_singles(
        self,
        call: _ScriptCall,
        run: Singles,
        replies: Sequence[KeyReply],
        result: BatchResult,
    ) -> None:
        now = server_time(call.command.reply)
        is_uncertain = self._is_uncertain(call)
        for index, one in zip(run.indexes, replies, strict=True):
            operation = self._operations[index]
            self.replies[index] = one
            result.rows[index] = one.row
            failed = None
            if one.is_foreign or one.refusal or is_uncertain:
                failed = self._key_error(call, operation, operation.key, one)
            result.results[index] = failed or to_result(
                operation, one.verdict, one.row, now, is_done=one.is_done
            )

    def _each_results(
        self, call: _ScriptCall, run: Each, reply: EachReply, now: float
    ) -> list[Any]:
        each = self._operations[run.index]
        assert isinstance(each, ForEach)  # noqa: S101 - see ``divide``
        keys = each.keys
        if len(run.offsets) < len(keys):
            keys = [keys[offset] for offset in run.offsets]
        made = results_of_each(each.operation, keys, reply, now)
        if reply.has_failures or self._is_uncertain(call):
            for number, key in enumerate(keys):
                known = reply.of_key(number)
                failed = self._key_error(call, each.operation, key, known)
                if failed:
                    made[number] = failed
        return made

    def _is_uncertain(self, call: _ScriptCall) -> bool:
        return call.maybe_applied or (call.command.replicas or 0) < self._replicas

    def _key_error(
        self,
        call: _ScriptCall,
        operation: Operation[object],
        key: str,
        reply: KeyReply,
    ) -> SeenError | None:
        """Return the error of an operation on a key, if it failed alone."""
        if reply.is_foreign:
            return foreign_key(self._location, key)
        if reply.refusal:
            return self._refusal_error(call, reply.refusal)
        return self._ambiguity(call, operation, is_done=reply.is_done)

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

    def _ambiguity(
        self, call: _ScriptCall, operation: Operation[object], *, is_done: bool
    ) -> SeenError | None:
        """Return the error of an outcome that is unknown, or not replicated."""
        replicas = call.command.replicas or 0
        if is_done and replicas < self._replicas:
            return not_replicated(self._location, replicas, self._replicas)
        if call.maybe_applied and not is_done:
            return ambiguous(operation, self._location)
        return None


def _only_reads(operation: Operation[object]) -> bool:
    if isinstance(operation, ForEach):
        operation = operation.operation
    return isinstance(operation, ReadOperation)
