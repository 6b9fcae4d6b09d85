"""Where Redis's keys are: on one server, or by slots on the primaries of a cluster.

What is asked is a pipeline of commands to each server that has something to do with it.
redis-py's own pipelines do the same, but do not tell what was sent when a connection
broke, nor how many replicas have what was written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MaxConnectionsError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ._exchange import Broken
from ._redis_errors import advice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import AbstractConnection

    from ._redis_script import Script

WAIT = 1.0
"""Seconds that replicas have to take over a change."""

_REDIRECTIONS = 5
_REFUSED = (AuthenticationError, AuthorizationError)
_BROKEN = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)
_NOT_NOW = (BusyLoadingError, ClusterDownError)

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


class Nodes(Protocol):
    """The servers, as a batch needs them."""

    def slot(self, name: bytes) -> int:
        """Tell in which slot a key is; only keys in the same one fit in a script."""
        ...

    async def primaries(self) -> list[str]:
        """Name the servers that have keys, in order."""
        ...

    async def call(self, primary: str, *words: Word) -> Any:
        """Let one of them carry out a command.

        Raises:
            Broken: It did not answer.
            ResponseError: It refused.
        """
        ...

    async def send(
        self, commands: Sequence[Command], script: Script, replicas: int
    ) -> None:
        """Let each command be carried out where its slot is, and put its reply there.

        Args:
            commands: What to do; those for one slot in order.
            script: What they call.
            replicas: How many to wait for.
        """
        ...

    async def aclose(self) -> None:
        """Disconnect."""
        ...


class OneServer:
    """A server, or whatever a client's pool of connections leads to."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def slot(self, _name: bytes) -> int:
        return 0

    async def primaries(self) -> list[str]:
        return [""]

    async def call(self, _primary: str, *words: Word) -> Any:
        return await _call(self._connected(), words)

    async def send(
        self, commands: Sequence[Command], script: Script, replicas: int
    ) -> None:
        await _pipe(self._connected(), commands, script, replicas)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        pool = self._client.connection_pool
        connection = await pool.get_connection()
        try:
            yield connection
        finally:
            await pool.release(connection)

    async def aclose(self) -> None:
        await self._client.aclose()


class Cluster:
    """The primaries of a cluster."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._is_stale = True

    def slot(self, name: bytes) -> int:
        return key_slot(name)

    async def primaries(self) -> list[str]:
        await self._know()
        return sorted(node.name for node in self._client.get_primaries())

    async def call(self, primary: str, *words: Word) -> Any:
        await self._know()
        node = self._client.get_node(node_name=primary)
        if node is None:
            raise RedisClusterException(f"{primary} has left the cluster meanwhile")
        try:
            return await _call(_connected(node), words)
        except Broken:
            self._is_stale = True
            raise

    async def send(
        self, commands: Sequence[Command], script: Script, replicas: int
    ) -> None:
        for _ in range(_REDIRECTIONS):
            await self._know()
            of_node: defaultdict[ClusterNode, list[Command]] = defaultdict(list)
            for command in commands:
                of_node[self._node(command)].append(command)
            await asyncio.gather(
                *(
                    _pipe(_connected(node), some, script, replicas)
                    for node, some in of_node.items()
                )
            )
            self._is_stale = any(isinstance(one.reply, Broken) for one in commands)
            commands = [one for one in commands if isinstance(one.reply, AskError)]
            if not commands:
                return
            for command in commands:
                await self._redirect(command)
        for command in commands:
            command.reply = Broken(command.reply, was_sent=False)

    async def _know(self) -> None:
        """Learn who has which slots, if that is not known or may have changed.

        The client would learn all commands of Redis as well, which takes ten times as
        long.
        """
        if not self._is_stale:
            return
        try:
            await self._client.nodes_manager.initialize()
            self._is_stale = False
        except RedisClusterException as exc:
            if isinstance(exc.__cause__, (*_REFUSED, ResponseError)):
                raise exc.__cause__ from exc
            raise Broken(exc, was_sent=False) from exc
        except _BROKEN as exc:
            raise Broken(exc, was_sent=False) from exc

    def _node(self, command: Command) -> ClusterNode:
        manager = self._client.nodes_manager
        if command.detour:
            node = manager.get_node(host=command.detour.host, port=command.detour.port)
            if node is not None:
                return node
        return manager.get_node_from_slot(command.slot)

    async def _redirect(self, command: Command) -> None:
        command.detour = None
        if isinstance(command.reply, MovedError):
            await self._client.nodes_manager.move_slot(command.reply)
        else:
            command.detour = command.reply
            self._is_stale = True

    async def aclose(self) -> None:
        for which in ("nodes_cache", "startup_nodes"):
            await self._client.nodes_manager.aclose(which)


@asynccontextmanager
async def _connected(node: ClusterNode) -> AsyncIterator[AbstractConnection]:
    connection = node.acquire_connection()
    try:
        await node.disconnect_if_needed(connection)
        await connection.connect()
        yield connection
    finally:
        node.release(connection)


async def _call(
    connected: AbstractAsyncContextManager[AbstractConnection], words: Sequence[Word]
) -> Any:
    command = Command(words)
    await _pipe(connected, [command], None, 0)
    if isinstance(command.reply, Exception):
        raise command.reply
    return command.reply


async def _pipe(
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
    except (*_REFUSED, ResponseError) as exc:
        failure = exc
    except _BROKEN as exc:
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
        return Broken(exc, was_sent=False) if isinstance(exc, _NOT_NOW) else exc
    return reply


def _patience(connection: AbstractConnection) -> int:
    """Tell how long replicas have, in milliseconds: less than the connection has."""
    longest = getattr(connection, "socket_timeout", None)
    return int(1_000 * (min(WAIT, longest / 2) if longest else WAIT))
