"""The clock that a program may pass to a store on SQLite, or in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def read_clock(clock: Callable[[], float]) -> float:
    """Return the time of a clock, in seconds since 1970.

    Raises:
        ConfigurationError: It raised, or returned no finite number. Infinity would make
            every key new for ever, and "not a number" would stop the time.
    """
    try:
        now = clock()
        if math.isfinite(now):
            return float(now)
    except Exception as exc:
        raise ConfigurationError("clock", f"it raised {exc!r}; {_WANTED}") from exc
    raise ConfigurationError("clock", f"it returned {now!r}; {_WANTED}")


_WANTED = "it must return the seconds since 1970, as time.time does"
