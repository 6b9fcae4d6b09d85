"""What a store has written, on each backend: read without the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...support.sqlite_files import read
from ...support.targets import Places, Target
from .processes import stored

_AFTER = {b"m": 10, b"s": 20}
"""Where the token begins in Redis, of a mark and of one that was a claim before."""


def settings_of(target: Target) -> dict[str, Any]:
    """Word the settings of a store so that they can be sent to another process."""
    return {
        "path": str(target.settings.path),
        "url": target.settings.url,
        "prefix": target.settings.prefix,
        "schema": target.settings.schema,
        "purge_interval": None,
    }


def is_intact(target: Target) -> bool:
    """Is the file intact? Of servers nobody asks."""
    return target.name != "file" or stored(Path(target.settings.path))[1]


def seen_tokens(target: Target, places: Places) -> dict[str, str]:
    """Read every key that is seen, and the token by which it was confirmed."""
    marks = "SELECT key, token FROM {} WHERE lease_until IS NULL"
    if target.name == "file":
        rows = read(Path(target.settings.path), marks.format("seen"))
    elif target.name == "postgres":
        table = f'"{target.settings.schema}".seen'
        (rows,) = places.postgres.execute(marks.replace("id,", "key,").format(table))
    else:
        import redis

        nodes = [places.valkey] if target.name == "valkey" else places.cluster.nodes
        rows = []
        for node in nodes:
            with redis.Redis(port=node.port) as client:
                for name in client.scan_iter(f"{target.settings.prefix}:*"):
                    value = client.get(name)
                    assert isinstance(value, bytes)
                    token = _AFTER.get(value[1:2], len(value))
                    if token < len(value):
                        key = name.split(b":")[2]
                        rows.append((key.decode(), value[token:].decode()))
    return {str(key): str(token) for key, token in rows}
