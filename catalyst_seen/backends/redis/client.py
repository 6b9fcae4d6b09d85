"""redis-py's clients: made from a URL, or brought along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..._errors import ConfigurationError
from .cluster import Cluster, OneServer

if TYPE_CHECKING:
    from .cluster import Nodes

Client = Redis | RedisCluster

_SOCKET_TIMEOUT = 5.0
"""Seconds without an answer after which a connection counts as broken."""


def connect(url: str, timeout: float) -> Client:
    """Make a client; it connects when it is used.

    It does not try anything again by itself: the store does, and knows what it sent.

    Raises:
        ConfigurationError: redis-py can make nothing of the URL. It is not repeated,
            for it may hold a password.
    """
    scheme, _, rest = url.partition("://")
    server, _, how = scheme.lower().partition("+")
    driver_scheme = "unix" if how == "unix" else server.replace("valkey", "redis")
    make = RedisCluster if how == "cluster" else Redis
    try:
        client: Client = make.from_url(
            f"{driver_scheme}://{rest}",
            socket_timeout=min(timeout, _SOCKET_TIMEOUT),
            socket_connect_timeout=min(timeout, _SOCKET_TIMEOUT),
            retry=Retry(NoBackoff(), 0),
        )
        if isinstance(client, Redis):
            client.connection_pool.make_connection()  # its options are looked at here
    except (ValueError, TypeError):
        raise ConfigurationError(
            "url (SEEN_STORE_URL)",
            "redis-py can make nothing of it; it must be like redis://host:6379/0,"
            " rediss://user:password@host:6379/0 or redis+cluster://host:6379, with"
            " options that redis-py has",
        ) from None
    return client


def nodes_of(client: Client) -> Nodes:
    """Tell where a client's keys are."""
    return Cluster(client) if isinstance(client, RedisCluster) else OneServer(client)


def describe(client: Client) -> str:
    """Say where a client's keys are, for people: without user and password."""
    if isinstance(client, RedisCluster):
        names = ",".join(client.nodes_manager.startup_nodes)
        return f"redis+cluster://{names}"
    pool = client.connection_pool
    settings = pool.connection_kwargs
    database = settings.get("db") or 0
    if settings.get("path"):
        return f"redis+unix://{settings['path']}?db={database}"
    host = getattr(pool, "service_name", None) or settings.get("host", "localhost")
    return f"redis://{host}:{settings.get('port', 6379)}/{database}"
