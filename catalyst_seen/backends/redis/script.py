"""What Redis is told to do, in the language of its script, and what it answers.

The script executes the state table, in one step per key; ``_state_machine.to_result``
converts its replies to results.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, Any

from ..._types import ON_ABANDONED, OnAbandoned, Verdict
from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Mark,
    Operation,
    Release,
    Renew,
    Resolve,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Script:
    """A script, and the name under which Redis keeps it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


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
def _plain(verb: bytes, ttl: float | None = None) -> bytes:
    return _packed(verb, ttl=ttl)


def _packed(
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


_PACK: dict[type[Operation[Any]], Callable[[Any], bytes]] = {
    Get: lambda _: _plain(b"l"),
    Mark: lambda mark: _packed(b"m", ttl=mark.ttl, ts=mark.ts),
    CheckAndMark: lambda check: _plain(b"k", check.ttl),
    Acquire: lambda claim: _packed(
        b"t",
        span=claim.lease,
        ttl=claim.ttl,
        policy=claim.on_abandoned,
        token=claim.token,
    ),
    Confirm: lambda confirm: _packed(b"c", ttl=confirm.ttl, token=confirm.token),
    Renew: lambda renew: _packed(
        b"n",
        span=renew.lease,
        ttl=renew.ttl,
        policy=renew.on_abandoned,
        token=renew.token,
    ),
    Release: lambda release: _packed(
        b"r", span=release.delay, ttl=release.ttl, token=release.token
    ),
    Resolve: lambda resolve: _plain(b"h" if resolve.is_handled else b"u", resolve.ttl),
    Forget: lambda _: _plain(b"f"),
    Cleanup: lambda cleanup: _packed(b"o", span=cleanup.age),
}


def pack(operations: Iterable[Operation[Any]]) -> bytes:
    """Put operations into the script's words; those that are alike, once."""
    packed = [_PACK[type(operation)](operation) for operation in operations]
    return b"".join(
        _COUNT.pack(len(list(run))) + words for words, run in groupby(packed)
    )


def time_of(reply: bytes) -> float:
    """Tell the server's time when the script ran."""
    (now,) = _NOW.unpack_from(reply)
    return float(now)


def unpack(reply: bytes) -> Iterator[tuple[Verdict, bool, Row | None, bool]]:
    """Tell what became of each operation, in order.

    Returns:
        What the key was when it came; did it do what it is for; what it left of the
        key, without its token, which the script keeps to itself; and is the key another
        program's, and untouched?
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
