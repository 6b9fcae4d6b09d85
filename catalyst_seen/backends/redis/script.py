"""The script that executes the state table, and the wire format of its calls.

``script.lua`` decides; ``rows.lua``, which precedes it, reads and writes the values.
``replies`` decodes what they return.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, Any

from ..._verdict import Verdict
from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Hold,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
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
from .replies import PENDING, POLICIES, VERDICTS
from .runs import Each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .runs import Run


class Script:
    """A Lua script, and the SHA-1 digest under which the server caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _load(*names: str) -> Script:
    folder = resources.files(__package__)
    return Script("\n".join(folder.joinpath(name).read_text("utf-8") for name in names))


SCRIPT = _load("rows.lua", "script.lua")
LISTINGS = _load("rows.lua", "listings.lua")
TRANSFER = _load("rows.lua", "transfer.lua")

# Verb; lease, delay, age or deadline; TTL; ts; on_abandoned or state; length of the
# token, and of the text, both of which follow.
_OPERATION = Struct("<cdddBBI")
_COUNT = Struct("<I")
_EACH, _TOKENS = 2**31, 2**30  # added to the number of keys of a ForEach
_NONE = -1.0
_NO_TEXT = 2**32 - 1
_POLICY = {policy: number for number, policy in enumerate(POLICIES)}


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
    return _pack(
        b"r",
        span=release.delay,
        ttl=release.ttl,
        number=not release.is_counted,
        token=release.token,
        text=release.error,
    )


def _pack_select(select: Select) -> bytes:
    number = PENDING
    if not select.is_pending:
        verdict = Verdict.NEW if select.verdict is None else select.verdict
        number = VERDICTS.index(verdict)
    return _pack(b"l", ts=select.since, number=number)


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
    Hold: lambda hold: _pack(b"w", token=hold.token, text=hold.error),
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


def pack(runs: Sequence[Run]) -> bytes:
    """Encode the operations of a script call; equal neighbours are encoded once."""
    return b"".join(part for run in runs for part in _pack_run(run))


def _pack_run(run: Run) -> Iterator[bytes]:
    if isinstance(run, Each):
        operation, keys = _PACK[type(run.operation)](run.operation), len(run.names)
        if run.tokens is None:
            yield _COUNT.pack(_EACH + keys) + operation
        else:
            tokens = [token.encode() for token in run.tokens]
            yield _COUNT.pack(_EACH + _TOKENS + keys) + operation
            yield bytes(map(len, tokens))
            yield b"".join(tokens)
        return
    packed = [_PACK[type(one)](one) for one in run.operations]
    for operation, same in groupby(packed):
        yield _COUNT.pack(len(list(same)))
        yield operation
