"""The Redis key of a key of the store: ``prefix:namespace:key``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from ..operations import Id

_SPECIAL = re.compile(r"([\\*?\[\]^])")


class KeyCodec:
    """Encodes namespaces and keys as Redis keys with one prefix, and decodes them.

    Colons and percent signs of a namespace are escaped as in URLs, so the second colon
    of a Redis key always begins the key, which is stored unescaped.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def encode(self, namespace: str, key: str) -> bytes:
        """Return the Redis key of a key."""
        return _head(self._prefix, namespace) + key.encode()

    def decode(self, redis_key: bytes) -> Id | None:
        """Return the namespace and the key; ``None`` for a key of another program.

        Redis keys of other programs may match the prefix and be no valid UTF-8.
        """
        try:
            _, namespace, key = redis_key.decode().split(":", 2)
        except ValueError:
            return None
        return unquote(namespace), key

    def pattern(self, namespace: str | None) -> bytes:
        """Return the ``MATCH`` pattern of one namespace, or of all."""
        head = _head(self._prefix, namespace or "").decode()
        if namespace is None:
            head = head.removesuffix(":")
        every = b"*" if namespace is not None else b"*:*"
        return _SPECIAL.sub(r"\\\1", head).encode() + every


@lru_cache(maxsize=4_096)
def _head(prefix: str, namespace: str) -> bytes:
    escaped = namespace.replace("%", "%25").replace(":", "%3A")
    return f"{prefix}:{escaped}:".encode()
