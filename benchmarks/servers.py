"""Servers that contestants share: real ones, those of the tests.

Each starts when the first contestant asks for it, and all end together. Whoever uses
one, uses it alone: contestants take turns, and each begins with an empty server.
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

_AT_ONCE = {"lazyfree_lazy_user_flush": "no"}  # what is removed takes no time later
_ON_DISK = {"appendonly": "yes", "appendfsync": "everysec"}
_AS_IN_PRODUCTION = {"synchronous_commit": "on", "shared_buffers": "128MB"}

_LOOKS = 5  # in a row
_PAUSE = 0.05  # seconds between two looks
_REST = 0.001  # how much looks may differ: nodes of a cluster talk with each other
_PATIENCE = 20  # seconds


class Server(Protocol):
    """Where ours and a plain client do the same."""

    @property
    def url(self) -> str:
        """Where it is, for ours."""

    def clear(self) -> None:
        """Remove all that is stored, and all that is left to do because of it."""

    def used(self) -> int:
        """How many bytes what is stored takes, when everything has come to rest."""


class ValkeyServer:
    """Valkey: one server, or the primaries of a cluster."""

    def __init__(self, url: str, nodes: Sequence[Valkey]) -> None:
        """Use servers that run."""
        self.url = url
        self._nodes = nodes

    def clear(self) -> None:
        """Remove every key."""
        for node in self._nodes:
            with node.client() as client:
                client.flushall()

    def used(self) -> int:
        """Memory in use, while nobody is connected."""
        return sum(map(_memory, self._nodes))


class PostgresServer:
    """PostgreSQL; ours has a schema of its own, a table by hand is in the usual one."""

    def __init__(self, server: Postgres) -> None:
        """Use a server that runs."""
        self.url = server.socket_url
        self._server = server

    def clear(self) -> None:
        """Drop the tables; the next one pays for no pages of this one."""
        self._server.execute(
            "DROP SCHEMA IF EXISTS catalyst_seen CASCADE",
            "DROP TABLE IF EXISTS public.seen",
            "CHECKPOINT",
        )

    def used(self) -> int:
        """Tables and their indexes, as they are on the disk."""
        (((size,),),) = self._server.execute(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace IN (SELECT oid FROM pg_namespace"
            " WHERE nspname IN ('catalyst_seen', 'public'))"
        )
        return int(str(size))


class Servers:
    """Those that were asked for so far."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet.

        Args:
            folder: Where sockets may be.
        """
        self._folder = folder
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @cached_property
    def valkey_in_memory(self) -> ValkeyServer:
        """Valkey that writes nothing to the disk: so it promises less than SQLite."""
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
    """Memory in use, as soon as tables that grew have moved and buffers are gone."""
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
