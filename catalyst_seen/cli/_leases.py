"""A claim on which a command runs that must not be ended if the store is away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from catalyst_seen import Claim, LeaseLostError, StoreError

from .._pause import pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_RENEWALS, _RETRIES = 3, 10
_PATIENCE = (1.0, 2.0, 4.0, 8.0)


@asynccontextmanager
async def renewed(
    claim: Claim, lease: float, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Renew a claim while a block runs; say it, once, if it is lost."""
    renewing = asyncio.create_task(_renew(claim, lease, say))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})


async def _renew(claim: Claim, lease: float, say: Callable[[str], None]) -> None:
    is_failing = False
    while True:
        await pause(lease / (_RETRIES if is_failing else _RENEWALS))
        try:
            await claim.renew()
            is_failing = False
        except LeaseLostError as exc:
            return say(f"the command goes on, although {exc}")
        except StoreError as exc:
            if not is_failing:
                say(f"the lease is not renewed: {exc}")
            is_failing = True


async def confirmed(claim: Claim) -> None:
    """Confirm a claim, with patience: else its work would be done again.

    Raises:
        LeaseLostError: Another process has taken it.
        StoreError: The store was away for too long.
    """
    for backoff in _PATIENCE:
        try:
            return await claim.confirm()
        except StoreError:
            await pause(backoff)
    return await claim.confirm()
