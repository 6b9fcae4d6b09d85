"""Stores on a Redis or Valkey server of one test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self, TypeVar
from unittest.mock import patch

import redis

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen.backends.redis import moves, scan
from catalyst_seen.backends.redis.keys import KeyCodec, OldKeyCodec
from catalyst_seen.backends.redis.session import Session
from catalyst_seen.backends.redis.values import decode

from .servers import HOST, Valkey, ValkeyCluster

T = TypeVar("T")

DURABLE = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "repl_diskless_sync_delay": "0",
}

SOON = 10.0

MARKER = KeyCodec("seen").layout.decode()
"""The Redis key that tells the layout of the names."""


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


class Values:
    """The values of a server, or of all nodes of a cluster, with their expiry."""

    def __init__(self, server: Valkey | ValkeyCluster) -> None:
        """Connect to it; a test closes it by ``with``."""
        self._stack = ExitStack()
        self._nodes = [
            self._stack.enter_context(redis.Redis(HOST, node.port))
            for node in (
                server.nodes if isinstance(server, ValkeyCluster) else [server]
            )
        ]
        self._by_slot: redis.RedisCluster | redis.Redis = self._nodes[0]
        if isinstance(server, ValkeyCluster):
            self._by_slot = redis.RedisCluster(HOST, server.nodes[0].port)
            self._stack.callback(self._by_slot.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def all(self) -> dict[bytes, tuple[bytes, int]]:
        """Return value and expiry of every key, but not the marker of the layout."""
        return {
            name: (_value(client, name), client.pexpiretime(name))
            for client in self._nodes
            for name in client.scan_iter(count=10_000)
            if name != MARKER.encode()
        }

    def set(self, name: bytes | str, value: bytes, expires: int = -1) -> None:
        """Store a value with its expiry in milliseconds."""
        if expires == -1:
            self._by_slot.set(name, value)
        else:
            self._by_slot.set(name, value, pxat=expires)

    def delete(self, name: bytes | str) -> None:
        """Remove a value."""
        self._by_slot.delete(name)

    def get(self, name: bytes | str) -> bytes | None:
        """Read a value."""
        value = self._by_slot.get(name)
        assert value is None or isinstance(value, bytes)
        return value

    def check_indexes(self) -> int:
        """Compare the indexes of all sources with what the values say.

        Return how many keys that were observed there are.
        """
        codec = KeyCodec("seen")
        present = self.all()
        observed = 0
        expected: dict[bytes, dict[bytes, float]] = {}
        for name, (value, expires) in present.items():
            id_ = codec.decode(name)
            row = decode(value, None).row if id_ else None
            if id_ is None or row is None or row.listed is None:
                continue
            observed += 1
            assert expires == -1, f"{name!r} of a source expires"
            _, pending, listed = codec.source(id_[0])
            clock = row.listed.clock
            score = float("inf") if clock is None else clock
            expected.setdefault(listed, {})[id_[1].encode()] = score
            expected.setdefault(pending, {b"": -1.0})
            if row.listed.seq is not None:
                expected[pending][id_[1].encode()] = float(row.listed.seq)
        names = {name for name in present if codec.sourced(name)}
        indexes = {name for name in names if not name.endswith(b">source")}
        for index in indexes | expected.keys():
            stored = present.get(index, (b"{}", -1))[0]
            wanted = expected.get(index, {})
            if index.endswith(b">pending"):
                wanted = {b"": -1.0, **wanted}
            assert stored == repr(dict(sorted(wanted.items()))).encode(), index
        return observed

    def age(self, prefix: str = "seen") -> dict[bytes, tuple[bytes, int]]:
        """Give all keys the names of an earlier release; return what there was."""
        codec, old = KeyCodec(prefix), OldKeyCodec(prefix)
        present = self.all()
        for name, (value, expires) in present.items():
            id_ = codec.decode(name)
            assert id_ is not None
            self.delete(name)
            self.set(old.encode(*id_), value, expires)
        self.delete(codec.layout)
        return present


def _value(client: redis.Redis, name: bytes) -> bytes:
    """Return a value; of a sorted set, its members and their scores."""
    if client.type(name) != b"zset":
        value = client.get(name)
        assert isinstance(value, bytes)
        return value
    found: Any = client.zrange(name, 0, -1, withscores=True)
    members: dict[bytes, float] = dict(found)
    return repr(dict(sorted(members.items()))).encode()


class Killed(BaseException):
    """The program was killed."""


@contextmanager
def killed_after(requests: int) -> Iterator[None]:
    """Let a program send so many requests with retries, and no further one."""
    sent = 0
    request = Session.request

    async def counted(
        session: Session,
        send: Callable[[float], Awaitable[T]],
        *,
        is_change: bool = False,
        timeout: float | None = None,
    ) -> T:
        nonlocal sent
        if sent == requests:
            raise Killed
        sent += 1
        return await request(session, send, is_change=is_change, timeout=timeout)

    with patch.object(Session, "request", counted):
        yield


@contextmanager
def impatient(page: int = 5) -> Iterator[None]:
    """Let moves of keys have small pages, and leases that soon end."""
    with (
        patch.object(moves, "_LEASE", 0.4),
        patch.object(moves, "_RENEW_BEFORE", 0.3),
        patch.object(moves, "_MARGIN", 0.1),
        patch.object(scan, "PAGE", page),
    ):
        yield
