"""The claims on what is pending, one after the other."""

from __future__ import annotations

import secrets
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Self

from .._pause import pause
from ..backends.operations import Acquire
from .claim import Claim, abandon, released
from .lease import acquire

if TYPE_CHECKING:
    from .._engine.dispatcher import Dispatcher
    from .._types import OnAbandoned
    from ..backends.base import SupportsListings
    from ..backends.listings import Waiting
    from .retry import Retry

_PAGE = 100
"""Keys that are read at once; each is claimed when its step comes."""


class PendingClaims:
    """An asynchronous iterator over the claims on what is pending in a namespace.

    ``AsyncSeenStore.pending`` states what it promises.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        backend: SupportsListings,
        namespace: str,
        *,
        lease: float,
        on_abandoned: OnAbandoned,
        retry: Retry,
        keep_alive: bool,
        is_waiting: bool,
    ) -> None:
        """Created by a store; nothing is read yet."""
        self._dispatcher = dispatcher
        self._backend = backend
        self._namespace = namespace
        self._lease = lease
        self._on_abandoned = on_abandoned
        self._retry = retry
        self._keep_alive = keep_alive
        self._is_waiting = is_waiting
        self._page: deque[Waiting] = deque()
        self._after = -1
        self._last: Claim | None = None
        self._is_running = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Claim:
        if self._is_running:
            raise RuntimeError(
                "this iteration is in use by another task: call pending() in each"
            )
        self._is_running = True
        try:
            await self._check_last()
            while await self._has_page():
                claim = await self._claim(self._page.popleft())
                if claim:
                    self._last = claim
                    return claim
        finally:
            self._is_running = False
        raise StopAsyncIteration

    def __del__(self) -> None:
        self.leave()

    def leave(self) -> bool:
        """Release the last claim, if nothing has ended it; return whether that was so.

        It is no attempt: nobody has handled the item.
        """
        last, self._last = self._last, None
        return last is not None and abandon(last)

    async def _check_last(self) -> None:
        """Raise if the body of the loop did not end the claim that it got."""
        last = self._last
        if self.leave() and last is not None:
            await released(last)
            raise RuntimeError(
                f"the claim on {last.key!r} was neither confirmed nor released: write"
                " `async with claim:` in the loop. It is released, and the key is"
                " pending"
            )

    async def _has_page(self) -> bool:
        """Read the next page with a key, if there is none; false at the end."""
        lifecycle, tuning = self._dispatcher.lifecycle, self._dispatcher.tuning
        while not self._page:
            if self._is_waiting and self._dispatcher.waiters.is_closing:
                return False
            read = partial(self._backend.waiting, self._namespace, limit=_PAGE)
            page = await lifecycle.read("pending", partial(read, after=self._after))
            self._page.extend(page.keys)
            if page.keys:
                self._after = page.keys[-1].seq
            elif page.cursor is not None:
                self._after = page.cursor
            elif not self._is_waiting:
                return False
            else:
                self._after = -1
                rest = min(page.retry_after or tuning.last_poll, tuning.last_poll)
                await pause(max(rest, tuning.first_poll))
        return True

    async def _claim(self, waiting: Waiting) -> Claim | None:
        """Claim a key; ``None`` if another caller was faster."""
        is_last = self._retry.is_last(waiting.attempt + 1)
        operation = Acquire(
            namespace=self._namespace,
            key=waiting.key,
            token=secrets.token_urlsafe(12),
            lease=self._lease,
            ttl=None,  # a key that was observed has none
            on_abandoned="hold" if is_last else self._on_abandoned,
        )
        state = await acquire(self._dispatcher, operation, 0.0, is_counted=False)
        if not state.verdict:
            return None
        return Claim(
            self._dispatcher.engine,
            operation,
            state,
            keep_alive=self._keep_alive,
            retry=self._retry,
        )
