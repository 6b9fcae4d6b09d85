"""What every server's backend goes by: exchanges to their end, a clock not its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from catalyst_seen import OutcomeUnknownError, StoreClosedError, StoreUnavailableError
from catalyst_seen._backend import CheckAndMark, Look
from catalyst_seen._batcher import _failure
from catalyst_seen.backends import _exchange
from catalyst_seen.backends._exchange import Broken, Exchanges, ServerClock

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


async def cancelled(exchanges: Exchanges, attempt: Attempt) -> None:
    """Cancel who has an exchange, once it is under way."""
    first = asyncio.create_task(exchanges.have(attempt, is_change=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


class TestExchanges:
    """One at a time, each to its end."""

    async def test_cancelled(self) -> None:
        """Who is cancelled leaves the exchange to its end: no other overtakes it."""
        exchanges, ends = Exchanges("here", 1), Ends()
        await cancelled(exchanges, ends.of("first", waits=True))
        second = asyncio.create_task(exchanges.have(ends.of("second"), is_change=True))
        await asyncio.sleep(0.01)
        ends.gate.set()
        await second
        assert ends.names == ["first", "second"]

    async def test_close_waits(self) -> None:
        """What a cancelled caller has left under way is brought to its end."""
        exchanges, ends = Exchanges("here", 1), Ends()
        await cancelled(exchanges, ends.of("first", waits=True))
        closing = asyncio.create_task(exchanges.aclose())
        await asyncio.sleep(0.01)
        assert not closing.done()
        ends.gate.set()
        await closing
        assert ends.names == ["first"]
        with pytest.raises(StoreClosedError):
            await exchanges.have(ends.of("second"), is_change=True)
        assert ends.names == ["first"]

    @pytest.mark.parametrize(
        ("was_sent", "is_change", "is_unknown"),
        [(True, True, True), (True, False, False), (False, True, False)],
    )
    async def test_refused_later(
        self, *, was_sent: bool, is_change: bool, is_unknown: bool
    ) -> None:
        """A refusal after a change that was sent tells nothing of that one."""
        told: list[bool] = []

        async def attempt(again: bool) -> None:
            told.append(again)
            if len(told) == 1:
                raise Broken(OSError("gone"), was_sent=was_sent)
            raise StoreUnavailableError("here", "full", "wait")

        with pytest.raises(StoreUnavailableError, match="full") as caught:
            await Exchanges("here", 1).have(attempt, is_change=is_change)
        assert told == [False, is_unknown]
        assert isinstance(caught.value, OutcomeUnknownError) is is_unknown


def test_clock_keeps_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow exchange does not set the clock ahead, so that a fast one sets it back."""
    clock, here = ServerClock(), 10.0
    monkeypatch.setattr(_exchange, "monotonic", lambda: here)
    told = []
    for took in (0.01, 1.0, 0.01):
        sent, here = here, here + took
        clock.heard(100 + here - took / 2, sent)
        told.append(clock.now() - here)
    assert told == pytest.approx([100.005] * 3)


class TestPartlyFailed:
    """What a call raises of which some operations failed alone."""

    UNAVAILABLE = StoreUnavailableError("here", "full", "wait")
    UNKNOWN = OutcomeUnknownError("here", "lost", "ask")
    MARKS = (CheckAndMark("", "a", ttl=None), CheckAndMark("", "b", ttl=None))
    LOOKS = (Look("", "a"), Look("", "b"))

    def test_unknown_first(self) -> None:
        """What nobody knows counts, whatever else has failed."""
        unknown = self.UNKNOWN
        assert _failure(self.MARKS, [self.UNAVAILABLE, unknown]) is unknown
        assert _failure(self.MARKS, [True, unknown]) is unknown

    def test_others_are_done(self) -> None:
        """A call of which a part was done is no call that did nothing."""
        failure = _failure(self.MARKS, [True, self.UNAVAILABLE])
        assert isinstance(failure, OutcomeUnknownError)
        assert "1 of 2 keys failed" in str(failure)

    def test_nothing_is_done(self) -> None:
        """If all has failed, or nothing was to be done, that is what is said."""
        refused = self.UNAVAILABLE
        assert _failure(self.MARKS, [refused, refused]) is refused
        assert _failure(self.LOOKS, [None, refused]) is refused
        assert _failure(self.MARKS, [True, True]) is None
