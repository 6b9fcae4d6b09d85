"""Clients of redis-py: made from a URL or passed by the user, and their lifetime.

A client of the store has its own retries switched off. ``backends/_retry.py`` retries
instead, because only the store knows whether an earlier attempt may have been applied.
"""

from __future__ import annotations

import asyncio

# The first connection to a host name imports this codec. A store imports all that its
# first open needs when it is constructed, so that the open does not stall the loop.
import encodings.idna  # noqa: F401 - imported for its effect
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import RedisClusterException, RedisError

from .._urls import bad_url, check_address, check_no_name
from .cluster import Cluster, Standalone

if TYPE_CHECKING:
    from .cluster import Topology

Client = Redis | RedisCluster

_SOCKET_TIMEOUT = 5.0
"""Seconds without a reply after which a connection counts as broken."""

_DRIVER_INFO = DriverInfo()
"""Shared by all connections: else each parses the metadata of redis-py, in 1 ms."""

_UNKNOWN_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")
_DATABASE = re.compile(r"^[^/?#]*/?\d*(?:[?#]|$)")
_REFUSAL = "redis-py can make nothing of it"
_FORMS = (
    "it must be like redis://host:6379/0, rediss://user:password@host:6379/0 or"
    " redis+cluster://host:6379, with options that redis-py has"
)


def connect(url: str, timeout: float) -> Client:
    """Return a client, which connects when it is used first.

    Raises:
        ConfigurationError: redis-py refuses the URL.
    """
    check_no_name(url)
    check_address(url)
    scheme, _, rest = url.partition("://")
    server, _, transport = scheme.lower().partition("+")
    is_unix = transport == "unix"
    if not is_unix and not _DATABASE.search(rest):
        raise bad_url(url, "the database after the address is a number, as in /0")
    driver_scheme = "unix" if is_unix else server.replace("valkey", "redis")
    client_class = RedisCluster if transport == "cluster" else Redis
    try:
        client: Client = client_class.from_url(
            f"{driver_scheme}://{rest}",
            socket_timeout=min(timeout, _SOCKET_TIMEOUT),
            socket_connect_timeout=min(timeout, _SOCKET_TIMEOUT),
            retry=Retry(NoBackoff(), 0),
            driver_info=_DRIVER_INFO,
        )
        if isinstance(client, Redis):
            client.connection_pool.make_connection()  # validates the URL's options
        else:
            client.get_default_node()
    except (ValueError, TypeError, RedisError, RedisClusterException) as exc:
        raise bad_url(url, f"{_refusal(exc)}; {_FORMS}") from None
    return client


def _refusal(exc: Exception) -> str:
    """Return why redis-py refuses a URL. Only the name of an option holds no secret."""
    option = _UNKNOWN_OPTION.search(str(exc))
    return f"redis-py has no option {option[1]!r}" if option else _REFUSAL


def topology_of(client: Client) -> Topology:
    """Return the topology that a client connects to."""
    return Cluster(client) if isinstance(client, RedisCluster) else Standalone(client)


def describe(client: Client) -> str:
    """Return the address of a client's server, without user and password."""
    if isinstance(client, RedisCluster):
        nodes = ",".join(client.nodes_manager.startup_nodes)
        return f"redis+cluster://{nodes}"
    pool = client.connection_pool
    settings = pool.connection_kwargs
    database = settings.get("db") or 0
    if settings.get("path"):
        return f"redis+unix://{settings['path']}?db={database}"
    host = getattr(pool, "service_name", None) or settings.get("host", "localhost")
    return f"redis://{host}:{settings.get('port', 6379)}/{database}"


class OwnedClient:
    """The lifetime of a client that the store has made: that of the store or its loop.

    A task closes the client. ``asyncio.run`` cancels this task like any other when the
    loop ends, so a store that was never closed leaves no connection open.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._close_requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.create_task(
            self._close_on_request(), name="catalyst-seen connections"
        )

    async def _close_on_request(self) -> None:
        try:
            await self._close_requested.wait()
        finally:
            with suppress(RedisError, OSError):
                await self._topology.aclose()

    async def aclose(self) -> None:
        """Disconnect. Idempotent."""
        self._close_requested.set()
        await asyncio.wait({self._closing})

    def abandon(self) -> None:
        """Disconnect without waiting, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and with it the task
            self._loop.call_soon_threadsafe(self._close_requested.set)
