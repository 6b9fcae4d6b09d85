"""Whether a store works now: it answers a read, and commits a real write."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from anyio import to_thread

from .. import AsyncSeenStore, SeenError
from .._validation import seconds
from ._stores import check_store

if TYPE_CHECKING:
    from .. import Duration, SeenStore, StoreMetrics

_LOCKING = {"sqlite", "postgres"}
"""The backends whose calls wait for the locks of other programs."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of ``health``; true if the store works.

    Attributes:
        location: The address of the database.
        took: Seconds until the answer was known.
        reason: Why it does not work, and what to do; ``None`` if it does.
        alarms: The conditions that need an operator, as in ``StoreMetrics``: a store
            may work nevertheless.
    """

    location: str
    took: float
    reason: str | None
    alarms: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.reason is None


async def health(
    store: AsyncSeenStore | SeenStore, *, within: Duration = 5.0
) -> Health:
    """Return whether a store answers a read and commits a real write, and why not.

    The write waits for its turn as every call does, and changes nothing that a verb
    shows. It never raises what the store raises: a store that is closed or cannot be
    reached is a reason.

    Args:
        store: An open store; a ``SeenStore`` is asked in a thread.
        within: After so long without an answer, the store does not work.

    Raises:
        TypeError: It is not a store.
        ValueError: The time is not above 0.
    """
    check_store(store)
    bound = seconds(within, "within")
    started = perf_counter()
    reason = None
    try:
        async with asyncio.timeout(bound):
            if isinstance(store, AsyncSeenStore):
                await store.probe()
            else:
                await to_thread.run_sync(store.probe, abandon_on_cancel=True)
    except TimeoutError:
        reason = f"{store.location}: {_silence(store.metrics(), bound)}"
    except SeenError as exc:
        reason = str(exc)
    took = perf_counter() - started
    return Health(store.location, took, reason, store.metrics().alarms)


def _silence(metrics: StoreMetrics, bound: float) -> str:
    """Return why there may be no answer in time, and what to do."""
    silence = f"no answer within {bound:g} seconds"
    if metrics.failing is not None:
        return f"{silence}: {metrics.failing}. Is the server running?"
    if metrics.backend in _LOCKING:
        return (
            f"{silence}: find out what blocks the database, such as another program's"
            " lock"
        )
    return f"{silence}: find out what blocks the database, such as a slow command"
