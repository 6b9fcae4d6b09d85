"""The way from the verbs to the backend: every operation goes through here."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from ._backend import Confirm, Forget, Mark, Release
from ._batcher import Batcher
from ._errors import StoreUnavailableError
from ._log import log
from ._recent import Recent
from ._rules import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._backend import Answer_co, Id, Operation, Question
    from ._batcher import Call
    from ._config import SeenStoreConfig
    from ._session import Session

_CHUNK = 1_000  # keys that are answered from memory before others get a turn
_verb = attrgetter("verb")


class Sender:
    """Sends operations, counts them, and tells who waits for their keys.

    Attributes:
        session: The open store that they go to.
        recent: The keys that are known to be seen.
        batcher: What makes batches of them.
        sent: How many operations were carried out, by verb.
        is_ending: Is the store about to close, so that nobody should wait for a key?
    """

    def __init__(self, session: Session, config: SeenStoreConfig) -> None:
        self.session = session
        self.sent: Counter[str] = Counter()
        self.is_ending: bool = False
        self.recent: Recent = Recent(
            config.recent_keys,
            seconds(config.recent_staleness, "recent_staleness", least=0),
            session.backend.now,
            session.backend.database,
        )
        self.batcher: Batcher = Batcher(session, self._apply, config.max_in_flight)
        self._watchers: dict[Id, list[asyncio.Event]] = {}

    async def send(self, operation: Operation[Answer_co]) -> Answer_co:
        """Send one operation."""
        self.session.check_open()
        (answer,) = await self.batcher.send([operation])
        return answer

    async def send_all(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> list[Answer_co]:
        """Send a batch; an empty one goes nowhere."""
        self.session.check_open()
        return await self.batcher.send(operations) if operations else []

    async def ask(self, question: Question[Answer_co]) -> Answer_co:
        """Send what asks for a key, unless it is known that the key is seen."""
        self.session.check_open()
        answer = self.recent.answer(question)
        if answer is None:
            (answer,) = await self.batcher.send([question])
        elif not self.recent.hits % _CHUNK:
            await asyncio.sleep(0)  # it might never end
        return answer

    async def ask_all(
        self, questions: Sequence[Question[Answer_co]]
    ) -> list[Answer_co]:
        """Send what asks for keys, but for those that are known to be seen."""
        if len(questions) == 1:
            return [await self.ask(questions[0])]
        self.session.check_open()
        known: list[Answer_co | None] = []
        for first in range(0, len(questions), _CHUNK):
            if first:
                await asyncio.sleep(0)
            known += map(self.recent.answer, questions[first : first + _CHUNK])
        if None not in known:
            return cast("list[Answer_co]", known)
        unknown = [
            question
            for question, answer in zip(questions, known, strict=True)
            if answer is None
        ]
        answers = iter(await self.batcher.send(unknown))
        return [next(answers) if answer is None else answer for answer in known]

    def see_through(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> Call[Answer_co]:
        """Send a batch that is sent even if nobody waits for it any more.

        A store that is closing lets it through, and waits for it.
        """
        self.session.check_open(or_closing=True)
        return self.batcher.put(operations)

    def leave(
        self,
        answered: asyncio.Future[list[Answer_co]],
        operations: Sequence[Operation[Answer_co]],
    ) -> None:
        """Wait no longer for a batch that goes on; if it fails, that is logged."""

        def report(answered: asyncio.Future[list[Answer_co]]) -> None:
            error = None if answered.cancelled() else answered.exception()
            if error is not None:
                log(
                    "warning",
                    f"{operations[0].verb}_failed",
                    location=self.session.backend.location,
                    keys=len(operations),
                    error=str(error),
                )

        answered.add_done_callback(report)

    def post(
        self, operations: Sequence[Operation[Answer_co]]
    ) -> asyncio.Task[list[Answer_co]]:
        """End claims for somebody who cannot try again: if need be, try it twice."""
        first = self.see_through(operations)

        async def try_twice() -> list[Answer_co]:
            try:
                return await first.answered
            except StoreUnavailableError:
                return await self.see_through(operations).answered

        posted = self.session.see_through(try_twice())
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

    async def _apply(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        sent = self.recent.moment()
        try:
            applied = await self.session.backend.apply(operations, look=sent.is_due)
            try:
                await self.recent.learn(operations, applied, sent)
            finally:
                self._tell(operations)
        except BaseException:
            self.recent.drop(operations)
            raise
        return applied.answers

    def _tell(self, operations: Sequence[Operation[Any]]) -> None:
        """Count what was carried out, and wake who waits for these keys."""
        self.sent.update(map(_verb, operations))
        if self._watchers:
            for operation in operations:
                id_ = (operation.namespace, operation.key)
                if isinstance(operation, Release):  # only one of them can have it
                    self._wake(id_, 1)
                elif isinstance(operation, Confirm | Mark | Forget):
                    self._wake(id_)

    def _wake(self, id_: Id, most: int | None = None) -> None:
        for ended in self._watchers.get(id_, [])[:most]:
            ended.set()
