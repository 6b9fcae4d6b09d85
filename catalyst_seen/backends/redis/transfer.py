"""Rows and the states of sources as they are stored, for a move to another database.

Values are read and written whole, by ``transfer.lua``: a call for the keys of one slot,
and never for so many that others wait for long.
"""

from __future__ import annotations

from collections import defaultdict
from struct import Struct
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ..._errors import SchemaError, StoreUnavailableError
from ..._pause import pause
from ..base import StoredPage, StoredRow
from .errors import foreign_key, translate
from .layout import is_marked
from .replies import REFUSALS
from .scan import scan_pages
from .script import TRANSFER
from .slots import assignment, check_unmoved, steady_page
from .values import ForeignValueError, decode_whole, encode_source, encode_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..base import Cursor
    from ..listings import SourceState
    from ..operations import Id, Row
    from .keys import KeyCodec
    from .observing import Observing
    from .pipeline import Arg

_TIME = 8  # bytes at the beginning of each reply
_KEYS, _BYTES = 500, 1_000_000
"""Keys and bytes of one call: the server blocks other clients meanwhile."""
_CALLS = 500
"""Script calls that write, or sources that are read, in one round trip."""

_HEAD, _EXPIRES, _STATUS = Struct("<Id"), Struct("<d"), Struct("<dBI")
_DONE, _FOREIGN, _LOCKED, _REFUSED = range(4)
_NONE = -1.0

T = TypeVar("T")
_Call = tuple[list[bytes], list["Arg"]]


