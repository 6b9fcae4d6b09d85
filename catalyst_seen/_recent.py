"""Recent sightings: keys known to be seen, so that asking again costs no hop.

Only what is seen is remembered, and only as the database told it. Another program may
forget a key: so the memory counts only for so long after the last look at the database,
and is dropped when that look shows that somebody else has written to it.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, cast
from weakref import WeakValueDictionary

from ._backend import Forget
from ._state import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._backend import Answer_co, Applied, Id, Operation, Question, Row

_LOOKS = 4  # at the database, in the time for which the memory counts after one
_CHUNK = 1_000  # rows that are learnt without letting others have a turn


class _Place:
    """A database that stores of this process share; who forgets there changes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.state = object()


_places: WeakValueDictionary[str, _Place] = WeakValueDictionary()
_placing = threading.Lock()


class Moment(NamedTuple):
    """When a batch was sent, what this process had forgotten, and is a look due?"""

    time: float
    state: object
    is_due: bool


class Recent:
    """A bounded memory of seen keys: two generations, of which the older one goes.

    Attributes:
        hits: How many questions it answered.
    """

    def __init__(
        self, size: int, staleness: float, now: Callable[[], float], database: str
    ) -> None:
        """Begin with nothing.

        Args:
            size: The most keys to remember.
            staleness: Seconds after the last look at the database in which the memory
                counts; 0 switches it off.
            now: Tells the backend's time.
            database: Where the keys are; the same for all that have them in common.
        """
        self.hits: int = 0
        self._generation = size // 2 if staleness else 0
        self._staleness = staleness
        self._now = now
        self._young: dict[Id, Row] = {}
        self._old: dict[Id, Row] = {}
        self._version: object = None
        self._looked = -math.inf
        with _placing:
            self._place = _places.setdefault(database, _Place())
        self._state = self._place.state

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def answer(self, question: Question[Answer_co]) -> Answer_co | None:
        """Answer what asks for a seen key; ``None`` means "ask the database"."""
        id_ = question.namespace, question.key
        row = self._young.get(id_) or self._old.get(id_)
        if row is None:
            return None
        if time.monotonic() - self._looked > self._staleness:
            return None
        if self._state is not self._place.state:
            self._clear()
            return None
        now = self._now()
        if row.expires_at is not None and row.expires_at <= now:
            return None
        if id_ not in self._young:
            self._remember(id_, row)
        self.hits += 1
        return cast("Answer_co", step(row, question, now)[0])

    def moment(self) -> Moment:
        """Note when a batch is sent, for ``learn``."""
        now = time.monotonic()
        is_due = self._generation > 0 and now - self._looked > self._staleness / _LOOKS
        return Moment(now, self._place.state, is_due)

    async def learn(
        self, operations: Sequence[Operation[object]], applied: Applied, sent: Moment
    ) -> None:
        """Remember what a batch left behind."""
        if applied.version is not None:
            if applied.version != self._version:
                self._clear()
            self._version, self._looked = applied.version, sent.time
        if self._state is not self._place.state:
            self._clear()
        if self._state is not sent.state or not self._generation:
            self.drop(operations)
            return
        state = self._state
        for first in range(0, len(operations), _CHUNK):
            if first:
                await asyncio.sleep(0)
                if self._place.state is not state:  # others have forgotten meanwhile
                    self.drop(operations[first:])
                    return
            chunk = slice(first, first + _CHUNK)
            self._learn(operations[chunk], applied.rows[chunk])
            state = self._state

    def _learn(
        self, operations: Sequence[Operation[object]], rows: Sequence[Row | None]
    ) -> None:
        others = []
        for operation, row in zip(operations, rows, strict=True):
            if row is not None and row.lease_until is None:
                self._remember((operation.namespace, operation.key), row)
            else:
                others.append(operation)
        if others:
            self.drop(others)

    def drop(self, operations: Iterable[Operation[object]]) -> None:
        """Know nothing any more of the keys of a batch: nobody knows what it did."""
        for operation in operations:
            id_ = operation.namespace, operation.key
            self._young.pop(id_, None)
            self._old.pop(id_, None)
        self._tell(operations)

    def clear(self) -> None:
        """Know nothing any more, in any store of this process on this database."""
        with self._place.lock:
            self._place.state = object()

    def _tell(self, operations: Iterable[Operation[object]]) -> None:
        """Let other stores of this process drop what they know, if keys were forgotten.

        This one knows which; unless others have forgotten some as well.
        """
        if any(isinstance(operation, Forget) for operation in operations):
            with self._place.lock:
                is_known = self._state is self._place.state
                self._place.state = object()
                if is_known:
                    self._state = self._place.state

    def _remember(self, id_: Id, row: Row) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[id_] = row

    def _clear(self) -> None:
        self._state = self._place.state
        self._young, self._old = {}, {}
