"""The script that executes the state table, and the wire format of its calls.

``script.lua`` decides; ``_state_machine.to_result`` converts its replies to results.
``rows.lua``, which precedes it, reads and writes the values.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import OutOfMemoryError, ResponseError

from ..._types import ON_ABANDONED, OnAbandoned
from ..._verdict import Verdict
from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
    Row,
)
from .administration import (
    Cleanup,
    Clear,
    Discard,
    Export,
    Import,
    Remove,
    Rename,
    Select,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Script:
    """A Lua script, and the SHA-1 digest under which the server caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


SCRIPT = Script(
    "\n".join(
        resources.files(__package__).joinpath(name).read_text("utf-8")
        for name in ("rows.lua", "script.lua")
    )
)

# Verb; lease, delay, age or deadline; TTL; ts; on_abandoned or state; length of the
# token, and of the text, both of which follow.
_OPERATION = Struct("<cdddBBI")
_COUNT = Struct("<I")
_SIZE = Struct("<I")
_RECORD = Struct("<BBddddIB")
_NOW = Struct("<d")
_DONE, _STORED, _FOREIGN, _REFUSED, _NOTED, _EXPORTED = 1, 2, 4, 8, 16, 32
_REFUSALS = (
    OutOfMemoryError("command not allowed when used memory > 'maxmemory'"),
    ResponseError("MISCONF the server cannot write to its disk, and refuses changes"),
    ResponseError("NOREPLICAS not enough good replicas to write"),
)
"""The error of a command, by the number in ``REFUSALS`` of the script."""
_NONE = -1.0
_NO_TEXT = 2**32 - 1
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
    number: int = 0,
    token: str = "",
    text: str | bytes | None = None,
) -> bytes:
    ttl, ts = _NONE if ttl is None else ttl, _NONE if ts is None else ts
    owner = token.encode()
    if text is None:
        head = _OPERATION.pack(verb, span, ttl, ts, number, len(owner), _NO_TEXT)
        return head + owner
    data = text.encode() if isinstance(text, str) else text
    head = _OPERATION.pack(verb, span, ttl, ts, number, len(owner), len(data))
    return head + owner + data


def _pack_check_and_mark(check: CheckAndMark) -> bytes:
    if check.note is None:
        return _pack_without_token(b"k", check.ttl)
    return _pack(b"k", ttl=check.ttl, text=check.note)


def _pack_acquire(acquire: Acquire) -> bytes:
    return _pack(
        b"a",
        span=acquire.lease,
        ttl=acquire.ttl,
        number=_POLICY[acquire.on_abandoned],
        token=acquire.token,
        text=acquire.note,
    )


def _pack_confirm(confirm: Confirm) -> bytes:
    return _pack(b"c", ttl=confirm.ttl, token=confirm.token, text=confirm.note)


def _pack_renew(renew: Renew) -> bytes:
    return _pack(
        b"n",
        span=renew.lease,
        ttl=renew.ttl,
        number=_POLICY[renew.on_abandoned],
        token=renew.token,
    )


def _pack_release(release: Release) -> bytes:
    return _pack(b"r", span=release.delay, ttl=release.ttl, token=release.token)


def _pack_select(select: Select) -> bytes:
    verdict = Verdict.NEW if select.verdict is None else select.verdict
    return _pack(b"l", ts=select.since, number=_VERDICTS.index(verdict))


def _pack_import(copy: Import) -> bytes:
    return _pack(b"y", span=copy.deadline, ts=copy.expires_at, text=copy.value)


_PACK: dict[type[Operation[Any]], Callable[[Any], bytes]] = {
    IsSeen: lambda _: _pack_without_token(b"i"),
    Get: lambda _: _pack_without_token(b"g"),
    Mark: lambda mark: _pack(b"m", ttl=mark.ttl, ts=mark.ts, text=mark.note),
    CheckAndMark: _pack_check_and_mark,
    Refresh: lambda refresh: _pack_without_token(b"e", refresh.ttl),
    Acquire: _pack_acquire,
    Confirm: _pack_confirm,
    Renew: _pack_renew,
    Release: _pack_release,
    Resolve: lambda resolve: _pack_without_token(
        b"h" if resolve.is_handled else b"u", resolve.ttl
    ),
    Forget: lambda _: _pack_without_token(b"f"),
    Clear: lambda _: _pack_without_token(b"f"),
    Cleanup: lambda cleanup: _pack(b"o", span=cleanup.age),
    Select: _pack_select,
    Discard: lambda discard: _pack(b"d", token=discard.token),
    Export: lambda _: _pack_without_token(b"x"),
    Import: _pack_import,
    Rename: lambda _: _pack_without_token(b"v"),
    Remove: lambda remove: _pack(b"z", ts=remove.expires_at, text=remove.value),
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


class KeyReply(NamedTuple):
    """The part of a reply that concerns one operation.

    Attributes:
        verdict: The state of the key before the operation.
        is_done: Whether the operation took effect.
        row: The row that it left, without the token, which the script does not return,
            and with its note only where the result has one.
        is_foreign: Whether the key belongs to another program, and is untouched.
        refusal: The error for which the server refused to change the key.
        value: The value of an exported key.
    """

    verdict: Verdict
    is_done: bool
    row: Row | None
    is_foreign: bool
    refusal: ResponseError | None
    value: bytes | None = None


def unpack(reply: bytes, operations: int) -> Iterator[KeyReply]:
    """Decode the record of each operation, in order."""
    texts = _NOW.size + operations * _RECORD.size
    for (
        verdict,
        flags,
        first_seen,
        last_seen,
        expires_at,
        lease_until,
        attempt,
        policy,
    ) in _RECORD.iter_unpack(memoryview(reply)[_NOW.size : texts]):
        row = text = None
        if flags & (_NOTED | _EXPORTED):
            (size,) = _SIZE.unpack_from(reply, texts)
            texts += _SIZE.size + size
            text = reply[texts - size : texts]
        if flags & _STORED:
            row = Row(
                first_seen,
                last_seen,
                None if expires_at == _NONE else expires_at,
                None,
                attempt,
                None if lease_until == _NONE else lease_until,
                _POLICIES[policy],
                text.decode() if text and flags & _NOTED else None,
            )
        yield KeyReply(
            _VERDICTS[verdict],
            bool(flags & _DONE),
            row,
            bool(flags & _FOREIGN),
            _REFUSALS[verdict] if flags & _REFUSED else None,
            text if flags & _EXPORTED else None,
        )
