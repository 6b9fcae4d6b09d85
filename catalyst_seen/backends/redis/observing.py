"""Requests of ``listings.lua``: what a source knows, and how a listing changes it."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from ..._errors import SchemaError
from ..._pause import pause
from .errors import foreign_key, translate
from .replies import REFUSALS, server_time
from .scan import scan_pages
from .script import LISTINGS
from .values import ABSENT, ForeignValueError, decode, decode_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._observation import Expiry
    from ..listings import SourceState
    from .keys import KeyCodec
    from .pipeline import Arg
    from .session import Session
    from .values import Stored

_TIME = 8  # bytes at the beginning of each reply
_CHUNK = 1_000
"""Keys of one script call that reads: the server blocks other clients meanwhile."""
_NAMES = 10_000
"""The same, of one that returns only names."""

_SIZE, _EXPIRES = Struct("<I"), Struct("<d")
_PAGE, _MEMBER, _RANGE = Struct("<dI"), Struct("<dH"), Struct("<II")
_COMMIT, _ENTRY = Struct("<IIIddddd"), Struct("<IdII")
_STATUS, _WAITING = Struct("<dBId"), Struct("<Id")
_DONE, _CONFLICT, _REFUSED = range(3)
_NONE = -1.0


class State(NamedTuple):
    """What is stored of a source.

    Attributes:
        value: Its value; empty if there is none.
        state: The state in it.
        is_locked: Are its keys being moved, or removed?
        listed: Number of keys that are listed.
    """

    value: bytes
    state: SourceState | None
    is_locked: bool
    listed: int


class Member(NamedTuple):
    """A key that waits to be handled."""

    seq: int
    key: str
    stored: Stored


class Left(NamedTuple):
    """Keys that are listed no more, and the last poll that listed them."""

    keys: Sequence[str] = ()
    poll: int = 0
    clock: float = 0.0


class Entry(NamedTuple):
    """A row to write.

    Attributes:
        key: Its key.
        before: What was read under this key.
        head: Its value without the note.
        seq: Its order, if it waits to be handled.
        note: Its note; ``None`` keeps that of the row before.
        old_key: The key that it had, if that changes.
        old: What was read under that.
    """

    key: str
    before: Stored
    head: bytes
    seq: int | None
    note: str | None = None
    old_key: str | None = None
    old: Stored = ABSENT

    def pack(self) -> bytes:
        """Encode it."""
        kept = self.before if self.old_key is None else self.old
        note = (self.note or "").encode()
        seq = _NONE if self.seq is None else self.seq
        head = _ENTRY.pack(
            kept.note_at if self.note is None else 0,
            seq,
            len(self.before.raw),
            len(self.head),
        )
        return b"".join((head, self.before.raw, self.head, note))


class Commit(NamedTuple):
    """What one script call writes, all or nothing.

    Attributes:
        before: The value of the source that was read.
        after: Its new value.
        entries: The rows to write.
        left: The keys that are listed no more.
        expiry: Which absent keys end; ``None`` if that is not due.
    """

    before: bytes
    after: bytes
    entries: Sequence[Entry] = ()
    left: Left = Left()
    expiry: Expiry | None = None

    def numbers(self) -> bytes:
        """Encode how much there is of what, and when a key ends."""
        moved = sum(entry.old_key is not None for entry in self.entries)
        sizes = len(self.entries), moved, len(self.left.keys)
        expiry = self.expiry or (0, 0.0, _NONE)
        return _COMMIT.pack(*sizes, self.left.poll, self.left.clock, *expiry)


class Waits(NamedTuple):
    """How many keys wait to be handled, and when the first of them was observed."""

    pending: int
    oldest: float | None


class Observing:
    """Reads and writes the sources of an open store."""

    def __init__(self, session: Session, codec: KeyCodec) -> None:
        self.session = session
        self.codec = codec

    async def read(
        self, namespace: str, keys: Sequence[str]
    ) -> tuple[State, dict[str, Stored], float]:
        """Read a source and then rows; return also the time at the end.

        Raises:
            SchemaError: A value is that of another program.
        """
        source = self.codec.source(namespace)
        names = self.codec.encode_all(namespace, keys)
        replies = await self.session.call(
            LISTINGS,
            [
                (source, _args("state")),
                *(
                    (names[first : first + _CHUNK], _args("rows"))
                    for first in range(0, len(names), _CHUNK)
                ),
            ],
        )
        state = self._state(replies[0])
        rows: dict[str, Stored] = {}
        for number, reply in enumerate(replies[1:]):
            part = keys[number * _CHUNK : (number + 1) * _CHUNK]
            at = _TIME
            for key in part:
                stored, at = self._value(reply, at, key)
                if stored.raw:
                    rows[key] = stored
            await pause(0)  # other tasks of the loop run between two chunks
        return state, rows, max(map(server_time, replies))

    async def state(self, namespace: str) -> State:
        """Read a source."""
        state, _, _ = await self.read(namespace, ())
        return state

    async def names(self) -> list[str]:
        """List the namespaces that have a source, by a scan of all keys."""
        found: dict[str, None] = {}
        async for names in scan_pages(self.session, self.codec.sources()):
            spaces = map(self.codec.sourced, names)
            found |= dict.fromkeys(space for space in spaces if space)
        return list(found)

    async def states(self, namespaces: Sequence[str]) -> list[State]:
        """Read some sources in one round trip."""
        return list(map(self._state, await self._ask_all(namespaces, "state")))

    async def first_pages(
        self, namespaces: Sequence[str], limit: int
    ) -> list[tuple[list[Member], float]]:
        """Read the first page of each of some sources in one round trip."""
        replies = await self._ask_all(namespaces, "page", _PAGE.pack(-1, limit))
        return list(map(self._members, replies))

    async def listed(self, namespace: str) -> list[str]:
        """Read the keys that are listed."""
        keys: list[str] = []
        while True:
            numbers = _RANGE.pack(len(keys), _NAMES)
            reply = await self._ask(namespace, "listed", numbers)
            found = reply[_TIME:].decode().split("\0") if reply[_TIME:] else []
            keys += found
            if len(found) < _NAMES:
                return list(dict.fromkeys(keys))

    async def page(
        self, namespace: str, after: int, limit: int
    ) -> tuple[list[Member], float]:
        """Read keys that wait to be handled, in their order; and the time."""
        numbers = _PAGE.pack(after, limit)
        return self._members(await self._ask(namespace, "page", numbers))

    def _members(self, reply: bytes) -> tuple[list[Member], float]:
        members, at = [], _TIME
        while at < len(reply):
            seq, size = _MEMBER.unpack_from(reply, at)
            at += _MEMBER.size
            key = reply[at : at + size].decode()
            stored, at = self._value(reply, at + size, key)
            members.append(Member(int(seq), key, stored))
        return members, server_time(reply)

    async def waits(self, namespace: str) -> Waits:
        """Count the keys that wait to be handled."""
        reply = await self._ask(namespace, "waiting")
        return _waits(*_WAITING.unpack_from(reply, _TIME))

    async def drop(self, namespace: str) -> None:
        """Remove a source, whose keys are gone, and its indexes."""
        names = self.codec.source(namespace)
        await self.session.call(LISTINGS, [(names, _args("drop"))], is_change=True)

    async def commit(self, namespace: str, commit: Commit) -> Waits | None:
        """Write a source and rows, all or nothing.

        Returns:
            What waits then; ``None`` if the source or a row is not as it was read, and
            nothing was written.

        Raises:
            StoreUnavailableError: The server refuses it; nothing was written.
        """
        encode_all = self.codec.encode_all
        # What is moved comes first, so that old names and entries have the same order.
        entries = sorted(commit.entries, key=lambda entry: entry.old_key is None)
        moved = [entry for entry in entries if entry.old_key is not None]
        names = [
            *self.codec.source(namespace),
            *encode_all(namespace, (entry.key for entry in entries)),
            *encode_all(namespace, (entry.old_key or "" for entry in moved)),
            *encode_all(namespace, commit.left.keys),
        ]
        args = _args("commit", commit.numbers())
        args += [commit.before, commit.after]
        args += [entry.pack() for entry in entries]
        args += [entry.old.raw for entry in moved]
        (reply,) = await self.session.call(LISTINGS, [(names, args)], is_change=True)
        _, status, pending, oldest = _STATUS.unpack_from(reply)
        if status == _CONFLICT:
            return None
        if status >= _REFUSED:
            refusal = REFUSALS[status - _REFUSED]
            raise translate(refusal, self.session.location) from refusal
        return _waits(pending, oldest)

    async def _ask(self, namespace: str, task: str, numbers: bytes = b"") -> bytes:
        (reply,) = await self._ask_all([namespace], task, numbers)
        return reply

    async def _ask_all(
        self, namespaces: Sequence[str], task: str, numbers: bytes = b""
    ) -> list[bytes]:
        source = self.codec.source
        calls = [(source(name), _args(task, numbers)) for name in namespaces]
        return await self.session.call(LISTINGS, calls)

    def _state(self, reply: bytes) -> State:
        (listed,) = _SIZE.unpack_from(reply, _TIME)
        value = reply[_TIME + _SIZE.size :]
        try:
            state, is_locked = decode_source(value)
        except (ForeignValueError, ValueError) as exc:
            raise SchemaError(
                self.session.location,
                "the key that holds the state of a source is another program's, or that"
                " of a newer release",
                "It is untouched; choose another prefix, or install that release",
            ) from exc
        return State(value, state, is_locked, listed)

    def _value(self, reply: bytes, at: int, key: str) -> tuple[Stored, int]:
        (size,) = _SIZE.unpack_from(reply, at)
        at += _SIZE.size
        if not size:
            return ABSENT, at
        (expires,) = _EXPIRES.unpack_from(reply, at)
        at += _EXPIRES.size
        expires_at = None if expires < 0 else expires
        try:
            return decode(reply[at : at + size], expires_at), at + size
        except ForeignValueError as exc:
            raise foreign_key(self.session.location, key) from exc


def _args(task: str, numbers: bytes = b"") -> list[Arg]:
    return [task, numbers, ""]  # the last one is the time, when it is sent


def _waits(pending: int, oldest: float) -> Waits:
    return Waits(pending, None if oldest == _NONE else oldest)
