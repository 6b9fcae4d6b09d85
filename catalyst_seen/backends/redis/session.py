"""Requests to the servers of an open store, with retries and translated errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..._errors import StoreError
from .batch import Batch
from .errors import not_replicated, translated_errors
from .pipeline import Command, as_transient
from .replies import server_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .._retry import RetryingChannel, ServerClock
    from ..base import BatchResult
    from ..operations import Operation
    from .cluster import Topology
    from .pipeline import Arg
    from .replies import KeyReply
    from .runs import Names
    from .script import Script

T = TypeVar("T")


class Session:
    """The servers of a store, from its open to its close."""

    def __init__(
        self,
        topology: Topology,
        channel: RetryingChannel,
        clock: ServerClock,
        replicas: int,
    ) -> None:
        """Use the servers.

        Args:
            topology: The servers.
            channel: Sends the requests, one after the other, and retries them.
            clock: The estimate of the servers' time.
            replicas: Number of replicas that must acknowledge a change.
        """
        self.topology = topology
        self.channel = channel
        self.clock = clock
        self.location: str = channel.location
        self._replicas = replicas

    async def execute(
        self,
        operations: Sequence[Operation[object]],
        names: Sequence[Names],
        timeout: float | None = None,
    ) -> BatchResult:
        """Execute operations on Redis keys, a ``ForEach`` on the keys of a list.

        Raises:
            SeenError: All of them failed.
        """
        batch = self.batch(operations, names, self._replicas)
        return await self._send(batch, timeout)

    async def ask(
        self,
        operations: Sequence[Operation[object]],
        names: Sequence[Names],
        *,
        is_replicated: bool = True,
    ) -> list[KeyReply]:
        """Execute operations on Redis keys, all of them, and return the replies.

        Args:
            operations: The operations.
            names: The Redis key of each.
            is_replicated: Must the replicas that the settings demand acknowledge a
                change?

        Raises:
            StoreError: One of them failed. A key of another program is no failure.
        """
        if not operations:
            return []
        replicas = self._replicas if is_replicated else 0
        batch = self.batch(operations, names, replicas)
        result = await self._send(batch, None)
        for one in result.results:
            if isinstance(one, StoreError):
                raise one
        return [reply for reply in batch.replies if reply is not None]

    async def command(self, primary: str, *args: Arg) -> Any:
        """Execute one command on one primary, which changes nothing."""
        execute = self.topology.execute
        return await self.request(
            lambda timeout: execute(primary, *args, timeout=timeout)
        )

    async def primaries(self) -> list[str]:
        """Return the names of the primaries, sorted."""
        return await self.request(lambda _: self.topology.primaries())

    async def request(
        self,
        send: Callable[[float], Awaitable[T]],
        *,
        is_change: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Send a request, with retries, and translate the error of the last one.

        Args:
            send: Sends the request once; its argument is the timeout of the attempt.
            is_change: Whether the request changes a key.
            timeout: As of ``apply``.
        """
        with translated_errors(self.location):
            return await self.channel.request(
                lambda attempt: send(attempt.timeout),
                is_change=is_change,
                timeout=timeout,
            )

    async def call(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[bytes], Sequence[Arg]]],
        *,
        is_change: bool = False,
    ) -> list[bytes]:
        """Call a script, and return its replies, each without the time it begins with.

        Args:
            script: The script.
            calls: Redis keys, and arguments; the third one will be the time.
            is_change: Whether a call changes a key. Then it can be repeated.

        Raises:
            OutcomeUnknownError: It is not replicated as the settings demand.
        """
        replicas = self._replicas if is_change else 0
        topology = self.topology
        made = [
            Command(
                ["EVALSHA", script.sha, len(names), *names, *args],
                topology.slot(names[0]),
            )
            for names, args in calls
        ]

        async def send(timeout: float) -> None:
            override = self.clock.override()
            for command, (names, _) in zip(made, calls, strict=True):
                command.args[5 + len(names)] = (
                    "" if override is None else repr(override)
                )
            sent = self.clock.monotonic()
            await topology.send(made, script, replicas, timeout)
            for command in made:
                if not isinstance(command.reply, bytes):
                    raise as_transient(command.reply) or command.reply
                self.clock.observe(server_time(command.reply), sent)

        await self.request(send, is_change=is_change)
        acknowledged = min((command.replicas or 0 for command in made), default=0)
        if acknowledged < replicas:
            raise not_replicated(self.location, acknowledged, replicas)
        return [command.reply for command in made]

    def batch(
        self,
        operations: Sequence[Operation[object]],
        names: Sequence[Names],
        replicas: int,
    ) -> Batch:
        """Return a batch that is not sent yet."""
        return Batch(
            operations,
            names,
            self.topology,
            self.clock,
            location=self.location,
            replicas=replicas,
        )

    async def _send(self, batch: Batch, timeout: float | None) -> BatchResult:
        failure = None
        try:
            await self.request(batch.send, is_change=batch.is_change, timeout=timeout)
        except StoreError as exc:
            failure = exc  # of some script calls; the others have their results
        return batch.result(failure)
