"""Retries of requests to a server, and the estimate of the server's time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from catalyst_seen import (
    OutcomeUnknownError,
    SeenStoreConfig,
    Sighting,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen._engine.calls import call_failure
from catalyst_seen._engine.lifecycle import no_turn
from catalyst_seen.backends import _retry
from catalyst_seen.backends._retry import (
    Attempt,
    RetryingChannel,
    ServerClock,
    TransientError,
)
from catalyst_seen.backends.base import BackendCounters
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.operations import CheckAndMark, Get

Send = Callable[[Attempt], Awaitable[None]]


class Attempts:
    """Attempts that wait for a gate, and the names of the completed ones."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.completed: list[str] = []

    def attempt(self, name: str, *, waits: bool = False) -> Send:
        """Return an attempt that waits for the gate, or completes at once."""

        async def attempt(_: Attempt) -> None:
            if waits:
                await self.gate.wait()
            self.completed.append(name)

        return attempt


async def cancel_request(channel: RetryingChannel, attempt: Send) -> None:
    """Cancel the caller of a request that is under way."""
    first = asyncio.create_task(channel.request(attempt, is_change=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


class TestRetryingChannel:
    """Requests are serialised, and each one completes."""

    async def test_cancelled_request_completes_first(self) -> None:
        """A cancelled caller's request completes before the next request starts."""
        channel, attempts = RetryingChannel("here", 1), Attempts()
        await cancel_request(channel, attempts.attempt("first", waits=True))
        second = asyncio.create_task(
            channel.request(attempts.attempt("second"), is_change=True)
        )
        await asyncio.sleep(0.01)
        attempts.gate.set()
        await second
        assert attempts.completed == ["first", "second"]

    async def test_close_waits_for_a_cancelled_request(self) -> None:
        """Closing completes a cancelled caller's request, and refuses later ones."""
        channel, attempts = RetryingChannel("here", 1), Attempts()
        await cancel_request(channel, attempts.attempt("first", waits=True))
        closing = asyncio.create_task(channel.aclose())
        await asyncio.sleep(0.01)
        assert not closing.done()
        attempts.gate.set()
        await closing
        assert attempts.completed == ["first"]
        with pytest.raises(StoreClosedError):
            await channel.request(attempts.attempt("second"), is_change=True)
        assert attempts.completed == ["first"]

    async def test_failure_of_a_cancelled_request(self) -> None:
        """Nobody waits for its error any more, and asyncio has none to log."""
        unheard: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unheard.append(context))
        channel, gate = RetryingChannel("here", 0.001), asyncio.Event()

        async def attempt(_: Attempt) -> None:
            await gate.wait()
            raise TransientError(OSError("gone"), maybe_applied=False)

        await cancel_request(channel, attempt)
        gate.set()
        await channel.request(Attempts().attempt("second"), is_change=True)
        gc.collect()
        await asyncio.sleep(0)
        assert not unheard

    async def test_why_it_fails_now(self) -> None:
        """The last failure is known while it is retried, until an answer."""
        channel, seen = RetryingChannel("here", 10), list[str | None]()

        async def attempt(_: Attempt) -> None:
            seen.append(channel.failing)
            if len(seen) < 3:
                cause = OSError("refused") if len(seen) == 1 else TimeoutError()
                raise TransientError(cause, maybe_applied=False)

        await channel.request(attempt, is_change=False)
        assert [*seen, channel.failing] == [None, "refused", "TimeoutError", None]

    async def test_wait_for_an_earlier_request_counts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A request gets what its wait for the one under way has left of its time."""
        now, timeouts, gate = [0.0], [], asyncio.Event()
        clock = SimpleNamespace(monotonic=lambda: now[0])
        monkeypatch.setattr(_retry, "time", clock)
        channel = RetryingChannel("here", 10)

        async def attempt(this: Attempt) -> None:
            timeouts.append(this.timeout)
            await gate.wait()

        requests = [
            asyncio.create_task(channel.request(attempt, is_change=True, timeout=limit))
            for limit in (None, None, 8)
        ]
        await asyncio.sleep(0.01)
        now[0] = 7.0
        gate.set()
        await asyncio.gather(*requests)
        assert timeouts == [10, 3, 1]

    @pytest.mark.parametrize(
        ("maybe_applied", "is_change", "is_unknown"),
        [(True, True, True), (True, False, False), (False, True, False)],
    )
    async def test_refused_retry_of_a_sent_change(
        self, *, maybe_applied: bool, is_change: bool, is_unknown: bool
    ) -> None:
        """A refused retry is unknown if an earlier attempt may have been applied."""
        earlier: list[bool] = []

        async def attempt(this: Attempt) -> None:
            earlier.append(this.maybe_applied)
            if len(earlier) == 1:
                raise TransientError(OSError("gone"), maybe_applied=maybe_applied)
            raise StoreUnavailableError("here", "full", "wait")

        with pytest.raises(StoreError, match="full") as caught:
            await RetryingChannel("here", 1).request(attempt, is_change=is_change)
        assert earlier == [False, is_unknown]
        assert isinstance(caught.value, OutcomeUnknownError) is is_unknown


def test_clock_keeps_the_precise_estimate() -> None:
    """A slow round trip does not replace the estimate of a fast one."""
    here = 10.0
    clock = ServerClock(monotonic=lambda: here)
    offsets = []
    for took in (0.01, 1.0, 0.01):
        sent, here = here, here + took
        clock.observe(100 + here - took / 2, sent)
        offsets.append(clock.now() - here)
    assert offsets == pytest.approx([100.005] * 3)


@pytest.mark.parametrize(
    ("failing", "said"),
    [(None, "or this event loop was blocked"), ("connection refused", "refused")],
)
def test_call_without_a_turn_says_why(failing: str | None, said: str) -> None:
    """It has the error of the request before it; without one, it may be the loop."""

    class Failing(MemoryBackend):
        def counters(self) -> BackendCounters:
            return BackendCounters(failing=failing)

    assert said in no_turn(Failing(SeenStoreConfig())).cause


class TestPartlyFailed:
    """The error of a call of which some operations failed."""

    UNAVAILABLE = StoreUnavailableError("here", "full", "wait")
    UNKNOWN = OutcomeUnknownError("here", "lost", "ask")
    MARKS = (CheckAndMark("", "a", ttl=None), CheckAndMark("", "b", ttl=None))
    GETS = (Get("", "a"), Get("", "b"))

    def test_unknown_outcome_takes_precedence(self) -> None:
        """An unknown outcome takes precedence over every other failure."""
        unknown = self.UNKNOWN
        assert call_failure(self.MARKS, [self.UNAVAILABLE, unknown]) is unknown
        assert call_failure(self.MARKS, [True, unknown]) is unknown

    def test_partial_success_is_unknown(self) -> None:
        """A call that was applied in part is unknown."""
        failure = call_failure(self.MARKS, [True, self.UNAVAILABLE])
        assert isinstance(failure, OutcomeUnknownError)
        assert "1 of 2 keys failed" in str(failure)

    def test_complete_failure_is_raised(self) -> None:
        """If no operation changed a key, the failure itself is raised."""
        refused = self.UNAVAILABLE
        duplicate = Sighting("a", "", Verdict.DUPLICATE, 1, 1, 0, None)
        assert call_failure(self.MARKS, [duplicate, refused]) is refused
        assert call_failure(self.MARKS, [refused, refused]) is refused
        assert call_failure(self.GETS, [None, refused]) is refused
        assert call_failure(self.MARKS, [True, True]) is None
