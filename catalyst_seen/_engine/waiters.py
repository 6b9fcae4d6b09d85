"""Callers that wait until a claimed key may be free, and what wakes them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..backends.operations import Confirm, ForEach, Forget, Hold, Mark, Release

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..backends.operations import Id, Operation

_PAGE = 100
"""Waiters that are woken before other tasks run."""


class Waiter:
    """One caller that waits for a key.

    Attributes:
        ended: Set when the claim on the key may have ended, or when this waiter has
            become the first one.
    """

    def __init__(self, queue: list[Waiter]) -> None:
        self.ended = asyncio.Event()
        self._queue = queue

    @property
    def is_first(self) -> bool:
        """Is it the one that polls, for all waiters of its key?"""
        return self._queue[0] is self


class KeyWaiters:
    """Wakes the callers that wait for a key when its claim may have ended.

    The waiters of a key form a queue. Only the first one polls the database; the others
    are woken, in order, by what this store does and by what the first one finds.

    Attributes:
        is_closing: True when the store is about to close: waiting is over.
        waiting: The waiters of each key, in the order of their arrival.
    """

    def __init__(self) -> None:
        self.is_closing: bool = False
        self.waiting: dict[Id, list[Waiter]] = {}

    @contextmanager
    def subscribe(self, id_: Id) -> Iterator[Waiter]:
        """Yield a waiter at the end of the queue of a key, for the block."""
        queue = self.waiting.setdefault(id_, [])
        waiter = Waiter(queue)
        queue.append(waiter)
        try:
            yield waiter
        finally:
            was_first = waiter.is_first
            queue.remove(waiter)
            if not queue:
                del self.waiting[id_]
            elif was_first or waiter.ended.is_set():
                # The next one polls now, or gets the wake-up that was not used.
                queue[0].ended.set()

    def notify(self, operations: Sequence[Operation[Any]]) -> None:
        """Wake the waiters of the keys that a batch may have made available."""
        for each in operations:
            operation = each.operation if isinstance(each, ForEach) else each
            if isinstance(operation, Release | Forget):  # only one waiter acquires it
                wake = self._wake_first
            elif isinstance(operation, Confirm | Hold | Mark):
                wake = self.wake_all
            else:
                continue
            for id_ in each.ids():
                wake(id_)

    def wake_all(self, id_: Id) -> None:
        """Wake every waiter of a key, in order, page by page."""
        self._wake_pages(iter(tuple(self.waiting.get(id_, ()))))

    def close(self) -> None:
        """Wake every waiter, because the store closes."""
        self.is_closing = True
        for queue in self.waiting.values():
            for waiter in queue:
                waiter.ended.set()

    def _wake_first(self, id_: Id) -> None:
        for waiter in self.waiting.get(id_, ())[:1]:
            waiter.ended.set()

    def _wake_pages(self, waiters: Iterator[Waiter]) -> None:
        page = list(islice(waiters, _PAGE))
        for waiter in page:
            waiter.ended.set()
        if len(page) == _PAGE:
            asyncio.get_running_loop().call_soon(self._wake_pages, waiters)
