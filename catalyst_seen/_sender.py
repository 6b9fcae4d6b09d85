"""The way from the verbs to the backend: every operation goes through here."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._backend import Answer_co, Operation
    from ._session import Session


class Sender:
    """Sends batches of operations and counts them.

    Attributes:
        session: The open store that they go to.
        sent: How many operations were carried out, by verb.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sent: Counter[str] = Counter()

    async def send(self, operations: Sequence[Operation[Answer_co]]) -> list[Answer_co]:
        """Send a batch of operations of one kind; an empty one goes nowhere."""
        if not operations:
            self.session.check_open()
            return []
        return await self.session.call(partial(self._apply, operations))

    async def _apply(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> list[Answer_co]:
        answers = await self.session.backend.apply(operations)
        self.sent[operations[0].verb] += len(operations)
        return cast("list[Answer_co]", answers)
