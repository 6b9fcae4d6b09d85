"""Callers that wait until a claimed key may be free, and what wakes them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..backends.operations import Confirm, Forget, Mark, Release

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..backends.operations import Id, Operation


class KeyWaiters:
    """Wakes the callers that wait for a key when this store may have ended its claim.

    Attributes:
        is_closing: True when the store is about to close: waiting is over.
        waiting: The events of the waiters of each key.
    """

    def __init__(self) -> None:
        self.is_closing: bool = False
        self.waiting: dict[Id, list[asyncio.Event]] = {}

    @contextmanager
    def subscribe(self, id_: Id) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the claim on a key may have ended."""
        event = asyncio.Event()
        self.waiting.setdefault(id_, []).append(event)
        try:
            yield event
        finally:
            self.waiting[id_].remove(event)
            if event.is_set():  # a wake-up that was not used passes to the next waiter
                self._wake(id_, 1)
            if not self.waiting[id_]:
                del self.waiting[id_]

    def notify(self, operations: Sequence[Operation[Any]]) -> None:
        """Wake the waiters of the keys that a batch may have made available."""
        for operation in operations:
            id_ = operation.namespace, operation.key
            if isinstance(operation, Release):  # only one waiter can acquire it
                self._wake(id_, 1)
            elif isinstance(operation, Confirm | Mark | Forget):
                self._wake(id_)

    def close(self) -> None:
        """Wake every waiter, because the store closes."""
        self.is_closing = True
        for id_ in self.waiting:
            self._wake(id_)

    def _wake(self, id_: Id, most: int | None = None) -> None:
        for event in self.waiting.get(id_, [])[:most]:
            event.set()
