"""What a key is called in Redis: the prefix, the namespace and the key, with colons."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from ..operations import Id

_SPECIAL = re.compile(r"([\\*?\[\]^])")


class Names:
    """The names of the keys of one store.

    In the namespace, colons and percent signs are escaped as in URLs; so the second
    colon begins the key, which is as it is.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def name(self, namespace: str, key: str) -> bytes:
        """Give the name of a key."""
        return _head(self._prefix, namespace) + key.encode()

    def id_(self, name: bytes) -> Id | None:
        """Tell whose key it is that has a name of this store; ``None`` if it is none.

        Other programs may have names that are no text.
        """
        try:
            _, namespace, key = name.decode().split(":", 2)
        except ValueError:
            return None
        return unquote(namespace), key

    def pattern(self, namespace: str | None) -> bytes:
        """Give the pattern of all names, or of those in one namespace."""
        head = _head(self._prefix, namespace or "").decode()
        if namespace is None:
            head = head.removesuffix(":")
        every = b"*" if namespace is not None else b"*:*"
        return _SPECIAL.sub(r"\\\1", head).encode() + every


@lru_cache(maxsize=4_096)
def _head(prefix: str, namespace: str) -> bytes:
    escaped = namespace.replace("%", "%25").replace(":", "%3A")
    return f"{prefix}:{escaped}:".encode()
