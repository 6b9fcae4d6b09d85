"""Execution of commands as one pipeline over one connection.

The pipelines of redis-py report neither whether a command was sent before its
connection broke nor how many replicas have acknowledged a write. Nothing is retried
here: a broken connection becomes a ``TransientError``, and ``backends/_retry.py``
retries.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MaxConnectionsError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .._retry import TransientError
from .errors import advice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from redis.asyncio.connection import AbstractConnection

    from .script import Script

REPLICA_TIMEOUT = 1.0
"""Seconds that replicas have to acknowledge a change."""

PERMANENT_ERRORS = (AuthenticationError, AuthorizationError)
"""Errors that a retry cannot mend, although redis-py counts them to the next ones."""

TRANSIENT_ERRORS = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)
"""Errors of a connection, that a retry may mend."""

_ELSEWHERE = "to access a non local key"

Arg = bytes | str | int


@dataclass
class Command:
    """A command and its reply.

    Attributes:
        args: The name of the command and its arguments.
        slot: The hash slot of its keys in a cluster.
        reply: The server's reply, or the exception that stands for a missing one.
        replicas: Number of replicas that have acknowledged it, if that was requested.
        ask_redirect: The redirection of a slot in migration, valid for the next
            attempt only.
    """

    args: list[Arg]
    slot: int = 0
    reply: Any = None
    replicas: int | None = None
    ask_redirect: AskError | None = None


async def execute(
    connecting: AbstractAsyncContextManager[AbstractConnection],
    args: Sequence[Arg],
    timeout: float | None = None,
) -> Any:
    """Execute one command and return its reply.

    Raises:
        TransientError: The connection failed.
        ResponseError: The server refused the command.
    """
    command = Command(list(args))
    await execute_pipeline(connecting, [command], None, 0, timeout)
    if isinstance(command.reply, Exception):
        raise command.reply
    return command.reply


async def execute_pipeline(
    connecting: AbstractAsyncContextManager[AbstractConnection],
    commands: Sequence[Command],
    script: Script | None,
    replicas: int,
    timeout: float | None = None,
) -> None:
    """Execute commands over one connection; a failure is stored as the reply.

    Args:
        connecting: Acquires the connection, and releases it.
        commands: The commands, in order.
        script: The script that they call; it is loaded if the server does not have it.
        replicas: Number of replicas that must acknowledge the commands.
        timeout: Seconds without a connection or a reply after which the connection
            counts as broken; that of the connection may be shorter.
    """
    maybe_applied = False
    failure: Exception | None = None
    for command in commands:
        command.reply = command.replicas = None
    try:
        async with _Stall(timeout) as stall, connecting as connection:
            maybe_applied = True
            try:
                await _execute_loading_script(
                    connection, commands, script, replicas, stall
                )
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
    except (*PERMANENT_ERRORS, ResponseError) as exc:
        failure = exc
    except TRANSIENT_ERRORS as exc:
        failure = _transient(exc, maybe_applied=maybe_applied)
    for command in commands:
        if command.reply is None:
            command.reply = failure


def as_transient(reply: Exception) -> TransientError | None:
    """Return the error of a script call whose slot moves to another node right now.

    ``None`` if the reply is another error. Keys that a call declares are checked before
    it begins, and those of a source when the first of them is needed: what the call has
    done before that is done.
    """
    if isinstance(reply, TransientError):
        return reply
    if isinstance(reply, TryAgainError):
        return TransientError(reply, maybe_applied=False)
    if isinstance(reply, ResponseError) and _ELSEWHERE in str(reply):
        return TransientError(reply, maybe_applied=True)
    return None


def _transient(exc: Exception, *, maybe_applied: bool) -> TransientError:
    if isinstance(exc, MaxConnectionsError):
        return TransientError(exc, maybe_applied=False, advice=advice(exc))
    return TransientError(
        exc, maybe_applied=maybe_applied and not isinstance(exc, BusyLoadingError)
    )


async def _execute_loading_script(
    connection: AbstractConnection,
    commands: Sequence[Command],
    script: Script | None,
    replicas: int,
    stall: _Stall,
) -> None:
    await _send_and_read(connection, commands, replicas, stall)
    unloaded = [
        command for command in commands if isinstance(command.reply, NoScriptError)
    ]
    if unloaded and script:
        await connection.send_command("SCRIPT", "LOAD", script.text)
        loaded = await _read_reply(connection)
        if isinstance(loaded, Exception):
            for command in unloaded:
                command.reply = loaded
            return
        await _send_and_read(connection, unloaded, replicas, stall)


async def _send_and_read(
    connection: AbstractConnection,
    commands: Sequence[Command],
    replicas: int,
    stall: _Stall,
) -> None:
    sent: list[Sequence[Arg]] = []
    for command in commands:
        if command.ask_redirect:
            sent.append(("ASKING",))
        sent.append(command.args)
    if replicas:
        sent.append(("WAIT", replicas, _wait_milliseconds(connection, stall.timeout)))
    # Else a connection that breaks here would leave the errors of an unloaded script.
    for command in commands:
        command.reply = command.replicas = None
    await connection.send_packed_command(list(map(_pack, sent)))
    for command in commands:
        asking = await _read_reply(connection) if command.ask_redirect else None
        reply = await _read_reply(connection)
        stall.restart()
        command.reply = asking if isinstance(asking, Exception) else reply
    if replicas:
        acknowledged = await connection.read_response()
        for command in commands:
            command.replicas = int(acknowledged)


def _pack(args: Sequence[Arg]) -> bytes:
    """Encode a command, in a third of the time that redis-py takes for many keys."""
    encoded = [one if type(one) is bytes else str(one).encode() for one in args]
    packed = [b"$%d\r\n%b\r\n" % (len(one), one) for one in encoded]
    return b"*%d\r\n" % len(packed) + b"".join(packed)


async def _read_reply(connection: AbstractConnection) -> Any:
    try:
        reply = await connection.read_response(disable_decoding=True)
    except ResponseError as exc:
        is_down = isinstance(exc, ClusterDownError)
        return TransientError(exc, maybe_applied=False) if is_down else exc
    return reply


def _wait_milliseconds(connection: AbstractConnection, timeout: float | None) -> int:
    """Return the timeout of ``WAIT``, which is shorter than those of its reply."""
    limits = filter(None, (timeout, getattr(connection, "socket_timeout", None)))
    return int(1_000 * min(REPLICA_TIMEOUT, *(limit / 2 for limit in limits)))


class _Stall:
    """Raises ``TimeoutError`` if its block makes no progress for ``timeout``.

    A timeout of the whole block would fail a large batch on a busy server.
    """

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._limit = asyncio.timeout(timeout)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._limit.__aexit__(exc_type, exc, traceback)

    def restart(self) -> None:
        """Restart the timeout: a reply has come."""
        if self.timeout is not None and not self._limit.expired():
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(now + self.timeout)
