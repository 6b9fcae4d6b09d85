"""A batch of operations on its way to Redis and back."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import TryAgainError

from ..._errors import OutcomeUnknownError, SchemaError, StoreUnavailableError
from .._retry import TransientError, ambiguous, as_outcome_unknown
from .._state_machine import to_result
from ..base import BatchResult
from ..operations import Get
from . import script
from .errors import refused
from .pipeline import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._errors import SeenError
    from ..._types import Verdict
    from .._retry import ServerClock
    from ..operations import Operation
    from .cluster import Nodes
    from .pipeline import Word

_AT_ONCE = 1_000  # keys in a call of the script: Redis does nothing else meanwhile
_NONCE = 9  # random bytes: with its place, they tell a mark from every other one


@dataclass
class _Part:
    """The operations that go into one call of the script."""

    places: Sequence[int]
    command: Command
    may_be_done: bool = False

    @property
    def is_answered(self) -> bool:
        return self.command.reply is not None and not isinstance(
            self.command.reply, TransientError
        )


class Batch:
    """Operations, each of which the script carries out on its own.

    Attributes:
        is_change: Would it matter if they were carried out?
        verdicts: What each key was when its operation came, as far as that is known.
    """

    def __init__(
        self,
        operations: Sequence[Operation[object]],
        names: Sequence[bytes],
        nodes: Nodes,
        clock: ServerClock,
        *,
        location: str,
        replicas: int = 0,
    ) -> None:
        """Nothing is sent yet.

        Args:
            operations: What is to be done.
            names: The name of each one's key.
            nodes: Where the keys are.
            clock: The server's clock.
            location: The same for people.
            replicas: How many must have a change.
        """
        self.is_change = not all(isinstance(one, Get) for one in operations)
        self.verdicts: list[Verdict | None] = [None] * len(operations)
        self._operations = operations
        self._names = names
        self._nodes = nodes
        self._clock = clock
        self._location = location
        self._replicas = replicas if self.is_change else 0
        self._script = script.SCRIPT
        self._parts = [
            self._part(places, slot) for slot, places in _by_slot(names, nodes.slot)
        ]

    def _part(self, places: Sequence[int], slot: int) -> _Part:
        now = self._clock.override()
        words: list[Word] = [
            "EVALSHA",
            self._script.sha,
            len(places),
            *(self._names[place] for place in places),
            secrets.token_urlsafe(_NONCE),
            script.pack(self._operations[place] for place in places),
            "" if now is None else repr(now),
        ]
        return _Part(places, Command(words, slot))

    async def send(self) -> None:
        """Send what has not been answered.

        Raises:
            Broken: Something was not answered this time either.
        """
        parts = [part for part in self._parts if not part.is_answered]
        sent = self._clock.monotonic()
        commands = [part.command for part in parts]
        try:
            await self._nodes.send(commands, self._script, self._replicas)
        finally:
            failure = self._note(parts, sent)
        if failure:
            raise failure

    def _note(self, parts: Sequence[_Part], sent: float) -> TransientError | None:
        """Take note of what came back; return why something did not."""
        failure = None
        for part in parts:
            reply = part.command.reply
            if isinstance(reply, TryAgainError):
                reply = part.command.reply = TransientError(reply, maybe_applied=False)
                self._divide(part)
            if isinstance(reply, TransientError):
                was_done = reply.maybe_applied and self.is_change
                part.may_be_done = part.may_be_done or was_done
                if failure is None or reply.maybe_applied:
                    failure = reply
            elif isinstance(reply, bytes):
                self._clock.observe(script.time_of(reply), sent)
        return failure

    def _divide(self, part: _Part) -> None:
        """Send keys one by one while their slot moves: some are here, some are there.

        Nothing was carried out; and of one key Redis always knows where it is.
        """
        self._parts.remove(part)
        for place in part.places:
            single = self._part([place], part.command.slot)
            single.may_be_done = part.may_be_done
            self._parts.append(single)

    def applied(self, unanswered: SeenError | None = None) -> BatchResult:
        """Tell what became of it all.

        Args:
            unanswered: What became of the parts that never were.

        Raises:
            SeenError: Nothing was carried out.
        """
        size = len(self._operations)
        applied = BatchResult([None] * size, [None] * size, None)
        failures = [self._read(part, applied, unanswered) for part in self._parts]
        if failures and None not in failures:
            raise next(filter(None, failures))
        return applied

    def _read(
        self, part: _Part, applied: BatchResult, unanswered: SeenError | None
    ) -> SeenError | None:
        """Put what became of a part where it belongs; return why it failed."""
        reply = part.command.reply
        if not isinstance(reply, bytes):
            failure = unanswered
            if failure is None or part.is_answered:
                failure = refused(reply, self._location)
                failure.__cause__ = reply
            if part.may_be_done and isinstance(failure, StoreUnavailableError):
                failure = as_outcome_unknown(failure)
            for place in part.places:
                applied.results[place] = failure
            return failure
        now = script.time_of(reply)
        replicas = part.command.replicas or 0
        is_doubtful = part.may_be_done or replicas < self._replicas
        for place, (verdict, is_done, row, is_foreign) in zip(
            part.places, script.unpack(reply), strict=True
        ):
            operation = self._operations[place]
            self.verdicts[place] = verdict
            applied.rows[place] = row
            doubt = None
            if is_foreign:
                doubt = self._foreign(operation)
            elif is_doubtful:
                doubt = self._doubt(part, operation, is_done=is_done)
            applied.results[place] = doubt or to_result(
                operation, verdict, row, now, is_done=is_done
            )
        return None

    def _foreign(self, operation: Operation[object]) -> SeenError:
        return SchemaError(
            self._location,
            f"{operation.key!r} has the name of another program's key",
            "It is untouched; choose another prefix",
        )

    def _doubt(
        self, part: _Part, operation: Operation[object], *, is_done: bool
    ) -> SeenError | None:
        """Say why nobody knows whether it was done, or whether it lasts."""
        replicas = part.command.replicas or 0
        if is_done and replicas < self._replicas:
            return OutcomeUnknownError(
                self._location,
                f"{replicas} of {self._replicas} replicas have it",
                "Ask again when they are back; if the primary is lost before, it is",
            )
        if part.may_be_done and not is_done:
            return ambiguous(operation, self._location)
        return None


def _by_slot(
    names: Sequence[bytes], slot: Callable[[bytes], int]
) -> Iterator[tuple[int, list[int]]]:
    """Group the places of names by slot, in order, and not too many together."""
    of_slot: defaultdict[int, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        of_slot[slot(name)].append(place)
    for number, places in of_slot.items():
        for first in range(0, len(places), _AT_ONCE):
            yield number, places[first : first + _AT_ONCE]
