"""The script that executes the state table, and the wire format of its calls.

``script.lua`` decides; ``_state_machine.to_result`` converts its replies to results.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, Any

from ..._types import ON_ABANDONED, OnAbandoned
from ..._verdict import Verdict
from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Mark,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Script:
    """A Lua script, and the SHA-1 digest under which the server caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


SCRIPT = Script(resources.files(__package__).joinpath("script.lua").read_text("utf-8"))


@dataclass(slots=True)
class Cleanup(Forget):
    """Remove a row last marked longer ago, unless it is held or under a live lease."""

    verb = "cleanup"

    age: float


# Verb; lease, delay or age; TTL; ts; on_abandoned; length of the token that follows.
_OPERATION = Struct("<cdddBB")
_COUNT = Struct("<I")
_RECORD = Struct("<BBddddIB")
_NOW = Struct("<d")
_DONE, _STORED, _FOREIGN = 1, 2, 4
_NONE = -1.0
_VERDICTS = tuple(Verdict)
_POLICIES: tuple[OnAbandoned | None, ...] = (None, *ON_ABANDONED)
_POLICY = {policy: number for number, policy in enumerate(_POLICIES)}


@lru_cache(maxsize=256)
def _pack_without_token(verb: bytes, ttl: float | None = None) -> bytes:
    return _pack(verb, ttl=ttl)


def _pack(
    verb: bytes,
    *,
    span: float = 0.0,
    ttl: float | None = None,
    ts: float | None = None,
    policy: OnAbandoned | None = None,
    token: str = "",
) -> bytes:
    ttl, ts = _NONE if ttl is None else ttl, _NONE if ts is None else ts
    text = token.encode()
    return _OPERATION.pack(verb, span, ttl, ts, _POLICY[policy], len(text)) + text


def _pack_acquire(acquire: Acquire) -> bytes:
    return _pack(
        b"a",
        span=acquire.lease,
        ttl=acquire.ttl,
        policy=acquire.on_abandoned,
        token=acquire.token,
    )


def _pack_renew(renew: Renew) -> bytes:
    return _pack(
        b"n",
        span=renew.lease,
        ttl=renew.ttl,
        policy=renew.on_abandoned,
        token=renew.token,
    )


def _pack_release(release: Release) -> bytes:
    return _pack(b"r", span=release.delay, ttl=release.ttl, token=release.token)


_PACK: dict[type[Operation[Any]], Callable[[Any], bytes]] = {
    Get: lambda _: _pack_without_token(b"g"),
    Mark: lambda mark: _pack(b"m", ttl=mark.ttl, ts=mark.ts),
    CheckAndMark: lambda check: _pack_without_token(b"k", check.ttl),
    Refresh: lambda refresh: _pack_without_token(b"e", refresh.ttl),
    Acquire: _pack_acquire,
    Confirm: lambda confirm: _pack(b"c", ttl=confirm.ttl, token=confirm.token),
    Renew: _pack_renew,
    Release: _pack_release,
    Resolve: lambda resolve: _pack_without_token(
        b"h" if resolve.is_handled else b"u", resolve.ttl
    ),
    Forget: lambda _: _pack_without_token(b"f"),
    Cleanup: lambda cleanup: _pack(b"o", span=cleanup.age),
}


def pack(operations: Iterable[Operation[Any]]) -> bytes:
    """Encode operations for the script; equal neighbours are encoded once."""
    packed = [_PACK[type(operation)](operation) for operation in operations]
    return b"".join(
        _COUNT.pack(len(list(run))) + operation for operation, run in groupby(packed)
    )


def server_time(reply: bytes) -> float:
    """Return the server's time when the script ran."""
    (now,) = _NOW.unpack_from(reply)
    return float(now)


def unpack(reply: bytes) -> Iterator[tuple[Verdict, bool, Row | None, bool]]:
    """Decode the record of each operation, in order.

    Yields:
        The state of the key before the operation; whether the operation took effect;
        the row that it left, without the token, which the script does not return; and
        whether the key belongs to another program and is untouched.
    """
    for (
        verdict,
        flags,
        first_seen,
        last_seen,
        expires_at,
        lease_until,
        attempt,
        policy,
    ) in _RECORD.iter_unpack(memoryview(reply)[_NOW.size :]):
        row = None
        if flags & _STORED:
            row = Row(
                first_seen,
                last_seen,
                None if expires_at == _NONE else expires_at,
                None,
                attempt,
                None if lease_until == _NONE else lease_until,
                _POLICIES[policy],
            )
        yield _VERDICTS[verdict], bool(flags & _DONE), row, bool(flags & _FOREIGN)
