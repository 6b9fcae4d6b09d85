"""What every server's backend goes by: exchanges to their end, a clock not its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from catalyst_seen import OutcomeUnknownError, StoreClosedError, StoreUnavailableError
from catalyst_seen._engine.batcher import _call_failure
from catalyst_seen.backends._retry import (
    RetryingChannel,
    ServerClock,
    TransientError,
)
from catalyst_seen.backends.operations import CheckAndMark, Get

Attempt = Callable[[bool], Awaitable[None]]


class Ends:
    """Attempts that end when they may, and what has ended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.names: list[str] = []

    def of(self, name: str, *, waits: bool = False) -> Attempt:
        """An attempt; it waits for the gate, or ends at once."""

        async def attempt(_: bool) -> None:
            if waits:
                await self.gate.wait()
            self.names.append(name)

        return attempt


async def cancelled(exchanges: RetryingChannel, attempt: Attempt) -> None:
    """Cancel who has an exchange, once it is under way."""
    first = asyncio.create_task(exchanges.request(attempt, is_change=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


class TestRetryingChannel:
    """One at a time, each to its end."""

    async def test_cancelled(self) -> None:
        """Who is cancelled leaves the exchange to its end: no other overtakes it."""
        exchanges, ends = RetryingChannel("here", 1), Ends()
        await cancelled(exchanges, ends.of("first", waits=True))
        second = asyncio.create_task(
            exchanges.request(ends.of("second"), is_change=True)
        )
        await asyncio.sleep(0.01)
        ends.gate.set()
        await second
        assert ends.names == ["first", "second"]

    async def test_close_waits(self) -> None:
        """What a cancelled caller has left under way is brought to its end."""
        exchanges, ends = RetryingChannel("here", 1), Ends()
        await cancelled(exchanges, ends.of("first", waits=True))
        closing = asyncio.create_task(exchanges.aclose())
        await asyncio.sleep(0.01)
        assert not closing.done()
        ends.gate.set()
        await closing
        assert ends.names == ["first"]
        with pytest.raises(StoreClosedError):
            await exchanges.request(ends.of("second"), is_change=True)
        assert ends.names == ["first"]

    @pytest.mark.parametrize(
        ("maybe_applied", "is_change", "is_unknown"),
        [(True, True, True), (True, False, False), (False, True, False)],
    )
    async def test_refused_later(
        self, *, maybe_applied: bool, is_change: bool, is_unknown: bool
    ) -> None:
        """A refusal after a change that was sent tells nothing of that one."""
        told: list[bool] = []

        async def attempt(again: bool) -> None:
            told.append(again)
            if len(told) == 1:
                raise TransientError(OSError("gone"), maybe_applied=maybe_applied)
            raise StoreUnavailableError("here", "full", "wait")

        with pytest.raises(StoreUnavailableError, match="full") as caught:
            await RetryingChannel("here", 1).request(attempt, is_change=is_change)
        assert told == [False, is_unknown]
        assert isinstance(caught.value, OutcomeUnknownError) is is_unknown


def test_clock_keeps_what_is_better() -> None:
    """A slow exchange does not set the clock ahead, so that a fast one sets it back."""
    here = 10.0
    clock = ServerClock(monotonic=lambda: here)
    told = []
    for took in (0.01, 1.0, 0.01):
        sent, here = here, here + took
        clock.observe(100 + here - took / 2, sent)
        told.append(clock.now() - here)
    assert told == pytest.approx([100.005] * 3)


class TestPartlyFailed:
    """What a call raises of which some operations failed alone."""

    UNAVAILABLE = StoreUnavailableError("here", "full", "wait")
    UNKNOWN = OutcomeUnknownError("here", "lost", "ask")
    MARKS = (CheckAndMark("", "a", ttl=None), CheckAndMark("", "b", ttl=None))
    LOOKS = (Get("", "a"), Get("", "b"))

    def test_unknown_first(self) -> None:
        """What nobody knows counts, whatever else has failed."""
        unknown = self.UNKNOWN
        assert _call_failure(self.MARKS, [self.UNAVAILABLE, unknown]) is unknown
        assert _call_failure(self.MARKS, [True, unknown]) is unknown

    def test_others_are_done(self) -> None:
        """A call of which a part was done is no call that did nothing."""
        failure = _call_failure(self.MARKS, [True, self.UNAVAILABLE])
        assert isinstance(failure, OutcomeUnknownError)
        assert "1 of 2 keys failed" in str(failure)

    def test_nothing_is_done(self) -> None:
        """If all has failed, or nothing was to be done, that is what is said."""
        refused = self.UNAVAILABLE
        assert _call_failure(self.MARKS, [refused, refused]) is refused
        assert _call_failure(self.LOOKS, [None, refused]) is refused
        assert _call_failure(self.MARKS, [True, True]) is None
