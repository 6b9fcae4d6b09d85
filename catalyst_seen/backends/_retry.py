"""Retries of requests to a server, with backoff, one request at a time.

``RetryingChannel`` serialises the requests of a store to its server and retries those
whose connection failed: a Redis or PostgreSQL that restarts costs its callers time, not
an error. The drivers' own retries are switched off, because only the channel knows
whether an earlier attempt may have been applied.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .._errors import OutcomeUnknownError, StoreClosedError, StoreUnavailableError
from .._pause import pause
from .operations import Forget, Hold, IsSeen, Release, Resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .._errors import SeenError
    from .operations import Operation

T = TypeVar("T")

_FIRST_BACKOFF, _LAST_BACKOFF = 0.02, 1.0
"""Seconds between two attempts: doubled after each, with jitter."""

_LEAST_TIMEOUT = 0.1
"""Seconds for the last attempt of a request: an idle server answers sooner."""


class TransientError(Exception):
    """A request failed in a way that another attempt may mend.

    The modules of a backend that talk to its driver raise it; none leaves the backend.

    Attributes:
        cause: The driver's exception.
        maybe_applied: Whether the server may have applied the request.
        advice: The remedy if every attempt fails.
    """

    def __init__(
        self,
        cause: BaseException,
        *,
        maybe_applied: bool,
        advice: str = "The store works again when the server does",
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.maybe_applied = maybe_applied
        self.advice = advice


class Attempt(NamedTuple):
    """One attempt of a request."""

    maybe_applied: bool
    """Whether an earlier attempt may have been applied."""
    timeout: float
    """Seconds left, after which a server that does not answer counts as lost."""


class RetryingChannel:
    """Sends one request to a server at a time, and retries it until ``timeout``.

    A cancelled caller does not cancel its request: the request completes, so that no
    later request of the same caller can overtake it.

    Attributes:
        location: The address of the server.
        retries: Number of requests that were sent again.
        failing: Why the last attempt failed; ``None`` if it was answered.
    """

    def __init__(self, location: str, timeout: float) -> None:
        self.location: str = location
        self.retries: int = 0
        self.failing: str | None = None
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._running: asyncio.Task[object] | None = None
        self._is_closed = False

    async def request(
        self,
        attempt: Callable[[Attempt], Awaitable[T]],
        *,
        is_change: bool,
        timeout: float | None = None,
    ) -> T:
        """Send a request after the one under way, with retries.

        Args:
            attempt: Sends the request once. It raises ``TransientError`` to be retried.
            is_change: Whether an applied attempt changes the database.
            timeout: Seconds from now, the wait for the earlier request included, after
                which the request is not retried; ``None`` is that of the channel.

        Raises:
            StoreUnavailableError: The timeout is over, and nothing was applied.
            OutcomeUnknownError: The timeout is over, and it may have been applied.
            StoreClosedError: The channel was closed before.
        """
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        await self._lock.acquire()
        task = asyncio.create_task(self._retry(attempt, deadline, is_change=is_change))
        task.add_done_callback(self._end)
        self._running = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_closed:
                self._check_open()
            raise

    def _end(self, task: asyncio.Task[T]) -> None:
        """Let the next request begin; the caller of this one may have been cancelled.

        Then nobody else asks for its error, which asyncio would log.
        """
        self._lock.release()
        if not task.cancelled():
            task.exception()

    async def _retry(
        self,
        attempt: Callable[[Attempt], Awaitable[T]],
        deadline: float,
        *,
        is_change: bool,
    ) -> T:
        self._check_open()
        maybe_applied, backoff = False, _FIRST_BACKOFF
        while True:
            left = max(deadline - time.monotonic(), _LEAST_TIMEOUT)
            try:
                answer = await attempt(Attempt(maybe_applied, left))
            except TransientError as failure:
                self.failing = _cause(failure)
                maybe_applied = maybe_applied or (failure.maybe_applied and is_change)
                if time.monotonic() + backoff > deadline:
                    error = self._exhausted(failure, maybe_applied=maybe_applied)
                    raise error from failure.cause
            except StoreUnavailableError as refusal:
                if maybe_applied:
                    raise as_outcome_unknown(refusal) from refusal
                raise
            else:
                self.failing = None
                return answer
            self.retries += 1
            jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
            await pause(backoff * jitter)
            backoff = min(2 * backoff, _LAST_BACKOFF)

    def _exhausted(self, failure: TransientError, *, maybe_applied: bool) -> SeenError:
        cause = f"{_cause(failure)} (tried for {self._timeout:g} seconds)"
        error = StoreUnavailableError(self.location, cause, failure.advice)
        return as_outcome_unknown(error) if maybe_applied else error

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"store {self.location!r} was closed meanwhile")

    async def aclose(self) -> None:
        """Complete the request under way; refuse later ones."""
        self._is_closed = True
        if self._running and not self._running.done():
            await asyncio.wait({self._running})

    def abandon(self) -> None:
        """Cancel the request under way and refuse later ones, from any thread."""
        self._is_closed = True
        if self._running and not self._running.done():
            with suppress(RuntimeError):  # its loop has ended
                self._running.get_loop().call_soon_threadsafe(self._running.cancel)


def _cause(failure: TransientError) -> str:
    return str(failure.cause) or type(failure.cause).__name__


def as_outcome_unknown(refusal: StoreUnavailableError) -> OutcomeUnknownError:
    """Convert the refusal of a retry whose first attempt may have been applied."""
    return OutcomeUnknownError(
        refusal.location,
        f"{refusal.cause}: carried out or not before that, nobody knows",
        f"{refusal.advice}. Ask again to learn which",
    )


def safe_to_repeat(operation: Operation[object]) -> Operation[object]:
    """Return what a retry may send after an attempt that may have been applied.

    A Forget or a Resolve that was applied must not be repeated: another caller may have
    marked or claimed the key since, and the retry would undo that. The retry only reads
    the key, and the outcome is unknown. Every other operation recognises its first
    attempt by a token, or can be repeated without harm.
    """
    if type(operation) in {Forget, Resolve}:
        return IsSeen(operation.namespace, operation.key)
    return operation


def ambiguous(
    operation: Operation[object], location: str
) -> OutcomeUnknownError | None:
    """Return the error of a retried operation that had no effect, if it is ambiguous.

    Forget and Resolve write no token by which a retry could recognise its first
    attempt, and that of Release and Hold is gone if another caller has resolved or
    claimed the key since. Every other operation recognises it, or has the same effect
    again.
    """
    if not isinstance(operation, Forget | Hold | Release | Resolve):
        return None
    return OutcomeUnknownError(
        location,
        f"the connection broke, and whether {operation.verb} was done before it did,"
        " nobody knows",
        "Ask for the key to learn how it is",
    )


@contextmanager
def no_retry(location: str) -> Iterator[None]:
    """Convert a ``TransientError`` to ``StoreUnavailableError`` instead of retrying."""
    try:
        yield
    except TransientError as exc:
        raise StoreUnavailableError(
            location,
            f"{str(exc.cause) or 'no answer'} ({type(exc.cause).__name__})",
            "Is the server running, and is this its address?",
        ) from exc.cause


class ServerClock:
    """An estimate of the server's time that needs no request.

    It errs fast, by at most one round trip, so that ``remaining()`` of a lease never
    overestimates.
    """

    def __init__(
        self,
        server_time: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no estimate.

        Args:
            server_time: Replaces the server's clock; see ``Tuning``.
            monotonic: The local clock that interpolates between two observations.
        """
        self._server_time = server_time
        self.monotonic = monotonic
        self._offset = 0.0

    def observe(self, now: float, sent: float) -> None:
        """Record the server's time in the reply to a request sent at ``sent``.

        A more precise observation, of a shorter round trip, stays: otherwise time would
        run backwards by the difference of two round trips.
        """
        if not now - self.monotonic() <= self._offset <= now - sent:
            self._offset = now - sent

    def override(self) -> float | None:
        """Return the time that replaces the server's clock; ``None`` outside tests."""
        return None if self._server_time is None else self._server_time()

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        now = self.override()
        return self.monotonic() + self._offset if now is None else now
