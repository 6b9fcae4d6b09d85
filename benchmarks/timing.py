"""Times a load, and checks its results."""

from __future__ import annotations

import gc
from time import perf_counter, process_time, thread_time
from typing import TYPE_CHECKING

from .measure import THROUGHPUT, Outcome, WrongAnswerError, percentile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Ask = Callable[[str], Awaitable[bool]]

LOOP, WORKER = "CPU in the loop", "CPU in other threads"
"""The CPU time of one operation in the threads of this process, in microseconds."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
"""The measures of works that time every operation, in milliseconds."""


async def timed(asking: Awaitable[int], count: int, *, true: int) -> Outcome:
    """Await the results, and check the number of true ones.

    Raises:
        WrongAnswerError: The number differs from the expected one.
    """
    gc.collect()
    used, used_here = process_time(), thread_time()
    started = perf_counter()
    answers = await asking
    rate = count / (perf_counter() - started)
    used_here = thread_time() - used_here
    elsewhere = process_time() - used - used_here  # 0.0 if there is no other thread
    check(answers, count, true=true)
    cpu = {LOOP: 1e6 * used_here / count, WORKER: round(1e6 * elsewhere / count, 1)}
    return Outcome({THROUGHPUT: rate, **cpu}, rate)


def check(answers: int, count: int, *, true: int) -> None:
    """Check the number of true results.

    Raises:
        WrongAnswerError: The number differs from the expected one.
    """
    if answers != true:
        raise WrongAnswerError(
            f"{answers:,} of {count:,} answers were true, not {true:,}"
        )


async def remembered(outcome: Outcome, asking_again: Awaitable[int]) -> Outcome:
    """Return the outcome, if no new key is reported as new a second time.

    Raises:
        WrongAnswerError: A key was reported as new twice.
    """
    new = await asking_again
    if new:
        raise WrongAnswerError(f"{new:,} keys were new for the second time")
    return outcome


def noting(ask: Ask, taken: list[float]) -> Ask:
    """Check in the same way, and record the duration of each call, in seconds."""

    async def noted(key: str) -> bool:
        started = perf_counter()
        answer = await ask(key)
        taken.append(perf_counter() - started)
        return answer

    return noted


def percentiles(taken: Sequence[float]) -> dict[str, float]:
    """Durations in seconds as percentiles in milliseconds."""
    return {name: 1e3 * percentile(taken, part) for name, part in PERCENTILES.items()}
