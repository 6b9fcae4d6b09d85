"""Stores on a Redis or Valkey server of one test."""

from __future__ import annotations

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

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
