"""How claims are taken: waited for, and given back if nobody learns of it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from ._backend import Release
from ._errors import OutcomeUnknownError, StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._backend import TakeClaim
    from ._model import ClaimState
    from ._sender import Sender

_FIRST_POLL, _LAST_POLL = 0.05, 1.0
"""Seconds between looks at what another process may have done to a key."""

_SHORTEST = 0.02
"""Seconds to wait for a lease that should have ended, by a clock that stands still."""


async def take(sender: Sender, claim: TakeClaim, wait: float) -> ClaimState:
    """Take a claim; if it is in flight, try again until ``wait`` seconds are over."""
    if not wait:
        (state,) = await take_all(sender, [claim])
        return state
    time = asyncio.get_running_loop().time
    end, poll = time() + wait, _FIRST_POLL
    with sender.watching((claim.namespace, claim.key)) as ended:
        while True:
            ended.clear()
            try:
                (state,) = await take_all(sender, [claim])
            except BaseException:
                ended.set()  # somebody else may have more luck
                raise
            left = end - time()
            if state.retry_after is None or left <= 0:
                return state
            jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
            pause = min(left, poll * jitter, max(state.retry_after, _SHORTEST))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await ended.wait()
            if sender.is_ending:
                return state
            poll = min(poll * 2, _LAST_POLL)


async def take_all(sender: Sender, claims: Sequence[TakeClaim]) -> list[ClaimState]:
    """Take claims in one batch; if nobody learns the answer, give them back."""
    try:
        return await sender.ask_all(claims)
    except asyncio.CancelledError:
        with suppress(StoreClosedError):
            sender.post(_releases(claims))
        raise
    except OutcomeUnknownError:
        with suppress(StoreClosedError):
            await asyncio.wait({sender.post(_releases(claims))})
        raise


def _releases(claims: Sequence[TakeClaim]) -> list[Release]:
    return [
        Release(claim.namespace, claim.key, claim.token, 0.0, claim.ttl)
        for claim in claims
    ]
