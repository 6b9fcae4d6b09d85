"""A pipeline of commands over one connection, and what became of each.

redis-py's own pipelines do not tell what was sent when a connection broke, nor how many
replicas have what was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .._retry import TransientError
from .errors import advice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio.connection import AbstractConnection

    from .script import Script

WAIT = 1.0
"""Seconds that replicas have to take over a change."""

REFUSED = (AuthenticationError, AuthorizationError)
"""What another attempt would not change."""

BROKEN = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)
"""What it may."""

Word = bytes | str | int


@dataclass
class Command:
    """A command, and what became of it.

    Attributes:
        words: The command.
        slot: Which of a cluster's slots it is about.
        reply: What the server answered, or an exception that says why it did not.
        replicas: How many replicas have it, if that was asked.
        detour: Where its server has sent it, this once: it gives the slot away.
    """

    words: Sequence[Word]
    slot: int = 0
    reply: Any = None
    replicas: int | None = None
    detour: AskError | None = None


async def call(
    connected: AbstractAsyncContextManager[AbstractConnection], words: Sequence[Word]
) -> Any:
    """Let the server at the other end carry out one command.

    Raises:
        Broken: It did not answer.
        ResponseError: It refused.
    """
    command = Command(words)
    await pipe(connected, [command], None, 0)
    if isinstance(command.reply, Exception):
        raise command.reply
    return command.reply


async def pipe(
    connected: AbstractAsyncContextManager[AbstractConnection],
    commands: Sequence[Command],
    script: Script | None,
    replicas: int,
) -> None:
    """Send commands over one connection; what is not answered says why in its reply."""
    maybe_applied = False
    failure: Exception | None = None
    for command in commands:
        command.reply = command.replicas = None
    try:
        async with connected as connection:
            maybe_applied = True
            try:
                await _talk(connection, commands, script, replicas)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
    except (*REFUSED, ResponseError) as exc:
        failure = exc
    except BROKEN as exc:
        failure = _broken(exc, maybe_applied=maybe_applied)
    for command in commands:
        if command.reply is None:
            command.reply = failure


def _broken(exc: Exception, *, maybe_applied: bool) -> TransientError:
    if isinstance(exc, MaxConnectionsError):
        return TransientError(exc, maybe_applied=False, advice=advice(exc))
    return TransientError(
        exc, maybe_applied=maybe_applied and not isinstance(exc, BusyLoadingError)
    )


async def _talk(
    connection: AbstractConnection,
    commands: Sequence[Command],
    script: Script | None,
    replicas: int,
) -> None:
    await _ask(connection, commands, replicas)
    unloaded = [
        one for one in commands if isinstance(one.reply, NoScriptError)
    ]
    if unloaded and script:
        await connection.send_command("SCRIPT", "LOAD", script.text)
        loaded = await _read(connection)
        if isinstance(loaded, Exception):
            for command in unloaded:
                command.reply = loaded
            return
        await _ask(connection, unloaded, replicas)


async def _ask(
    connection: AbstractConnection, commands: Sequence[Command], replicas: int
) -> None:
    sent: list[Sequence[Word]] = []
    for command in commands:
        if command.detour:
            sent.append(("ASKING",))
        sent.append(command.words)
    if replicas:
        sent.append(("WAIT", replicas, _patience(connection)))
    for command in commands:
        command.reply = command.replicas = None
    await connection.send_packed_command(connection.pack_commands(sent))
    for command in commands:
        asking = await _read(connection) if command.detour else None
        reply = await _read(connection)
        command.reply = asking if isinstance(asking, Exception) else reply
    if replicas:
        have_it = await connection.read_response()
        for command in commands:
            command.replicas = int(have_it)


async def _read(connection: AbstractConnection) -> Any:
    try:
        reply = await connection.read_response(disable_decoding=True)
    except ResponseError as exc:
        is_down = isinstance(exc, ClusterDownError)
        return TransientError(exc, maybe_applied=False) if is_down else exc
    return reply


def _patience(connection: AbstractConnection) -> int:
    """Tell how long replicas have, in milliseconds: less than the connection has."""
    longest = getattr(connection, "socket_timeout", None)
    return int(1_000 * (min(WAIT, longest / 2) if longest else WAIT))
