"""When a pending key is claimed again after an attempt that failed."""

from __future__ import annotations

import random
from typing import NamedTuple

_JITTER = 0.1


class Retry(NamedTuple):
    """The pauses after failed attempts, and their number.

    Attributes:
        first: Seconds after the first one; twice as many after each further one.
        longest: The longest pause in seconds.
        max_attempts: After so many the key is held; ``None`` is never.
    """

    first: float
    longest: float
    max_attempts: int | None

    def pause(self, attempt: int) -> float:
        """Return the seconds after an attempt, more or less by a tenth.

        So the workers that a broken receiver has refused do not return all at once.
        """
        doublings = min(attempt - 1, 64)  # a float has no larger exponent than 1,023
        pause = min(self.first * 2.0**doublings, self.longest)
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311

    def is_last(self, attempt: int) -> bool:
        """Is the key held if this attempt fails?"""
        return self.max_attempts is not None and attempt >= self.max_attempts
