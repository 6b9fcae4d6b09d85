"""Durations as text, in every argument and setting that takes a duration."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen._durations import format_duration, parse_duration

from ..support.clock import DAY, Clock

TEXTS = {
    "7d": 7 * DAY,
    "2w": 14 * DAY,
    "90s": 90,
    "1h30m": 5_400,
    "1.5h": 5_400,
    "500ms": 0.5,
    "1w1d1h1m1s1ms": 8 * DAY + 3_661.001,
    "0.25s": 0.25,
    "36500d": 36_500 * DAY,
}
NO_TEXTS = [
    "", " ", "7", "7.0", "d", "7 d", " 7d", "7d ", "7D", "7 days", "7days", "30m1h",
    "1h1h", "1s1m", "1h30", "-7d", "+7d", "1e3s", ".5h", "5.h", "1,5h", "nan", "inf",
    "infd", "7d\n", "\u0667d", "P7D", "1:30",
]  # fmt: skip


class TestText:
    """The form of a text."""

    @pytest.mark.parametrize(("text", "seconds"), TEXTS.items())
    def test_units_are_added(self, text: str, seconds: float) -> None:
        """Numbers with units, the largest first, add up; decimals are allowed."""
        assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)

    @pytest.mark.parametrize("text", NO_TEXTS, ids=repr)
    def test_other_text_is_refused(self, text: str) -> None:
        """No bare number, no blank, no other unit or order, no sign is accepted."""
        with pytest.raises(ValueError, match="the units w, d, h, m, s, ms"):
            parse_duration(text)

    @given(st.integers(min_value=0, max_value=3_155_760_000_000))
    def test_formatted_duration_is_parsed(self, milliseconds: int) -> None:
        """What is formatted is parsed as the same duration."""
        text = format_duration(milliseconds / 1000)
        assert round(parse_duration(text) * 1000) == milliseconds


class TestArguments:
    """Texts as arguments and settings."""

    async def test_every_duration_is_a_text(self, clock: Clock) -> None:
        """Every TTL, lease, wait and delay may be a text."""
        async with AsyncSeenStore(
            ":memory:", clock=clock, ttl="1h", purge_interval=None
        ) as store:
            await store.mark_many(["a"], ttl="1d")
            await store.check_and_mark("b", ttl="2d")
            await store.check_and_mark_many(["c"], ttl="3d")
            claim = await store.claim("d", lease="5m", ttl="4d", wait="1ms")
            await claim.renew("10m")
            assert claim.remaining() == pytest.approx(600, abs=1)
            await claim.confirm("4d")
            claims = await store.claim_many(["e", "f"], lease="5m", ttl="1s")
            await store.confirm_many(claims[:1], ttl="5d")
            await store.release_many(claims[1:], delay="90s")
            waiting = await store.check_and_mark("f")
            assert waiting.retry_after == pytest.approx(90, abs=1)
            for days, key in enumerate("abcde", 1):
                record = await store.get(key)
                assert record is not None
                assert record.expires_at == clock() + days * DAY

    async def test_text_is_its_seconds(self, clock: Clock) -> None:
        """A mark with a TTL of "1h30m" expires after 5,400 seconds."""
        async with AsyncSeenStore(
            ":memory:", ttl="1h30m", clock=clock, purge_interval="5m"
        ) as store:
            await store.mark_seen("k")
            clock.advance(5_399)
            assert await store.is_seen("k")
            clock.advance(1)
            assert not await store.is_seen("k")

    @pytest.mark.parametrize("value", ["2s", timedelta(seconds=2), 2])
    def test_settings_are_durations(self, value: Any) -> None:
        """Every duration of a configuration may be any of the three forms."""
        config = SeenStoreConfig(
            timeout=value, recent_staleness=value, purge_interval=value
        )
        assert config.timeout_seconds == 2

    async def test_too_long_text_is_shortened(self) -> None:
        """The value is shown in the message, shortened."""
        async with AsyncSeenStore(":memory:", purge_interval=None) as store:
            with pytest.raises(ValueError, match=r"not '9{59}\.\.\.: a text") as caught:
                await store.mark_seen("k", ttl="9" * 10_000)
            with pytest.raises(ValueError, match="at most 100 years"):
                await store.mark_seen("k", ttl="9" * 10_000 + "d")
        assert len(str(caught.value)) < 300


class TestShortTtl:
    """The TTL of a store that may be days by mistake."""

    def test_seconds_under_an_hour_are_logged(self) -> None:
        """``ttl=7`` is accepted, and the log has its length and the other forms."""
        with capture_logs() as logs:
            AsyncSeenStore(":memory:", ttl=7)
        (event,) = logs
        assert (event["event"], event["log_level"]) == ("short_ttl", "warning")
        assert (event["ttl"], event["lasts"]) == (7, "7s")
        assert "ttl='7d'" in event["advice"]

    @pytest.mark.parametrize(
        "ttl", [3_600, "7s", timedelta(seconds=7), None, ...], ids=repr
    )
    def test_other_ttls_are_not_logged(self, ttl: Any) -> None:
        """A number from an hour on, and whatever states its unit, is not logged."""
        with capture_logs() as logs:
            AsyncSeenStore(":memory:", ttl=ttl)
        assert not logs
