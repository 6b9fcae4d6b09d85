"""The way from the verbs to the backend: every operation goes through here."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from ._backend import Confirm, Forget, Mark, Release
from ._errors import StoreUnavailableError
from ._log import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._backend import Answer_co, Operation
    from ._session import Session

Id = tuple[str, str]


class Sender:
    """Sends batches of operations, each of one kind, and counts them.

    Attributes:
        session: The open store that they go to.
        sent: How many operations were carried out, by verb.
        is_ending: Is the store about to close, so that nobody should wait for a key?
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sent: Counter[str] = Counter()
        self.is_ending: bool = False
        self._watchers: dict[Id, list[asyncio.Event]] = {}

    async def send(self, operations: Sequence[Operation[Answer_co]]) -> list[Answer_co]:
        """Send a batch; an empty one goes nowhere."""
        return await self.session.call(partial(self._apply, operations))

    def see_through(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> asyncio.Task[list[Answer_co]]:
        """Send a batch in a task that goes on when its caller is cancelled."""
        return self.session.see_through(partial(self._apply, operations))

    def leave(
        self,
        sending: asyncio.Task[list[Answer_co]],
        operations: Sequence[Operation[Answer_co]],
    ) -> None:
        """Wait no longer for a batch that goes on; if it fails, that is logged."""

        def report(sent: asyncio.Task[list[Answer_co]]) -> None:
            error = None if sent.cancelled() else sent.exception()
            if error is not None:
                log(
                    "warning",
                    f"{operations[0].verb}_failed",
                    location=self.session.backend.location,
                    keys=len(operations),
                    error=str(error),
                )

        sending.add_done_callback(report)

    def post(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> asyncio.Task[list[Answer_co]]:
        """End claims for somebody who cannot try again: if need be, try it twice."""

        async def apply() -> list[Answer_co]:
            try:
                return await self._apply(operations)
            except StoreUnavailableError:
                return await self._apply(operations)

        posted = self.session.see_through(apply)
        self.leave(posted, operations)
        return posted

    @contextmanager
    def watching(self, id_: Id) -> Iterator[asyncio.Event]:
        """Give an event that is set when this store may have ended a claim."""
        ended = asyncio.Event()
        self._watchers.setdefault(id_, []).append(ended)
        try:
            yield ended
        finally:
            self._watchers[id_].remove(ended)
            if ended.is_set():  # and not used: then it is the next one's
                self._wake(id_, 1)
            if not self._watchers[id_]:
                del self._watchers[id_]

    def end_waiting(self) -> None:
        """Wake everybody who waits for a key: the store closes."""
        self.is_ending = True
        for id_ in self._watchers:
            self._wake(id_)

    async def _apply(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> list[Answer_co]:
        if not operations:
            return []
        answers = await self.session.backend.apply(operations)
        self.sent[operations[0].verb] += len(operations)
        if self._watchers:
            for operation in operations:
                id_ = (operation.namespace, operation.key)
                if isinstance(operation, Release):  # only one of them can have it
                    self._wake(id_, 1)
                elif isinstance(operation, Confirm | Mark | Forget):
                    self._wake(id_)
        return cast("list[Answer_co]", answers)

    def _wake(self, id_: Id, most: int | None = None) -> None:
        for ended in self._watchers.get(id_, [])[:most]:
            ended.set()
