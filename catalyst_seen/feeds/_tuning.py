"""Internal limits of a poller, in one object, so that tests can change them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._pause import pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTuning:
    """Limits that are no settings: they may change in any release.

    Attributes:
        now: The time, in seconds since 1970.
        pause: A pause of so many seconds.
        chance: A random number from 0 up to 1, for the jitter.
        attempts: Requests of one poll, as long as no answer begins.
        first_retry: Seconds before the second; the pause doubles, and has a jitter.
        header_bytes: Size of the longest line of an answer's head: servers with a long
            policy or many cookies exceed the 8,190 bytes of aiohttp.
        full_read_after: Seconds after which a source is read without conditions: a
            server that always answers "not modified" would hide its items for ever.
        adopt_after: Seconds for which a server must give the same permanent redirect.
        doubt_after: Failed polls in a row after which an adopted address is dropped.
        longest_wait: The longest time that a server may ask for, and that failures
            lead to.
    """

    now: Callable[[], float] = time.time
    pause: Callable[[float], Awaitable[None]] = pause
    chance: Callable[[], float] = random.random
    attempts: int = 3
    first_retry: float = 0.5
    header_bytes: int = 65_536
    full_read_after: float = DAY
    adopt_after: float = 7 * DAY
    doubt_after: int = 3
    longest_wait: float = DAY
