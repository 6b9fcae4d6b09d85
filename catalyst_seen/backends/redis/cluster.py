"""The topology of the servers: one server, or a cluster that divides keys by slot.

Redirections of a cluster (``MOVED``, ``ASK``) are followed here. A node that fails
becomes a ``TransientError``: ``backends/_retry.py`` retries, and the retry refreshes
the slots first.
"""

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
from .pipeline import (
    PERMANENT_ERRORS,
    TRANSIENT_ERRORS,
    Command,
    execute,
    execute_pipeline,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import AbstractConnection

    from .pipeline import Arg
    from .script import Script

_MAX_REDIRECTIONS = 5  # of one command, before the slot counts as unavailable


class Topology(Protocol):
    """The servers that keep the keys of a store.

    Attributes:
        is_cluster: Are there several, without common transactions?
    """

    is_cluster: bool

    def slot(self, redis_key: bytes) -> int:
        """Return the slot of a key; one script call takes keys of one slot only."""
        ...

    async def primaries(self) -> list[str]:
        """Return the names of the primaries, sorted."""
        ...

    async def execute(
        self, primary: str, *args: Arg, timeout: float | None = None
    ) -> Any:
        """Execute one command on one primary and return its reply.

        Raises:
            TransientError: The connection failed.
            ResponseError: The server refused the command.
        """
        ...

    async def send(
        self,
        commands: Sequence[Command],
        script: Script,
        replicas: int,
        timeout: float | None = None,
    ) -> None:
        """Execute each command on the primary of its slot, and store its reply.

        Args:
            commands: The commands; those of one slot are executed in order.
            script: The script that they call.
            replicas: Number of replicas that must acknowledge the commands.
            timeout: Seconds without a connection or a reply after which a connection
                counts as broken.
        """
        ...

    async def aclose(self) -> None:
        """Disconnect."""
        ...


class Standalone:
    """One server, or the server that a client's connection pool chooses."""

    is_cluster = False

    def __init__(self, client: Redis) -> None:
        self._client = client

    def slot(self, _redis_key: bytes) -> int:
        return 0

    async def primaries(self) -> list[str]:
        return [""]

    async def execute(
        self, _primary: str, *args: Arg, timeout: float | None = None
    ) -> Any:
        return await execute(self._connection(), args, timeout)

    async def send(
        self,
        commands: Sequence[Command],
        script: Script,
        replicas: int,
        timeout: float | None = None,
    ) -> None:
        await execute_pipeline(self._connection(), commands, script, replicas, timeout)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AbstractConnection]:
        pool = self._client.connection_pool
        connection = await pool.get_connection()
        try:
            yield connection
        finally:
            await pool.release(connection)

    async def aclose(self) -> None:
        await self._client.aclose()


class Cluster:
    """The primaries of a cluster, each with a range of the slots."""

    is_cluster = True

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._is_stale = True

    def slot(self, redis_key: bytes) -> int:
        return key_slot(redis_key)

    async def primaries(self) -> list[str]:
        await self._refresh_slots()
        return sorted(node.name for node in self._client.get_primaries())

    async def execute(
        self, primary: str, *args: Arg, timeout: float | None = None
    ) -> Any:
        await self._refresh_slots(timeout)
        node = self._client.get_node(node_name=primary)
        if node is None:
            raise RedisClusterException(f"{primary} has left the cluster meanwhile")
        try:
            return await execute(_connection(node), args, timeout)
        except TransientError:
            self._is_stale = True
            raise

    async def send(
        self,
        commands: Sequence[Command],
        script: Script,
        replicas: int,
        timeout: float | None = None,
    ) -> None:
        for _ in range(_MAX_REDIRECTIONS):
            await self._refresh_slots(timeout)
            commands_by_node: defaultdict[ClusterNode, list[Command]] = defaultdict(
                list
            )
            for command in commands:
                commands_by_node[self._node(command)].append(command)
            await asyncio.gather(
                *(
                    execute_pipeline(_connection(node), some, script, replicas, timeout)
                    for node, some in commands_by_node.items()
                )
            )
            self._is_stale = any(
                isinstance(command.reply, TransientError) for command in commands
            )
            # A MovedError is an AskError in redis-py.
            commands = [
                command for command in commands if isinstance(command.reply, AskError)
            ]
            if not commands:
                return
            for command in commands:
                await self._follow(command)
        for command in commands:
            command.reply = TransientError(command.reply, maybe_applied=False)

    async def _refresh_slots(self, timeout: float | None = None) -> None:
        """Read the assignment of slots to nodes, if it is stale.

        ``RedisCluster.initialize`` would read the table of all commands as well, which
        takes ten times as long.
        """
        if not self._is_stale:
            return
        try:
            async with asyncio.timeout(timeout):  # it asks one node after the other
                await self._client.nodes_manager.initialize()
            self._is_stale = False
        except RedisClusterException as exc:
            if isinstance(exc.__cause__, (*PERMANENT_ERRORS, ResponseError)):
                raise exc.__cause__ from exc
            raise TransientError(exc, maybe_applied=False) from exc
        except TRANSIENT_ERRORS as exc:
            raise TransientError(exc, maybe_applied=False) from exc

    def _node(self, command: Command) -> ClusterNode:
        manager = self._client.nodes_manager
        redirect = command.ask_redirect
        if redirect:
            node = manager.get_node(host=redirect.host, port=redirect.port)
            if node is not None:
                return node
        return manager.get_node_from_slot(command.slot)

    async def _follow(self, command: Command) -> None:
        """Prepare the next attempt of a command that its node has redirected."""
        command.ask_redirect = None
        if isinstance(command.reply, MovedError):
            await self._client.nodes_manager.move_slot(command.reply)
        else:
            command.ask_redirect = command.reply
            self._is_stale = True

    async def aclose(self) -> None:
        for cache in ("nodes_cache", "startup_nodes"):
            await self._client.nodes_manager.aclose(cache)


@asynccontextmanager
async def _connection(node: ClusterNode) -> AsyncIterator[AbstractConnection]:
    connection = node.acquire_connection()
    try:
        await node.disconnect_if_needed(connection)
        await connection.connect()
        yield connection
    finally:
        node.release(connection)
