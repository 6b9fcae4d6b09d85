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
    from ..operations import Id

_WILDCARDS = re.compile(r"([\\*?\[\]^])")
_ESCAPED = re.compile(r"[%{}\\*?\[\]^]")
"""Percent signs; braces, which would move the tag; and wildcards, for a server finds
the slot of a pattern only if there is none before the tag or in it."""


class KeyCodec:
    """Encodes namespaces and keys as Redis keys with one prefix, and decodes them.

    Special characters of the prefix and the namespace are escaped as in URLs. The key
    is stored unescaped.

    Attributes:
        layout: The Redis key of the marker that this layout is in use.
        example: The form of a Redis key, for people.
    """

    def __init__(self, prefix: str) -> None:
        self._start = f"{_escape(prefix)}:%"
        self._bytes = self._start.encode() + b"{"
        self.layout: bytes = f"{self._start}layout".encode()
        self.example: str = f"{self._start}{{namespace}}:key"

    def encode(self, namespace: str, key: str) -> bytes:
        """Return the Redis key of a key."""
        return _head(self._start, namespace) + key.encode()

    def decode(self, name: bytes) -> Id | None:
        """Return the namespace and the key; ``None`` for any other Redis key.

        Redis keys of other programs may have the prefix and be no valid UTF-8.
        """
        if not name.startswith(self._bytes):
            return None
        head, _, rest = name[len(self._bytes) :].partition(b"}:")
        try:
            namespace, key = unquote(head.decode()), rest.decode()
        except UnicodeDecodeError:
            return None
        if not key or name != self.encode(namespace, key):
            return None
        return namespace, key

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

    def renaming(self, namespace: str, name: str) -> bytes:
        """Return the Redis key of the marker that a namespace gets another name."""
        head = _head(self._start, name).removesuffix(b":")
        return head + b"<" + namespace.encode()


class OldKeyCodec:
    """Recognises Redis keys of the layout of earlier releases, with one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._is_plain = _escape(prefix) == prefix
        self.pattern: bytes = _literal(prefix) + b":*:*"

    def encode(self, namespace: str, key: str) -> bytes:
        """Return the Redis key that an earlier release gave to a key."""
        escaped = namespace.replace("%", "%25").replace(":", "%3A")
        return f"{self._prefix}:{escaped}:{key}".encode()

    def decode(self, name: bytes) -> Id | None:
        """Return the namespace and the key; ``None`` for any other Redis key."""
        try:
            _, namespace, key = name.decode().split(":", 2)
        except ValueError:
            return None
        id_ = unquote(namespace), key
        return id_ if key and self.encode(*id_) == name else None

    def patterns_of_both(self, codec: KeyCodec) -> list[bytes]:
        """Return patterns of all keys in this layout and in the present one."""
        if self._is_plain:  # one scan finds both
            return [_literal(self._prefix) + b":*"]
        return [codec.pattern(None), self.pattern]


def _literal(text: str) -> bytes:
    """Return a pattern that matches only this text."""
    return _WILDCARDS.sub(r"\\\1", text).encode()


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text)


@lru_cache(maxsize=4_096)
def _head(start: str, namespace: str) -> bytes:
    return f"{start}{{{_escape(namespace)}}}:".encode()
