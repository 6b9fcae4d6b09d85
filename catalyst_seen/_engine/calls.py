"""Calls on their way through the engine, and the delivery of their results."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, cast

from .._errors import (
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreUnavailableError,
)
from .._types import ClaimState, Sighting
from ..backends.operations import ForEach, Result_co
from .failures import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..backends.base import KeysLockedError
    from ..backends.operations import Id, Operation


class PendingCall(Generic[Result_co]):
    """The operations of one caller, from the queue to their results.

    Attributes:
        operations: The operations.
        size: Their number; a ``ForEach`` counts its keys.
        deadline: When it fails, by the time of the loop.
        results: The future of their results. Cancelling it while the call is queued
            withdraws the call.
        refusal: Why it was not executed yet, if it was sent.
    """

    __slots__ = ("_waiter", "deadline", "operations", "refusal", "results", "size")

    def __init__(
        self, operations: Sequence[Operation[Result_co]], timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self.operations: Sequence[Operation[Result_co]] = operations
        one = operations[0]
        self.size: int = len(one.keys if type(one) is ForEach else operations)
        self.deadline: float = loop.time() + timeout
        # Python's own costs half of ``create_future``.
        self.results: asyncio.Future[list[Result_co]] = asyncio.Future(loop=loop)
        self.refusal: KeysLockedError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_read_only(self) -> bool:
        """Does the call only read?"""
        return kind_of(self.operations) == "read"

    def has_any(self, ids: Collection[Id]) -> bool:
        """Does the call have an operation on any of these keys?"""
        return any(id_ in ids for one in self.operations for id_ in one.ids())

    async def wait(self) -> list[Result_co]:
        """Wait for the results. Cancelling the waiter does not withdraw the call.

        Unlike ``asyncio.shield``, this resumes the waiter one loop iteration earlier,
        so that the callers of one batch can join the next one.
        """
        if not self.results.done():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.results.result()

    def resolve(self, results: list[Result_co]) -> None:
        """Deliver the results, unless the call was withdrawn."""
        if not self.results.done():
            self.results.set_result(results)
            if self._waiter is not None:
                self._wake()

    def fail(self, exc: BaseException) -> None:
        """Deliver an error, unless the call was withdrawn."""
        if not self.results.done():
            if isinstance(exc, asyncio.CancelledError):
                self.results.cancel()
            else:
                self.results.set_exception(exc)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def call_failure(
    operations: Sequence[Operation[Any]], results: Sequence[object]
) -> SeenError | None:
    """Return the error of a call of which some operations failed alone.

    If the others may have changed their keys, that is an ``OutcomeUnknownError``. A
    false sighting or claim has changed nothing.
    """
    kinds = {*map(type, results)}
    if list in kinds and isinstance(operations[0], ForEach):
        return call_failure([operations[0].operation], cast("Any", results[0]))
    if not any(issubclass(kind, SeenError) for kind in kinds):  # nearly every call
        return None
    failures = [result for result in results if isinstance(result, SeenError)]
    if not failures:
        return None
    for failure in failures:
        if isinstance(failure, OutcomeUnknownError):
            return failure
    error = failures[0]
    is_partial = kind_of(operations) == "write" and any(map(_is_change, results))
    if not is_partial or not isinstance(error, StoreUnavailableError | SchemaError):
        return error
    cause = f"{len(failures)} of {len(results)} keys failed: {error.cause}"
    return OutcomeUnknownError(error.location, cause, error.advice)


def _is_change(result: object) -> bool:
    if isinstance(result, Sighting | ClaimState):
        return bool(result.verdict)
    return not isinstance(result, SeenError)


def fail_calls(calls: Sequence[PendingCall[Any]], exc: BaseException) -> None:
    """Deliver an error to each call.

    Each call gets a copy: one exception raised in many tasks mixes up their tracebacks.
    """
    for call in calls:
        own = copy(exc).with_traceback(exc.__traceback__)
        own.__cause__ = exc.__cause__
        call.fail(own)
