"""The way from the verbs to the backend: every operation goes through here."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from ._backend import Confirm, Forget, Mark, Release
from ._log import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._backend import Answer_co, Operation
    from ._session import Session

Id = tuple[str, str]

_ENDS_A_CLAIM = (Confirm, Release, Mark, Forget)


class Sender:
    """Sends batches of operations, each of one kind, and counts them.

    Attributes:
        session: The open store that they go to.
        sent: How many operations were carried out, by verb.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sent: Counter[str] = Counter()
        self._watchers: dict[Id, set[asyncio.Event]] = {}

    async def send(self, operations: Sequence[Operation[Answer_co]]) -> list[Answer_co]:
        """Send a batch; an empty one goes nowhere."""
        return await self.session.call(partial(self._apply, operations))

    async def send_surely(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> list[Answer_co]:
        """The same, but a caller that is cancelled does not keep it from being done."""
        sending = self.session.see_through(partial(self._apply, operations))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            sending.add_done_callback(partial(self._report, operations))
            raise

    def post(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> asyncio.Task[list[Answer_co]]:
        """The same for a caller that asks for no answer; a failure is logged."""
        sending = self.session.see_through(partial(self._apply, operations))
        sending.add_done_callback(partial(self._report, operations))
        return sending

    @contextmanager
    def watching(self, id_: Id) -> Iterator[asyncio.Event]:
        """Give an event that is set when this store may have ended a claim."""
        ended = asyncio.Event()
        watchers = self._watchers.setdefault(id_, set())
        watchers.add(ended)
        try:
            yield ended
        finally:
            watchers.remove(ended)
            if not watchers:
                del self._watchers[id_]

    async def _apply(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> list[Answer_co]:
        if not operations:
            return []
        answers = await self.session.backend.apply(operations)
        self.sent[operations[0].verb] += len(operations)
        if self._watchers and isinstance(operations[0], _ENDS_A_CLAIM):
            for operation in operations:
                id_ = (operation.namespace, operation.key)
                for ended in self._watchers.get(id_, ()):
                    ended.set()
        return cast("list[Answer_co]", answers)

    def _report(
        self,
        operations: Sequence[Operation[Answer_co]],
        sent: asyncio.Task[list[Answer_co]],
    ) -> None:
        error = None if sent.cancelled() else sent.exception()
        if error is not None:
            log(
                "warning",
                f"{operations[0].verb}_failed",
                location=self.session.backend.location,
                keys=len(operations),
                error=str(error),
            )
