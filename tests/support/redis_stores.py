"""Stores on a Redis or Valkey server of one test."""

from __future__ import annotations

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen.backends.redis.keys import KeyCodec, OldKeyCodec

from .servers import Valkey, ValkeyCluster

DURABLE = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "repl_diskless_sync_delay": "0",
}

SOON = 10.0


def to(
    server: Valkey | ValkeyCluster, options: str = "", **settings: object
) -> AsyncSeenStore:
    """Return a store on a server: options of redis-py; no purge, no cache."""
    config = {
        "purge_interval": None,
        "recent_staleness": 0,
        "timeout": SOON,
        **settings,
    }
    return AsyncSeenStore(SeenStoreConfig(url=server.url + options, **config))  # type: ignore[arg-type]


def redis_key(key: str, namespace: str = "", prefix: str = "seen") -> str:
    """Return the Redis key of a key of the store."""
    return KeyCodec(prefix).encode(namespace, key).decode()


def old_redis_key(key: str, namespace: str = "", prefix: str = "seen") -> str:
    """Return the Redis key that an earlier release gave to a key."""
    return OldKeyCodec(prefix).encode(namespace, key).decode()


MARKER = KeyCodec("seen").layout.decode()
"""The Redis key that tells the layout of the names."""
