"""A clock that cannot be used is refused at open and later, with a clear error."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, ConfigurationError

from ..support.clock import NOON
from ..support.targets import LOCAL, Places

ADVICE = "it must return the seconds since 1970, as time.time does"


def raising(error: Exception) -> Callable[[], float]:
    """Return a clock that raises."""

    def clock() -> float:
        raise error

    return clock


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "inf": (lambda: math.inf, "it returned inf"),
    "-inf": (lambda: -math.inf, "it returned -inf"),
    "nan": (lambda: math.nan, "it returned nan"),
    "text": (lambda: "noon", "it raised TypeError"),
    "none": (lambda: None, "it raised TypeError"),
    "error": (raising(OSError("gone")), r"it raised OSError\('gone'\)"),
    "stop": (raising(StopIteration()), "it raised StopIteration"),
}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest) -> tuple[Callable[[], Any], str]:
    """A clock that cannot be used, and what the error says of it."""
    return BROKEN[request.param]


@pytest.mark.parametrize("name", LOCAL)
async def test_broken_clock(
    places: Places, path: Path, broken: tuple[Callable[[], Any], str], name: str
) -> None:
    """It is refused at open; later, each call fails until the clock is well again."""
    clock, message = broken
    is_broken = True

    def now() -> float:
        return clock() if is_broken else NOON

    with places.target(name, path) as target:
        config = target.config(purge_interval=None, clock=now)
        store = AsyncSeenStore(config)
        with pytest.raises(ConfigurationError, match=f"clock: {message}.*{ADVICE}"):
            await store.open()
        is_broken = False
        async with store, asyncio.timeout(60):
            await store.mark_seen("k")
            is_broken = True
            for call in (store.mark_seen("l"), store.is_seen("k"), store.stats()):
                with pytest.raises(ConfigurationError, match=message):
                    await call
            is_broken = False
            assert await store.is_seen("k")
            (alarm,) = (await store.stats()).alarms
            assert "no call that writes" in alarm
            assert "clock" in alarm
            assert await store.check_and_mark("l")
            assert (await store.stats()).alarms == ()
