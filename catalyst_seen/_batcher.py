"""Group commit: what concurrent callers ask meanwhile goes out as one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Generic

from ._backend import Answer_co, Look
from ._errors import (
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ._backend import Operation
    from ._session import Session


_STUCK = 0.1
"""Seconds after which a batch is thought to be stuck: most take a hundredth of it."""


class Call(Generic[Answer_co]):
    """The operations of one caller, and what becomes of them.

    Attributes:
        operations: What is to be done.
        answered: Gets an answer for each. If it is cancelled before they are sent, they
            are taken back.
    """

    __slots__ = ("_waiter", "answered", "operations")

    def __init__(self, operations: Sequence[Operation[Answer_co]]) -> None:
        """Nothing is sent yet."""
        loop = asyncio.get_running_loop()
        self.operations: Sequence[Operation[Answer_co]] = operations
        self.answered: asyncio.Future[list[Answer_co]] = loop.create_future()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def only_looks(self) -> bool:
        """Does it only read?"""
        return _only_look(self.operations)

    async def wait(self) -> list[Answer_co]:
        """Wait for the answers. Whoever is cancelled here takes nothing back.

        It is what ``asyncio.shield`` does, but for a turn of the loop: with that, the
        callers of one batch would not be those of the next.
        """
        if not self.answered.done():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.answered.result()

    def answer(self, answers: list[Answer_co]) -> None:
        """Give the answers to whoever still waits."""
        if not self.answered.done():
            self.answered.set_result(answers)
            self._wake()

    def fail(self, exc: BaseException) -> None:
        """Raise an error for whoever still waits."""
        if not self.answered.done():
            if isinstance(exc, asyncio.CancelledError):
                self.answered.cancel()
            else:
                self.answered.set_exception(exc)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Batcher:
    """Sends what waits as one batch, then what came meanwhile as the next.

    Nobody waits for a timer: an idle store sends one call at once, a busy one sends
    bigger batches by itself. What is put first is sent first. The operations of one
    call are never divided. If a batch is stuck, as when another program holds the lock,
    who only reads is answered beside it.

    Attributes:
        batches: How many were sent.
    """

    def __init__(
        self,
        session: Session,
        apply: Callable[[Sequence[Operation[Any]]], Awaitable[list[Any]]],
        limit: int,
    ) -> None:
        """Begin with nothing waiting.

        Args:
            session: Whose turn it is, and what waits for the batches when it closes.
            apply: Sends a batch and returns an answer for each operation.
            limit: The most operations in a batch, unless a single call has more.
        """
        self.batches: int = 0
        self._session = session
        self._apply = apply
        self._limit = limit
        self._waiting: deque[Call[Any]] = deque()
        self._sent: list[Call[Any]] = []
        self._relief: asyncio.TimerHandle | None = None
        self._is_sending = False
        self._is_alone = True

    async def send(self, operations: Sequence[Operation[Answer_co]]) -> list[Answer_co]:
        """Send the operations of one call, and wait for the answers.

        A caller that seems to be alone sends them itself: a task would cost it two
        turns of the event loop.
        """
        if not self._is_alone or self._is_sending or self._session.turn.locked():
            return await self.put(operations).answered
        async with self._session.turn:
            self.batches += 1
            self._is_alone = False  # who is cancelled here leaves work to the others
            answers = await self._apply(operations)
            self._is_alone = True
        failure = _failure(operations, answers)
        if failure:
            raise failure
        return answers

    def put(self, operations: Sequence[Operation[Answer_co]]) -> Call[Answer_co]:
        """Take the operations of one call in; they are sent without further ado."""
        call = Call(operations)
        self._waiting.append(call)
        self._start()
        return call

    def _start(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            self._session.see_through(self._send_all()).add_done_callback(self._end)
            self._relieve_later()

    def _end(self, _: asyncio.Task[None]) -> None:
        """Begin anew if somebody waits; or cancelled the task before it even ran."""
        self._is_sending = False
        self._sent = []
        if self._relief is not None:
            self._relief.cancel()
        if any(not call.answered.done() for call in self._waiting):
            self._start()

    async def _send_all(self) -> None:
        while self._waiting:
            async with self._session.turn:
                self._sent = self._next()
                await self._send(self._sent)

    def _relieve_later(self) -> None:
        if self._relief is not None:
            self._relief.cancel()
        loop = asyncio.get_running_loop()
        self._relief = loop.call_later(_STUCK, self._relieve, self.batches)

    def _relieve(self, batches: int) -> None:
        """If nothing was sent since, let who only reads read without the others."""
        if self.batches > batches:
            self._relieve_later()
            return
        calls = [*self._sent, *self._waiting]
        readers = [
            call for call in calls if call.only_looks and not call.answered.done()
        ]
        if readers:
            self._session.see_through(self._read_aside(readers))
        else:
            self._relieve_later()

    async def _read_aside(self, calls: list[Call[Any]]) -> None:
        looks = [
            operation
            for call in calls
            for operation in call.operations
            if isinstance(operation, Look)
        ]
        with suppress(Exception):  # then they wait on, and their batch tells them
            answers = await self._session.backend.look(looks)
            if answers is not None:
                _answer(calls, answers)
        if self._is_sending:
            self._relieve_later()

    def _next(self) -> list[Call[Any]]:
        """Take what fits into one batch, in order."""
        calls: list[Call[Any]] = []
        room = self._limit
        while self._waiting:
            room -= len(self._waiting[0].operations)
            if calls and room < 0:
                break
            call = self._waiting.popleft()
            if not call.answered.done():
                calls.append(call)
        self._is_alone = len(calls) == 1
        return calls

    async def _send(self, calls: list[Call[Any]]) -> None:
        if not calls:
            return
        self.batches += 1
        operations = [operation for call in calls for operation in call.operations]
        try:
            answers = await self._apply(operations)
        except asyncio.CancelledError as exc:
            _fail(calls, exc)
            raise
        except SeenError as exc:
            await self._spare_readers(calls, exc)
        except Exception as exc:  # noqa: BLE001 - somebody's operation is bad
            await self._blame(calls, exc)
        else:
            _answer(calls, answers)

    async def _spare_readers(self, calls: list[Call[Any]], exc: SeenError) -> None:
        """Fail a batch, but let who only reads try without those who write."""
        readers = [call for call in calls if call.only_looks]
        writers = [call for call in calls if not call.only_looks]
        _fail(writers or readers, exc)
        if writers:
            await self._send(readers)

    async def _blame(self, calls: list[Call[Any]], exc: Exception) -> None:
        """Let a bad operation fail alone: send the calls one by one."""
        if len(calls) == 1:
            calls[0].fail(exc)
            return
        for place, call in enumerate(calls, start=1):
            try:
                await self._send([call])
            except asyncio.CancelledError as cancelled:
                _fail(calls[place:], cancelled)
                raise


def _failure(
    operations: Sequence[Operation[Any]], answers: Sequence[object]
) -> SeenError | None:
    """Say what to raise if some operations failed alone: the others may be done."""
    failures = [answer for answer in answers if isinstance(answer, SeenError)]
    if not failures:
        return None
    for failure in failures:
        if isinstance(failure, OutcomeUnknownError):
            return failure
    first = failures[0]
    is_partial = len(failures) < len(answers) and not _only_look(operations)
    if not is_partial or not isinstance(first, StoreUnavailableError | SchemaError):
        return first
    cause = f"{len(failures)} of {len(answers)} keys failed: {first.cause}"
    return OutcomeUnknownError(first.location, cause, first.advice)


def _answer(calls: Sequence[Call[Any]], answers: Sequence[Any]) -> None:
    """Give each of the callers its own of what a batch was answered."""
    end = 0
    for call in calls:
        start, end = end, end + len(call.operations)
        own = [*answers[start:end]]
        failure = _failure(call.operations, own)
        if failure:
            call.fail(failure)
        else:
            call.answer(own)


def _only_look(operations: Sequence[Operation[Any]]) -> bool:
    return all(isinstance(operation, Look) for operation in operations)


def _fail(calls: Sequence[Call[Any]], exc: BaseException) -> None:
    """Raise an error for each of the callers.

    Each gets a copy: one exception in many tasks mixes up their tracebacks.
    """
    for call in calls:
        own = copy(exc).with_traceback(exc.__traceback__)
        own.__cause__ = exc.__cause__
        call.fail(own)
