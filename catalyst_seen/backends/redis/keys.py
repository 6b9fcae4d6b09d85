"""The Redis key of a key of the store: ``prefix:%{namespace}:key``.

The braces are a hash tag: on a cluster the keys of a namespace share a slot, so that a
batch of one namespace is one script call. The default namespace has the empty tag,
``{}``, by which Redis hashes the whole name: its keys are spread over the cluster, with
or without braces of their own.

Names of the layout of earlier releases, ``prefix:namespace:key``, are never equal to
one of this layout: there every percent sign precedes ``25`` or ``3A``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..operations import Id

_WILDCARDS = re.compile(r"([\\*?\[\]^])")
_ESCAPED = re.compile(r"[%{}\\*?\[\]^]")
"""Percent signs; braces, which would move the tag; and wildcards, for a server finds
the slot of a pattern only if there is none before the tag or in it."""


_PROBES = 8


class KeyCodec:
    """Encodes namespaces and keys as Redis keys with one prefix, and decodes them.

    Special characters of the prefix and the namespace are escaped as in URLs. The key
    is stored unescaped.

    Attributes:
        layout: The Redis key of the marker that this layout is in use.
        probes: Redis keys that no scan finds, on several slots of a cluster.
        example: The form of a Redis key, for people.
    """

    def __init__(self, prefix: str) -> None:
        self._start = f"{_escape(prefix)}:%"
        self._bytes = self._start.encode() + b"{"
        self.layout: bytes = f"{self._start}layout".encode()
        self.probes: list[bytes] = [
            f"{self._start}probe{number}".encode() for number in range(_PROBES)
        ]
        self.example: str = f"{self._start}{{namespace}}:key"

    def encode(self, namespace: str, key: str) -> bytes:
        """Return the Redis key of a key."""
        return _head(self._start, namespace) + key.encode()

    def encode_all(self, namespace: str, keys: Iterable[str]) -> list[bytes]:
        """Return the Redis keys of keys of one namespace."""
        head = _head(self._start, namespace)
        return [head + key.encode() for key in keys]

    def decode(self, name: bytes) -> Id | None:
        """Return the namespace and the key; ``None`` for any other Redis key.

        Redis keys of other programs may have the prefix and be no valid UTF-8.
        """
        if not name.startswith(self._bytes):
            return None
        end = name.find(b"}:") + 2
        namespace = _namespace(self._start, name[:end])
        return None if namespace is None else _id(namespace, name[end:])

    def pattern(self, namespace: str | None, prefix: str = "") -> bytes:
        """Return the ``MATCH`` pattern of keys of one namespace, or of all.

        Args:
            namespace: The namespace, or ``None`` for all.
            prefix: How the keys begin.
        """
        head = f"{self._start}{{*}}:".encode()
        if namespace is not None:
            head = _head(self._start, namespace)
        return head + _literal(prefix) + b"*"

    def everything(self, namespace: str | None) -> bytes:
        """Return the pattern of all Redis keys of a namespace, markers included."""
        if namespace is None:
            return self._bytes + b"*"
        return _head(self._start, namespace).removesuffix(b":") + b"*"

    def owns(self, name: bytes) -> bool:
        """Is this the Redis key of a key, or of a marker of a namespace?"""
        head, tag, _ = name.partition(b"}")
        return head.startswith(self._bytes) and bool(tag)

    def source(self, namespace: str) -> list[bytes]:
        """Return the Redis keys of a source: its state, and the indexes of its keys.

        The script derives them from the Redis key of a key; see ``rows.lua``.
        """
        head = _head(self._start, namespace).removesuffix(b":")
        return [head + b">source", head + b">pending", head + b">listed"]

    def sources(self) -> bytes:
        """Return the pattern of the Redis keys of all sources."""
        return self._bytes + b"*}>*"

    def states(self) -> bytes:
        """Return the pattern of the states of all sources, and of their renames."""
        return self._bytes + b"*}[<>]*"

    def sourced(self, name: bytes) -> str | None:
        """Return the namespace whose source has this Redis key, if that is one."""
        head, _, kind = name.rpartition(b">")
        if kind not in {b"source", b"pending", b"listed"}:
            return None
        return _namespace(self._start, head + b":")

    def renaming(self, namespace: str, name: str) -> bytes:
        """Return the Redis key of the marker that a namespace gets another name."""
        head = _head(self._start, name).removesuffix(b":")
        return head + b"<" + namespace.encode()

    def renamed(self, name: bytes) -> str | None:
        """Return the new name that a namespace gets, if this is such a marker."""
        head, tag, rest = name.partition(b"}")
        if not rest.startswith(b"<"):
            return None
        return _namespace(self._start, head + tag + b":")


class OldKeyCodec:
    """Recognises Redis keys of the layout of earlier releases, with one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._is_plain = _escape(prefix) == prefix
        self._size = len(prefix.encode()) + 1
        # Without the names of the present layout, which begin with "%{".
        start = _literal(prefix) + b":"
        self.patterns: list[bytes] = [start + b"[^%]*", start + b"%[23]*"]

    def encode(self, namespace: str, key: str) -> bytes:
        """Return the Redis key that an earlier release gave to a key."""
        return _old_head(self._prefix, namespace) + key.encode()

    def decode(self, name: bytes) -> Id | None:
        """Return the namespace and the key; ``None`` for any other Redis key."""
        end = name.find(b":", self._size) + 1
        namespace = _old_namespace(self._prefix, name[:end])
        return None if namespace is None else _id(namespace, name[end:])

    def patterns_of_both(self, codec: KeyCodec) -> list[bytes]:
        """Return patterns of all keys in this layout and in the present one."""
        if self._is_plain:  # one scan finds both
            return [_literal(self._prefix) + b":*"]
        return [codec.pattern(None), *self.patterns]


def _literal(text: str) -> bytes:
    """Return a pattern that matches only this text."""
    return _WILDCARDS.sub(r"\\\1", text).encode()


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text)


@lru_cache(maxsize=4_096)
def _head(start: str, namespace: str) -> bytes:
    return f"{start}{{{_escape(namespace)}}}:".encode()


@lru_cache(maxsize=4_096)
def _namespace(start: str, head: bytes) -> str | None:
    """Return the namespace whose keys have a head; ``None`` if none has."""
    try:
        namespace = unquote(head[len(start.encode()) + 1 : -2].decode())
    except UnicodeDecodeError:
        return None
    return namespace if _head(start, namespace) == head else None


def _old_head(prefix: str, namespace: str) -> bytes:
    escaped = namespace.replace("%", "%25").replace(":", "%3A")
    return f"{prefix}:{escaped}:".encode()


@lru_cache(maxsize=4_096)
def _old_namespace(prefix: str, head: bytes) -> str | None:
    try:
        namespace = unquote(head[len(prefix.encode()) + 1 : -1].decode())
    except UnicodeDecodeError:
        return None
    return namespace if _old_head(prefix, namespace) == head else None


def _id(namespace: str, key: bytes) -> Id | None:
    try:
        return (namespace, key.decode()) if key else None
    except UnicodeDecodeError:
        return None
