"""Talking to a server: one exchange at a time, each to its end, again if it broke."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from .._backend import Forget, Release, Resolve
from .._errors import OutcomeUnknownError, StoreClosedError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .._backend import Operation
    from .._errors import SeenError

T = TypeVar("T")

_FIRST_PAUSE, _LAST_PAUSE = 0.02, 1.0
"""Seconds before an exchange that broke is tried again."""


class Broken(Exception):  # noqa: N818 - nobody but this module ever sees it
    """An exchange was not brought to its end; the next may be.

    Attributes:
        cause: What the driver said.
        was_sent: May the server have carried it out?
        advice: What helps if it breaks again and again.
    """

    def __init__(
        self,
        cause: BaseException,
        *,
        was_sent: bool,
        advice: str = "The store works again when the server does",
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.was_sent = was_sent
        self.advice = advice


class Exchanges:
    """Has one exchange with a server at a time.

    An exchange that broke is tried again until ``timeout`` is over: a server that is
    restarted costs its callers time, not an answer. A caller that is cancelled leaves
    its exchange to come to its end, so that what it sends next can not overtake it.
    """

    def __init__(self, location: str, timeout: float) -> None:
        self.location: str = location
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[object] | None = None
        self._is_closed = False

    async def have(
        self, attempt: Callable[[bool], Awaitable[T]], *, is_change: bool
    ) -> T:
        """Have an exchange, after the one that is under way.

        Args:
            attempt: Is told whether an earlier attempt may have been carried out.
                Raises ``Broken`` if it should be called again.
            is_change: Would it matter if it had been carried out?

        Raises:
            StoreUnavailableError: Time is over, and nothing was carried out.
            OutcomeUnknownError: Time is over, and it may have been carried out.
            StoreClosedError: It was closed before.
        """
        await self._turn.acquire()
        task = asyncio.create_task(self._persist(attempt, is_change=is_change))
        task.add_done_callback(lambda _: self._turn.release())
        self._running = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_closed:
                self._check_open()
            raise

    async def _persist(
        self, attempt: Callable[[bool], Awaitable[T]], *, is_change: bool
    ) -> T:
        self._check_open()
        deadline = time.monotonic() + self._timeout
        may_be_done, pause = False, _FIRST_PAUSE
        while True:
            try:
                return await attempt(may_be_done)
            except Broken as broken:
                may_be_done = may_be_done or (broken.was_sent and is_change)
                if time.monotonic() + pause > deadline:
                    error = self._given_up(broken, may_be_done=may_be_done)
                    raise error from broken.cause
            except StoreUnavailableError as refusal:
                if may_be_done:
                    raise unknown(refusal) from refusal
                raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(2 * pause, _LAST_PAUSE)

    def _given_up(self, broken: Broken, *, may_be_done: bool) -> SeenError:
        said = str(broken.cause) or type(broken.cause).__name__
        said += f" (tried for {self._timeout:g} seconds)"
        error = StoreUnavailableError(self.location, said, broken.advice)
        return unknown(error) if may_be_done else error

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"store {self.location!r} was closed meanwhile")

    async def aclose(self) -> None:
        """Let what is under way come to its end; have no more."""
        self._is_closed = True
        if self._running and not self._running.done():
            await asyncio.wait({self._running})

    def abandon(self) -> None:
        """Have no more, and leave what is under way; from any thread."""
        self._is_closed = True
        if self._running and not self._running.done():
            with suppress(RuntimeError):  # its loop has ended
                self._running.get_loop().call_soon_threadsafe(self._running.cancel)


def unknown(refusal: StoreUnavailableError) -> OutcomeUnknownError:
    """Say what became of a call that was refused, but perhaps carried out before."""
    if isinstance(refusal, OutcomeUnknownError):
        return refusal
    return OutcomeUnknownError(
        refusal.location,
        f"{refusal.cause}: carried out or not before that, nobody knows",
        f"{refusal.advice}. Ask again to learn which",
    )


def cannot_tell(
    operation: Operation[object], location: str
) -> OutcomeUnknownError | None:
    """Say what nobody knows of an operation that was sent twice and did nothing.

    The others leave in the row who they were.
    """
    if not isinstance(operation, Forget | Release | Resolve):
        return None
    return OutcomeUnknownError(
        location,
        f"the connection broke, and whether {operation.verb} was done before it did,"
        " nobody knows",
        "Ask for the key to learn how it is",
    )


@contextmanager
def at_once(location: str) -> Iterator[None]:
    """Have no second attempt: raise ``StoreUnavailableError`` for what broke."""
    try:
        yield
    except Broken as exc:
        raise StoreUnavailableError(
            location,
            f"{str(exc.cause) or 'no answer'} ({type(exc.cause).__name__})",
            "Is the server running, and is this its address?",
        ) from exc.cause


class ServerClock:
    """The server's time, as far as it is known here without asking.

    It is ahead by as long as an exchange took, if anything: so a lease never looks
    longer than it is.
    """

    def __init__(self) -> None:
        self._ahead = 0.0

    def heard(self, now: float, sent: float) -> None:
        """Take note of what the server said when it was asked at ``sent``.

        What is known better, from an exchange that took less, stays: else time would
        go back by what a slow one takes more than the next.
        """
        if not now - monotonic() <= self._ahead <= now - sent:
            self._ahead = now - sent

    def now(self) -> float:
        """Tell the server's time, in seconds since 1970."""
        return monotonic() + self._ahead


monotonic = time.monotonic
"""What passes while nobody asks the server; of this process, and never set."""
