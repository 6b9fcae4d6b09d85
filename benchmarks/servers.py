"""Servers that contestants share: real servers, those of the tests.

Each starts at its first use, and all stop together. Contestants run one at a time, and
each starts with an empty server.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self

from tests.support.servers import Postgres, Valkey, ValkeyCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Place = Callable[["Servers"], "Server"]

_AT_ONCE = {"lazyfree_lazy_user_flush": "no"}  # removal is synchronous
_ON_DISK = {"appendonly": "yes", "appendfsync": "everysec"}
_AS_IN_PRODUCTION = {"synchronous_commit": "on", "shared_buffers": "128MB"}

_LOOKS = 5  # in a row
_PAUSE = 0.05  # seconds between two samples
_REST = 0.001  # tolerated difference of samples: nodes of a cluster exchange messages
_PATIENCE = 20  # seconds


class Server(Protocol):
    """A server that our store and a plain client use in the same way."""

    @property
    def url(self) -> str:
        """The URL of the server, for our store."""

    def clear(self) -> None:
        """Remove all data, and complete the work that the removal causes."""

    def used(self) -> int:
        """Return the bytes of the stored data, when the server is idle."""


class ValkeyServer:
    """Valkey: one server, or the primaries of a cluster."""

    def __init__(self, url: str, nodes: Sequence[Valkey]) -> None:
        """Use running servers."""
        self.url = url
        self._nodes = nodes

    def clear(self) -> None:
        """Remove every key."""
        for node in self._nodes:
            with node.client() as client:
                client.flushall()

    def used(self) -> int:
        """Return the memory in use, without connected clients."""
        return sum(map(_memory, self._nodes))


class PostgresServer:
    """PostgreSQL; our store has its own schema, other tables are in the default one."""

    def __init__(self, server: Postgres) -> None:
        """Use a running server."""
        self.url = server.socket_url
        self._server = server

    def clear(self) -> None:
        """Drop the tables, so that their pages do not affect the next contestant."""
        self._server.execute(
            "DROP SCHEMA IF EXISTS catalyst_seen CASCADE",
            "DROP TABLE IF EXISTS public.seen",
            "CHECKPOINT",
        )

    def used(self) -> int:
        """Return the size of tables and indexes on the disk."""
        (((size,),),) = self._server.execute(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace IN (SELECT oid FROM pg_namespace"
            " WHERE nspname IN ('catalyst_seen', 'public'))"
        )
        return int(str(size))


class Servers:
    """The servers of a benchmark, each started at its first use."""

    def __init__(self, folder: Path) -> None:
        """Create the pool of servers without starting any.

        Args:
            folder: The folder of the sockets.
        """
        self._folder = folder
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @cached_property
    def valkey_in_memory(self) -> ValkeyServer:
        """Valkey without persistence, which promises less than SQLite."""
        return self._valkey("memory.sock")

    @cached_property
    def valkey(self) -> ValkeyServer:
        """Valkey that writes each change to its log, and the log every second."""
        return self._valkey("valkey.sock", **_ON_DISK)

    def _valkey(self, name: str, **options: str) -> ValkeyServer:
        socket = self._folder / name
        server = Valkey(unixsocket=str(socket), **_AT_ONCE, **options)
        self._running.enter_context(server)
        return ValkeyServer(f"valkey+unix://{socket}", [server])

    @cached_property
    def cluster(self) -> ValkeyServer:
        """Three primaries with such logs; they listen on TCP only."""
        cluster = ValkeyCluster(**_AT_ONCE, **_ON_DISK)
        self._running.enter_context(cluster)
        return ValkeyServer(cluster.url, cluster.nodes)

    @cached_property
    def postgres(self) -> PostgresServer:
        """PostgreSQL that acknowledges what is on the disk."""
        server = Postgres(durable=True, **_AS_IN_PRODUCTION)
        return PostgresServer(self._running.enter_context(server))


def _memory(node: Valkey) -> int:
    """Return the memory in use, after hash tables are resized and buffers are freed."""
    deadline = time.monotonic() + _PATIENCE
    looks: list[int] = []
    with node.client() as client:
        while time.monotonic() < deadline:
            stats = client.memory_stats()
            is_moving = stats["db.dict.rehashing.count"] > 0
            looks = [] if is_moving else [*looks, stats["total.allocated"]][-_LOOKS:]
            if len(looks) == _LOOKS and max(looks) - min(looks) < _REST * max(looks):
                return looks[-1]
            time.sleep(_PAUSE)
    raise TimeoutError(f"the memory in use does not come to rest: {looks}")
