"""The replies of the script: a record for each key, or one for all of a ``ForEach``."""

from __future__ import annotations

import sys
from array import array
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import OutOfMemoryError, ResponseError

from ..._types import ON_ABANDONED, OnAbandoned
from ..._verdict import Verdict
from ..operations import Acquire, AllSeen, CheckAndMark, Listed, Operation, Row
from .runs import Each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .runs import Run

_SIZE = Struct("<I")
_NOW = Struct("<d")
_RECORD = Struct("<BBddddIB")
_DONE, _STORED, _FOREIGN, _REFUSED, _NOTED, _EXPORTED = 1, 2, 4, 8, 16, 32
_LISTED, _WITH_ERROR = 64, 128
_OBSERVED = Listed()  # the results do not need more
_NONE = -1.0
REFUSALS = (
    OutOfMemoryError("command not allowed when used memory > 'maxmemory'"),
    ResponseError("MISCONF the server cannot write to its disk, and refuses changes"),
    ResponseError("NOREPLICAS not enough good replicas to write"),
)
"""The error of a command, by the number in ``REFUSALS`` of the script."""
VERDICTS = tuple(Verdict)
PENDING = len(VERDICTS)
"""The state of a key that was observed, and not claimed yet."""
POLICIES: tuple[OnAbandoned | None, ...] = (None, *ON_ABANDONED)

_EARLIEST = Struct("<d")
_INSTANTS = 16  # bytes of two instants
_HAVE_INSTANTS = (Acquire, CheckAndMark)
_CLAIMED = Struct("<Id")
# The code of a key: its verdict, and these, of which the last two replace it.
EACH_DONE, _EACH_CLAIM, _EACH_NOTE, _EACH_FOREIGN, _EACH_REFUSED = 8, 16, 32, 64, 128
EACH_VERDICT = 7


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


class EachReply(NamedTuple):
    """The part of a reply that concerns a ``ForEach``.

    Attributes:
        earliest: When the first of the keys expires; ``None`` is never, and 0 means
            that not all of them are seen.
        codes: A byte for each key: the verdict, and what else is known.
        instants: ``first_seen`` and ``last_seen`` of one key after the other, where the
            results need them.
        claims: Attempt, lease and note of some keys, by their number; the other ones
            have none, or the results do not need it.
    """

    earliest: float | None
    codes: bytes
    instants: array[float] | None
    claims: dict[int, Row]

    @property
    def has_failures(self) -> bool:
        """Did the operation fail on a key?"""
        return max(self.codes) >= _EACH_FOREIGN

    def of_key(self, number: int) -> KeyReply:
        """Return what is known of one key."""
        code = self.codes[number]
        row = self.claims.get(number, _NO_CLAIM)
        if self.instants is not None:
            first_seen, last_seen = self.instants[2 * number : 2 * number + 2]
            row = row._replace(first_seen=first_seen, last_seen=last_seen)
        return KeyReply(
            VERDICTS[code & EACH_VERDICT],
            bool(code & EACH_DONE),
            row,
            code == _EACH_FOREIGN,
            REFUSALS[code - _EACH_REFUSED] if code >= _EACH_REFUSED else None,
        )

    def all_seen(self, now: float) -> AllSeen | None:
        """Summarize the rows; ``None`` unless all keys are seen."""
        if self.earliest is not None and self.earliest <= now:
            return None
        if self.instants is None:
            return AllSeen(self.earliest)
        attempts: list[int] = []
        if self.claims:
            rows = (self.claims.get(one, _NO_CLAIM) for one in range(len(self.codes)))
            attempts = [row.attempt for row in rows]
        first_seen, last_seen = self.instants[::2], self.instants[1::2]
        return AllSeen.at(self.earliest, first_seen, last_seen, attempts)


_NO_CLAIM = Row(0.0, 0.0, None)


def server_time(reply: bytes) -> float:
    """Return the server's time when the script ran."""
    (now,) = _NOW.unpack_from(reply)
    return float(now)