class Transfer:
    """Reads and writes the rows and the sources of an open store."""

    def __init__(self, observing: Observing) -> None:
        self._observing = observing
        self._session = observing.session
        self._codec: KeyCodec = observing.codec

    async def read_rows(self, limit: int, cursor: Cursor | None) -> StoredPage:
        """Return the rows among the next ``limit`` Redis keys.

        Raises:
            StoreUnavailableError: Slots have moved meanwhile: rows may be missing.
        """
        if cursor is None:
            await self._check_layout()
        pattern = self._codec.pattern(None)
        names, after = await steady_page(self._session, pattern, cursor, limit)
        ids = {name: id_ for name in names if (id_ := self._codec.decode(name))}
        found = await self._read(list(ids))
        rows = [StoredRow(*ids[name], row) for name, row in found.items()]
        return StoredPage(rows, after)

    async def read_rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        """Return the rows of keys, in order."""
        names = [self._codec.encode(*id_) for id_ in ids]
        found = await self._read(list(dict.fromkeys(names)))
        return [found.get(name) for name in names]

    async def write_rows(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows; all or nothing for the keys of one call."""
        await self._check_layout()
        last = dict(rows)
        entries = {self._codec.encode(*id_): _entry(row) for id_, row in last.items()}
        await self._write(
            [
                (part, ["write", "", "", *(entries[name] for name in part)])
                for part in self._parts(list(entries), entries)
            ]
        )

    async def read_source_states(self) -> dict[str, SourceState]:
        """Return the states of all namespaces that have one.

        Raises:
            StoreUnavailableError: One of them is being renamed, or cleared; or slots
                have moved meanwhile.
        """
        await self._check_layout()
        before = await assignment(self._session)
        names: dict[str, None] = {}
        async for page in scan_pages(self._session, self._codec.states()):
            for name in page:
                self._check_not_renamed(name)
                space = self._codec.sourced(name)
                if space is not None:
                    names[space] = None
        await check_unmoved(self._session, before)
        found = {}
        for some in _chunks(list(names), _CALLS):
            for space, read in zip(
                some, await self._observing.states(some), strict=True
            ):
                if read.is_locked:
                    raise self._locked(space)
                if read.state is not None:
                    found[space] = read.state
        return found

    async def write_source_states(
        self, states: Mapping[str, SourceState | None]
    ) -> None:
        """Replace the states of sources, each one by itself."""
        await self._check_layout()
        await self._write(
            [
                (
                    self._codec.source(name),
                    ["source", "", "", encode_source(state) if state else b""],
                )
                for name, state in states.items()
            ]
        )

    async def _write(self, calls: Sequence[_Call]) -> None:
        """Send script calls that write, many in a round trip."""
        for some in _chunks(calls, _CALLS):
            replies = await self._session.call(TRANSFER, some, is_change=True)
            for (names, _), reply in zip(some, replies, strict=True):
                self._check(reply, names)

    async def _read(self, names: list[bytes]) -> dict[bytes, Row]:
        """Return the rows of Redis keys, those of other programs left out.

        A reply that is long ends early, and what is missing is asked for again.
        """
        rows: dict[bytes, Row] = {}
        while names:
            parts = list(self._parts(names))
            replies = await self._session.call(
                TRANSFER, [(part, ["read", "", ""]) for part in parts]
            )
            names = []
            for part, reply in zip(parts, replies, strict=True):
                names += part[self._unpack(reply, part, rows) :]
                await pause(0)  # other tasks of the loop run between two replies
        return rows

    def _unpack(self, reply: bytes, part: list[bytes], rows: dict[bytes, Row]) -> int:
        """Add the rows of a reply; return the number of values in it."""
        at, number = _TIME, 0
        while at < len(reply):
            size, expires = _HEAD.unpack_from(reply, at)
            at += _HEAD.size
            if size:
                expires_at = None if expires == _NONE else expires
                try:
                    row = decode_whole(reply[at : at + size], expires_at)
                except ForeignValueError as exc:
                    _, key = self._codec.decode(part[number]) or ("", "")
                    raise foreign_key(self._session.location, key) from exc
                rows[part[number]] = row
            at += size
            number += 1
        return number

    def _parts(
        self, names: Sequence[bytes], entries: Mapping[bytes, bytes] | None = None
    ) -> Iterator[list[bytes]]:
        """Divide Redis keys: those of a part are in one slot, and not too many."""
        by_slot: defaultdict[int, list[bytes]] = defaultdict(list)
        for name in names:
            by_slot[self._session.topology.slot(name)].append(name)
        for same in by_slot.values():
            part: list[bytes] = []
            size = 0
            for name in same:
                size += len(entries[name]) if entries else 0
                if part and (len(part) == _KEYS or size > _BYTES):
                    yield part
                    part, size = [], len(entries[name]) if entries else 0
                part.append(name)
            yield part

    async def _check_layout(self) -> None:
        if not await is_marked(self._session, self._codec):
            raise StoreUnavailableError(
                self._session.location,
                "the names of its keys are not all of the present layout: another"
                " program moves them, or that was not completed",
                "Wait, or open the store again, which completes it",
            )

    def _check_not_renamed(self, name: bytes) -> None:
        space = self._codec.renamed(name)
        if space is not None:
            raise StoreUnavailableError(
                self._session.location,
                f"a namespace is being renamed to {space!r}, or that was not completed",
                "Wait, or call rename again, which completes it",
            )

    def _locked(self, namespace: str | None) -> StoreUnavailableError:
        return StoreUnavailableError(
            self._session.location,
            f"the namespace {namespace!r} is being renamed, or cleared, or that was not"
            " completed",
            "Wait, or call rename or clear again, which completes it",
        )

    def _check(self, reply: bytes, names: Sequence[bytes]) -> None:
        _, status, number = _STATUS.unpack_from(reply)
        if status != _DONE:
            self._raise(status, names[number - 1])

    def _raise(self, status: int, name: bytes) -> NoReturn:
        location = self._session.location
        if status >= _REFUSED:
            refusal = REFUSALS[status - _REFUSED]
            raise translate(refusal, location) from refusal
        if status == _LOCKED:
            raise self._locked(self._codec.sourced(name))
        id_ = self._codec.decode(name)
        if id_ is not None:
            raise foreign_key(location, id_[1])
        raise SchemaError(
            location,
            f"{name.decode(errors='replace')!r} is the key of another program",
            "It is untouched; choose another prefix",
        )


def _entry(row: Row | None) -> bytes:
    """Encode what is written; a key that was observed has no native expiry."""
    if row is None:
        return _EXPIRES.pack(_NONE)
    expires = _NONE
    if row.expires_at is not None and row.listed is None:
        expires = row.expires_at
    return _EXPIRES.pack(expires) + encode_whole(row)


def _chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
