"""The values of rows and sources, as ``rows.lua`` describes them.

The script that executes the operations packs and parses the values itself. What a
listing changes is decided in Python, which reads values and writes them back.
"""

from __future__ import annotations

import json
import struct
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from ..listings import SourceState
from ..operations import Listed, Row
from .replies import POLICIES

if TYPE_CHECKING:
    from ..._types import OnAbandoned

_PLAIN, _WIDE = 197, 198
_MARK, _SEEN, _CLAIM = Struct("<d"), Struct("<ddH"), Struct("<ddHdB")
_KINDS = {b"m": _MARK, b"s": _SEEN, b"c": _CLAIM}
_WIDE_HEAD = Struct("<BBBdIddIHH")
_M, _S, _C = b"msc"
_NOTED = 32
"""The difference between a letter and its capital."""
_MOST = 65_535
"""Attempts have two bytes."""
_NONE = -1.0
_POLICY = {policy: number for number, policy in enumerate(POLICIES)}

_SOURCE, _LOCKED = b"\xc6q", b"\xc6w"
"""How the value of a source begins; that of one whose keys are being moved."""


class ForeignValueError(Exception):
    """A value is that of another program."""


class Stored(NamedTuple):
    """A value that was read.

    Attributes:
        raw: Its first bytes, with all texts but the note; empty if there is none.
        row: The row in it, without its note; ``None`` if there is none.
        note_at: The position of the note, counted from 1; 0 if there is none.
    """

    raw: bytes
    row: Row | None
    note_at: int

    def at(self, now: float) -> Stored:
        """Return what there is at a time: no row that has expired."""
        row = self.row
        if row is None or row.expires_at is None or row.expires_at > now:
            return self
        return Stored(self.raw, None, 0)


ABSENT = Stored(b"", None, 0)


def decode(raw: bytes, expires_at: float | None) -> Stored:
    """Decode a value.

    Raises:
        ForeignValueError: It is that of another program.
    """
    try:
        if raw[0] == _WIDE:
            return _decode_wide(raw, expires_at)
        if raw[0] == _PLAIN:
            return _decode_plain(raw, expires_at)
    except (KeyError, IndexError, struct.error) as exc:
        raise ForeignValueError from exc
    raise ForeignValueError


def _decode_plain(raw: bytes, expires_at: float | None) -> Stored:
    letter = raw[1:2]
    (first, last, attempt, until, policy), at = _numbers(raw, letter.lower(), 2)
    note_at = 0
    if letter.islower():
        token = raw[at:]
    else:
        note_at = at + 2 + raw[at]
        token = raw[at + 1 : note_at - 1]
    row = Row(first, last, expires_at, _text(token), attempt, until, policy)
    return Stored(raw, row, note_at)


def _decode_wide(raw: bytes, expires_at: float | None) -> Stored:
    _, _, flag, seq, poll, clock, kept, *sizes = _WIDE_HEAD.unpack_from(raw)
    (first, last, attempt, until, policy), at = _numbers(raw, raw[1:2], _WIDE_HEAD.size)
    end = at + 1 + raw[at]
    texts = [raw[at + 1 : end]]
    for size in sizes:
        texts.append(raw[end : end + size])
        end += size
    token, alias, digest, error = map(_text, texts)
    listed = None
    if flag:
        number = None if seq == _NONE else int(seq)
        listed = Listed(number, poll, _opt(clock), _opt(kept), alias, digest)
    row = Row(
        first, last, expires_at, token, attempt, until, policy, None, listed, error
    )
    return Stored(raw, row, end + 1)


_Numbers = tuple[float, float, int, float | None, "OnAbandoned | None"]
"""First and last instant, attempt, lease, and policy."""


def _numbers(raw: bytes, letter: bytes, at: int) -> tuple[_Numbers, int]:
    """Return the numbers of a letter, and where they end."""
    kind = _KINDS[letter]
    numbers = kind.unpack_from(raw, at)
    at += kind.size
    if kind is _MARK:
        return (numbers[0], numbers[0], 0, None, None), at
    if kind is _SEEN:
        return (*numbers, None, None), at
    *others, policy = numbers
    return (*others, POLICIES[policy]), at


def decode_whole(value: bytes, expires_at: float | None) -> Row:
    """Decode a whole value, with its note.

    Raises:
        ForeignValueError: It is that of another program.
    """
    _, row, note_at = decode(value, expires_at)
    assert row is not None  # noqa: S101 - there is a value
    if not note_at:
        return row
    return row._replace(note=_text(value[note_at - 1 :]))


def encode_whole(row: Row) -> bytes:
    """Encode a row, with its note."""
    note = (row.note or "").encode()
    if row.listed is not None or row.error:
        return encode(row) + note
    letter, numbers = _packed_numbers(row)
    token = (row.token or "").encode()
    if not note:
        return bytes((_PLAIN, letter)) + numbers + token
    head = bytes((_PLAIN, letter - _NOTED))
    return b"".join((head, numbers, bytes((len(token),)), token, note))


def _packed_numbers(row: Row) -> tuple[int, bytes]:
    """Return the letter of a row, and its numbers."""
    first, last, attempt = row.first_seen, row.last_seen, min(row.attempt, _MOST)
    if row.lease_until is not None:
        policy = _POLICY[row.on_abandoned]
        return _C, _CLAIM.pack(first, last, attempt, row.lease_until, policy)
    if attempt or last != first:
        return _S, _SEEN.pack(first, last, attempt)
    return _M, _MARK.pack(first)


def encode(row: Row) -> bytes:
    """Encode a row that has an error, or of a key that was observed.

    The note, which follows, is not encoded.
    """
    listed = row.listed or Listed()
    texts = [(text or "").encode() for text in (listed.alias, listed.digest, row.error)]
    letter, numbers = _packed_numbers(row)
    head = _WIDE_HEAD.pack(
        _WIDE,
        letter,
        row.listed is not None,
        _NONE if listed.seq is None else listed.seq,
        listed.poll,
        _NONE if listed.clock is None else listed.clock,
        _NONE if listed.kept_until is None else listed.kept_until,
        *map(len, texts),
    )
    token = (row.token or "").encode()
    return b"".join((head, numbers, bytes((len(token),)), token, *texts))


def decode_source(value: bytes) -> tuple[SourceState | None, bool]:
    """Return the state of a source, and whether it is locked.

    Raises:
        ForeignValueError: The value is that of another program.
    """
    if not value:
        return None, False
    if value[:2] not in {_SOURCE, _LOCKED}:
        raise ForeignValueError
    return SourceState.of(json.loads(value[2:])), value[:2] == _LOCKED


def encode_source(state: SourceState) -> bytes:
    """Encode the state of a source."""
    text = json.dumps(state.columns(), separators=(",", ":"), ensure_ascii=False)
    return _SOURCE + text.encode()


def locked(value: bytes) -> bytes:
    """Return the value of a source whose keys are moved, or removed."""
    return _LOCKED + value[2:]


def unlocked(value: bytes) -> bytes:
    """Return the value of a source that can be observed."""
    return _SOURCE + value[2:]


def _text(encoded: bytes) -> str | None:
    return encoded.decode() or None


def _opt(number: float) -> float | None:
    return None if number == _NONE else number
