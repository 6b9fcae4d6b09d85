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

from ._exchange import Broken
from ._redis_errors import advice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio.connection import AbstractConnection

    from ._redis_script import Script

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
    was_sent = False
    failure: Exception | None = None
    for command in commands:
        command.reply = command.replicas = None
    try:
        async with connected as connection:
            was_sent = True
            try:
                await _talk(connection, commands, script, replicas)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
    except (*REFUSED, ResponseError) as exc:
        failure = exc
    except BROKEN as exc:
        failure = _broken(exc, was_sent=was_sent)
    for command in commands:
        if command.reply is None:
            command.reply = failure


def _broken(exc: Exception, *, was_sent: bool) -> Broken:
    if isinstance(exc, MaxConnectionsError):
        return Broken(exc, was_sent=False, advice=advice(exc))
    return Broken(exc, was_sent=was_sent and not isinstance(exc, BusyLoadingError))


async def _talk(
    connection: AbstractConnection,
    commands: Sequence[Command],
    script: Script | None,
    replicas: int,
) -> None:
    await _ask(connection, commands, replicas)
    unknown = [one for one in commands if isinstance(one.reply, NoScriptError)]
    if unknown and script:
        await connection.send_command("SCRIPT", "LOAD", script.text)
        loaded = await _read(connection)
        if isinstance(loaded, Exception):
            for command in unknown:
                command.reply = loaded
            return
        await _ask(connection, unknown, replicas)


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
        return Broken(exc, was_sent=False) if is_down else exc
    return reply


def _patience(connection: AbstractConnection) -> int:
    """Tell how long replicas have, in milliseconds: less than the connection has."""
    longest = getattr(connection, "socket_timeout", None)
    return int(1_000 * (min(WAIT, longest / 2) if longest else WAIT))
