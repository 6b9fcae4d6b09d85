"""Where Redis's keys are: on one server, or by slots on the primaries of a cluster."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    MovedError,
    RedisClusterException,
    ResponseError,
)

from .._retry import TransientError
from .pipeline import BROKEN, REFUSED, Command, call, pipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import AbstractConnection

    from .pipeline import Word
    from .script import Script

_REDIRECTIONS = 5  # of a command, before the cluster is taken for broken


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
        return await call(self._connected(), words)

    async def send(
        self, commands: Sequence[Command], script: Script, replicas: int
    ) -> None:
        await pipe(self._connected(), commands, script, replicas)

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
            return await call(_connected(node), words)
        except TransientError:
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
                    pipe(_connected(node), some, script, replicas)
                    for node, some in of_node.items()
                )
            )
            self._is_stale = any(
                isinstance(one.reply, TransientError) for one in commands
            )
            commands = [one for one in commands if isinstance(one.reply, AskError)]
            if not commands:
                return
            for command in commands:
                await self._redirect(command)
        for command in commands:
            command.reply = TransientError(command.reply, maybe_applied=False)

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
            if isinstance(exc.__cause__, (*REFUSED, ResponseError)):
                raise exc.__cause__ from exc
            raise TransientError(exc, maybe_applied=False) from exc
        except BROKEN as exc:
            raise TransientError(exc, maybe_applied=False) from exc

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