def unpack(reply: bytes, runs: Sequence[Run]) -> list[EachReply | list[KeyReply]]:
    """Decode the reply to each run: that of a ``ForEach``, or of each operation."""
    at = _NOW.size
    texts = at + sum(map(_size, runs))
    replies: list[EachReply | list[KeyReply]] = []
    for run in runs:
        keys = len(run.names)
        if isinstance(run, Each):
            each, texts = _unpack_each(reply, at, run.operation, keys, texts)
            replies.append(each)
        else:
            singles, texts = _unpack_singles(reply, at, keys, texts)
            replies.append(singles)
        at += _size(run)
    return replies


def _size(run: Run) -> int:
    """Return the size of the records of a run, without what follows all of them."""
    keys = len(run.names)
    if isinstance(run, Each):
        has_instants = type(run.operation) in _HAVE_INSTANTS
        return _EARLIEST.size + keys + (_INSTANTS * keys if has_instants else 0)
    return _RECORD.size * keys


def _unpack_singles(
    reply: bytes, at: int, operations: int, texts: int
) -> tuple[list[KeyReply], int]:
    replies = []
    for (
        verdict,
        flags,
        first_seen,
        last_seen,
        expires_at,
        lease_until,
        attempt,
        policy,
    ) in _RECORD.iter_unpack(memoryview(reply)[at : at + operations * _RECORD.size]):
        row = text = error = None
        if flags & (_NOTED | _EXPORTED):
            text, texts = _unpack_text(reply, texts)
        if flags & _WITH_ERROR:
            error, texts = _unpack_text(reply, texts)
        if flags & _STORED:
            row = Row(
                first_seen,
                last_seen,
                None if expires_at == _NONE else expires_at,
                None,
                attempt,
                None if lease_until == _NONE else lease_until,
                POLICIES[policy],
                text.decode() if text and flags & _NOTED else None,
                _OBSERVED if flags & _LISTED else None,
                error.decode() if error else None,
            )
        replies.append(
            KeyReply(
                VERDICTS[verdict],
                bool(flags & _DONE),
                row,
                bool(flags & _FOREIGN),
                REFUSALS[verdict] if flags & _REFUSED else None,
                text if flags & _EXPORTED else None,
            )
        )
    return replies, texts


def _unpack_text(reply: bytes, at: int) -> tuple[bytes, int]:
    """Return a text, and where the next one begins."""
    (size,) = _SIZE.unpack_from(reply, at)
    start = at + _SIZE.size
    return reply[start : start + size], start + size


def _unpack_each(
    reply: bytes, at: int, operation: Operation[Any], keys: int, texts: int
) -> tuple[EachReply, int]:
    (earliest,) = _EARLIEST.unpack_from(reply, at)
    at += _EARLIEST.size
    codes, instants = reply[at : at + keys], None
    if type(operation) in _HAVE_INSTANTS:
        at += keys
        instants = array("d")
        instants.frombytes(reply[at : at + _INSTANTS * keys])
        if sys.byteorder == "big":
            instants.byteswap()
    claims = {}
    if max(codes) >= _EACH_CLAIM:
        for number, code in enumerate(codes):
            if code < _EACH_FOREIGN and code & _EACH_CLAIM:
                claims[number], texts = _unpack_claim(reply, code, texts)
    expires_at = None if earliest == _NONE else earliest
    return EachReply(expires_at, codes, instants, claims), texts


def _unpack_claim(reply: bytes, code: int, at: int) -> tuple[Row, int]:
    attempt, lease = _CLAIMED.unpack_from(reply, at)
    note, at = None, at + _CLAIMED.size
    if code & _EACH_NOTE:
        text, at = _unpack_text(reply, at)
        note = text.decode()
    lease_until = None if lease == _NONE else lease
    return Row(0.0, 0.0, None, None, attempt, lease_until, None, note), at
