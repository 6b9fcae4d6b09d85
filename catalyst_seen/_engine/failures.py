"""What fails in an open store: the calls by kind, and the work in the background.

Everything that ``stats().alarms`` and ``check().problems`` have from the engine is kept
here. A call *writes* if it may change a key, otherwise it *reads*. A refused argument
and a closed store are no failures.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .._errors import (
    ConfigurationError,
    OutcomeUnknownError,
    SchemaError,
    StoreClosedError,
    StoreUnavailableError,
)
from .._metrics import ErrorCount
from .._types import CALL_KINDS, CallFailures, ClaimState, Sighting
from ..backends.base import KeysLockedError
from ..backends.operations import ForEach, Mark, ReadOperation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._types import CallKind
    from ..backends.operations import Operation


_ERRORS = (
    (KeysLockedError, "locked"),
    (StoreUnavailableError, "unavailable"),
    (OutcomeUnknownError, "unknown"),
    (SchemaError, "schema"),
    (ConfigurationError, "configuration"),
)


class Failures:
    """Counts the failed calls, and collects the alarms of the engine.

    The alarm of a kind begins with the first failed call, and ends with the next call
    of the kind that succeeds.

    Attributes:
        errors: Number of failed calls, by verb and kind of error.
    """

    def __init__(self) -> None:
        self.errors: dict[ErrorCount, int] = {}
        self._calls: dict[CallKind, CallFailures] = {}
        self._failing: dict[CallKind, int] = {}  # failed calls since the last success
        self._conditions: dict[str, str] = {}

    def calls(self) -> Mapping[CallKind, CallFailures]:
        """Return the failed calls of each kind."""
        return {kind: self._calls.get(kind, CallFailures()) for kind in CALL_KINDS}

    def alarms(self) -> tuple[str, ...]:
        """Return the conditions that need an operator now, a sentence each."""
        calls = (self._alarm(kind, count) for kind, count in self._failing.items())
        return (*calls, *self._conditions.values())

    def record_failed_call(
        self, operations: Sequence[Operation[Any]], exc: Exception
    ) -> None:
        """Record that a call with these operations failed."""
        verb, _ = operations[0].count()
        self.record_failure(kind_of(operations), verb, exc)

    def record_failure(self, kind: CallKind, verb: str, exc: Exception) -> None:
        """Record a call that failed."""
        if isinstance(exc, StoreClosedError):
            return
        self.count_error(verb, exc)
        if isinstance(exc, KeysLockedError):
            return  # the database is well: it answered that a transaction has the key
        before = self._calls.get(kind, CallFailures())
        since = before.since if kind in self._failing else time.time()
        error = str(exc) or type(exc).__name__
        self._calls[kind] = CallFailures(before.count + 1, since, error)
        self._failing[kind] = self._failing.get(kind, 0) + 1

    def count_error(self, verb: str, exc: Exception) -> None:
        """Count an error, without an alarm."""
        words = (word for kind, word in _ERRORS if isinstance(exc, kind))
        error = ErrorCount(verb, next(words, "other"))
        self.errors[error] = self.errors.get(error, 0) + 1

    def record_success(self, kind: CallKind) -> None:
        """Record a call that has read, or has written."""
        self._failing.pop(kind, None)

    def record_results(
        self, operations: Sequence[Operation[Any]], results: Sequence[object]
    ) -> None:
        """Record the results of a call: a duplicate, for one, was only read."""
        if not self._failing:
            return
        self.record_success("read")
        if any(map(_has_written, operations, results)):
            self.record_success("write")

    def begin_alarm(self, name: str, text: str) -> None:
        """Add the alarm of a condition, or replace its text."""
        self._conditions[name] = text

    def end_alarm(self, name: str) -> None:
        """Remove the alarm of a condition, if there is one."""
        self._conditions.pop(name, None)

    def _alarm(self, kind: CallKind, count: int) -> str:
        calls = self._calls[kind]
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(calls.since))
        return (
            f"no call that {kind}s has succeeded since {since}, {count:,} have failed;"
            f" the last error: {calls.error}"
        )


def kind_of(operations: Sequence[Operation[Any]]) -> CallKind:
    """Return the kind of a call with these operations."""
    return "read" if all(map(_only_reads, operations)) else "write"


def _only_reads(operation: Operation[Any]) -> bool:
    if isinstance(operation, ForEach):
        operation = operation.operation
    return isinstance(operation, ReadOperation)


def _has_written(operation: Operation[Any], result: Any) -> bool:  # noqa: ANN401
    if isinstance(operation, ForEach):
        return any(_has_written(operation.operation, one) for one in result)
    if isinstance(result, Sighting | ClaimState):
        return bool(result.verdict)
    if isinstance(operation, ReadOperation):
        return False
    return isinstance(operation, Mark) or bool(result)
