"""Moves values to other Redis keys, which may be on other nodes of a cluster.

One server renames each key at once. The nodes of a cluster have no transaction in
common, so that each page of values is copied first and removed afterwards: a kill in
between leaves both. The next move of the same keys completes the first one; a copy that
was changed since is newer, and stays.

A store that moves keys holds a lease, a row of the store's own format. Every copy has a
deadline before its end, which the server checks: a copy that arrives later could bring
a key back that was forgotten after another store had completed the move.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ..._errors import SchemaError, SeenError, StoreUnavailableError
from ..operations import Acquire, Confirm, IsSeen, Release, Renew
from .administration import Discard, Export, Import, Remove, Rename

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ..operations import Id, Operation
    from .replies import KeyReply
    from .session import Session

_LEASE = 20.0
_RENEW_BEFORE = 15.0
_MARGIN = 5.0
"""Seconds of a lease: its length; how long it must last for the next page; and those at
its end without a copy, by which the clocks of two nodes may differ."""

_PAIRS = 250
"""Keys that one script call renames."""

_RELEASE_TIMEOUT = 1.0
"""Seconds to give up the lease after an error or a cancellation."""


class TakenOverError(StoreUnavailableError):
    """The lease is over, and another store may have it."""


class Mover:
    """Moves values while it holds the lease on a marker.

    Attributes:
        moved: Number of values moved so far.
    """

    def __init__(
        self, session: Session, marker: bytes, token: str, until: float
    ) -> None:
        self.moved: int = 0
        self._session = session
        self._marker = marker
        self._token = token
        self._until = until

    async def move(
        self, ids: Sequence[Id], sources: Sequence[bytes], targets: Sequence[bytes]
    ) -> int:
        """Move values to other Redis keys; return how many there were.

        Values of other programs are skipped; one that changes meanwhile counts, and its
        Redis key stays as well.

        Args:
            ids: Namespace and key of each value, for messages.
            sources: Their Redis keys.
            targets: Their new Redis keys.

        Raises:
            SchemaError: Another program has a value there.
            TakenOverError: The lease was lost.
        """
        await self._renew()
        if self._session.topology.is_cluster:
            found = await self._copy(ids, sources, targets)
        else:
            found = await self._rename(ids, sources, targets)
        self.moved += found
        return found

    async def _rename(
        self, ids: Sequence[Id], sources: Sequence[bytes], targets: Sequence[bytes]
    ) -> int:
        found = 0
        for first in range(0, len(ids), _PAIRS):
            page = slice(first, first + _PAIRS)
            pairs = zip(sources[page], targets[page], strict=True)
            replies = await self._session.ask(
                [one for id_ in ids[page] for one in (IsSeen(*id_), Rename(*id_))],
                [name for pair in pairs for name in pair],
            )
            renamed = replies[1::2]
            self._check_foreign(renamed)
            found += sum(reply.is_done for reply in renamed)
        return found

    async def _copy(
        self, ids: Sequence[Id], sources: Sequence[bytes], targets: Sequence[bytes]
    ) -> int:
        session = self._session
        exported = await session.ask([Export(*id_) for id_ in ids], sources)
        found = [
            (id_, source, target, reply.value, reply.row.expires_at)
            for id_, source, target, reply in zip(
                ids, sources, targets, exported, strict=True
            )
            if reply.value is not None and reply.row is not None
        ]
        deadline = self._until - _MARGIN
        imported = await session.ask(
            [Import(*id_, value, at, deadline) for id_, _, _, value, at in found],
            [target for _, _, target, _, _ in found],
        )
        self._check_foreign(imported)
        if not all(reply.is_done for reply in imported):
            raise _lost(session)
        await session.ask(
            [Remove(*id_, value, at) for id_, _, _, value, at in found],
            [source for _, source, _, _, _ in found],
        )
        return len(found)

    def _check_foreign(self, replies: Sequence[KeyReply]) -> None:
        if any(reply.is_foreign for reply in replies):
            raise SchemaError(
                self._session.location,
                "a key to be renamed would get the name of another program's key",
                "Nothing is lost; remove that key, or choose another name",
            )

    async def _renew(self) -> None:
        session = self._session
        if self._until - session.clock.now() > _RENEW_BEFORE:
            return
        renew = Renew("", "", self._token, _LEASE, None, "retry")
        (reply,) = await session.ask([renew], [self._marker], is_replicated=False)
        if reply.row is None or reply.row.lease_until is None or not reply.is_done:
            raise _lost(session)
        self._until = reply.row.lease_until


@asynccontextmanager
async def moving(
    session: Session, marker: bytes, *, note: str = "", is_lasting: bool
) -> AsyncIterator[Mover | None]:
    """Hold the lease on a marker; ``None`` while another store holds it.

    At the end of the block the marker is confirmed, or removed. After an error the
    lease ends, so that the next attempt need not wait for its end.

    Args:
        session: The servers.
        marker: The Redis key of the marker.
        note: Its note.
        is_lasting: Whether it stays after the block.

    Raises:
        SchemaError: The marker is the Redis key of another program.
        TakenOverError: The lease was lost.
    """
    token = secrets.token_urlsafe(16)
    acquire = Acquire("", "", token, _LEASE, None, "retry", note)
    (claim,) = await session.ask([acquire], [marker], is_replicated=False)
    if claim.is_foreign:
        raise SchemaError(
            session.location,
            f"{marker.decode()!r} is the key of another program",
            "It is untouched; choose another prefix",
        )
    if not claim.is_done or claim.row is None or claim.row.lease_until is None:
        yield None
        return
    try:
        yield Mover(session, marker, token, claim.row.lease_until)
        await _complete(session, marker, token, is_lasting=is_lasting)
    except BaseException:
        release = Release("", "", token, 0, None)
        with suppress(SeenError, TimeoutError):
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await session.ask([release], [marker], is_replicated=False)
        raise


async def _complete(
    session: Session, marker: bytes, token: str, *, is_lasting: bool
) -> None:
    end: Operation[bool] = Discard("", "", token)
    if is_lasting:
        end = Confirm("", "", token, None)
    (last,) = await session.ask([end], [marker], is_replicated=False)
    if not last.is_done:
        raise _lost(session)


def _lost(session: Session) -> TakenOverError:
    return TakenOverError(
        session.location,
        "another store has taken over, for this one was too slow",
        "Nothing is lost; try again",
    )
