"""Counts and lists of keys, by scans that run beside other calls."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING

from ..._logging import log
from ..._verdict import Verdict
from .._state_machine import counted_claim, to_record
from ..base import BackendStats, ClaimCounts, RecordPage
from ..operations import IsSeen
from .administration import Select
from .keys import OldKeyCodec
from .scan import scan_page, scan_pages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from ..._types import RecordState
    from ..base import Cursor, Selection
    from ..operations import Id, Row
    from .keys import KeyCodec
    from .session import Session

_VERDICTS: dict[RecordState, Verdict] = {
    "seen": Verdict.DUPLICATE,
    "claimed": Verdict.IN_FLIGHT,
    "released": Verdict.RETRY,
    "held": Verdict.HELD,
}


class Inspection:
    """Counts and lists the keys of an open store."""

    def __init__(self, session: Session, codec: KeyCodec, prefix: str) -> None:
        self._session = session
        self._codec = codec
        self._old = OldKeyCodec(prefix)
        self._old_names = 0

    def problems(self) -> list[str]:
        """Return what the last scan of all namespaces found that needs an operator."""
        if not self._old_names:
            return []
        problem = (
            f"{self._old_names} keys have names of an older release, which no store of"
            " this one reads: stop the programs that use it, delete the key"
            f" {self._codec.layout.decode()!r}, and open a store, which moves them"
        )
        return [problem]

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        """Count the seen keys of each namespace that has any."""
        counts: Counter[str] = Counter()
        async for id_, verdict, _ in self._rows(namespace):
            if verdict is Verdict.DUPLICATE:
                counts[id_[0]] += 1
        return counts

    async def has_any(self, namespace: str | None) -> bool:
        """Is there a seen key? The scan ends with the first one."""
        async with aclosing(self._rows(namespace)) as rows:
            async for _, verdict, _ in rows:
                if verdict is Verdict.DUPLICATE:
                    return True
        return False

    async def namespaces(self) -> list[str]:
        """List the namespaces that have a key which is not unseen, sorted."""
        return sorted({id_[0] async for id_, _, _ in self._rows(None)})

    async def is_occupied(self, namespace: str) -> bool:
        """Has the namespace a key which is not unseen?"""
        async with aclosing(self._rows(namespace)) as rows:
            async for _ in rows:
                return True
        return False

    async def records(
        self, selection: Selection, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        """Return a page of the selected records, with their notes."""
        verdict = _VERDICTS.get(selection.state) if selection.state else None
        is_pending = selection.state == "pending"
        pattern = self._codec.pattern(selection.namespace, selection.prefix)
        names, after = await scan_page(self._session, pattern, cursor, limit)
        ids = {name: id_ for name in names if (id_ := self._codec.decode(name))}
        replies = await self._session.ask(
            [
                Select(*id_, verdict, selection.since, is_pending)
                for id_ in ids.values()
            ],
            list(ids),
        )
        records = (
            to_record(id_, reply.verdict, reply.row)
            for id_, reply in zip(ids.values(), replies, strict=True)
            if reply.row is not None
        )
        return RecordPage([one for one in records if selection.has(one)], after)

    async def stats(self, namespace: str | None, engine: str) -> BackendStats:
        """Count the keys in each state."""
        keys: Counter[str] = Counter()
        claims = []
        async for id_, verdict, row in self._rows(namespace):
            keys[id_[0]] += verdict is Verdict.DUPLICATE
            if row.lease_until is not None:
                claims.append(counted_claim(verdict, row))
        counted = ClaimCounts.of(claims)
        return BackendStats(
            keys_by_namespace=dict(+keys),
            claimed=counted.claimed,
            released=counted.released,
            abandoned=counted.abandoned,
            file_bytes=0,
            engine=engine,
            oldest_claim=counted.oldest,
            oldest_released=counted.oldest_released,
        )

    async def _rows(
        self, namespace: str | None
    ) -> AsyncGenerator[tuple[Id, Verdict, Row]]:
        """Yield the id, the state and the row, without its note, of every key, once.

        A scan of all namespaces also counts the names of the earlier layout.
        """
        patterns = [self._codec.pattern(namespace or "")]
        if namespace is None:
            patterns = self._old.patterns_of_both(self._codec)
        old_names = 0
        for pattern in patterns:
            async for names in scan_pages(self._session, pattern):
                ids = {name: id_ for name in names if (id_ := self._codec.decode(name))}
                for row in await self._read(ids):
                    yield row
                rest = [name for name in names if name not in ids]
                if namespace is None and rest:
                    old_names += await self._count_old(rest)
        if namespace is None:
            self._record_old(old_names)

    async def _read(self, ids: Mapping[bytes, Id]) -> list[tuple[Id, Verdict, Row]]:
        reads = [IsSeen(*id_) for id_ in ids.values()]
        replies = await self._session.ask(reads, list(ids))
        return [
            (id_, reply.verdict, reply.row)
            for id_, reply in zip(ids.values(), replies, strict=True)
            if reply.row is not None
        ]

    async def _count_old(self, names: Sequence[bytes]) -> int:
        old = {name: id_ for name in names if (id_ := self._old.decode(name))}
        return len(await self._read(old))

    def _record_old(self, names: int) -> None:
        if names and not self._old_names:
            location = self._session.location
            log("warning", "old_names_found", location=location, keys=names)
        self._old_names = names
