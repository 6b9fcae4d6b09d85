"""Requests on sources and on what they list, as the methods of the backend promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .._observation import failed
from .._retry import TransientError
from .._state_machine import verdict_of
from ..listings import SourceRecord, SourceState, Waiting, WaitingPage
from . import sources
from .errors import retry_locked
from .observation import MovedError, Observation, lock_source
from .results import to_row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

    from .._retry import Attempt, RetryingChannel
    from ..listings import Fail, Observe, Observed
    from .pool import Connections
    from .tables import Tables

T = TypeVar("T")

_BUSY = "Other transactions change the keys of this source all the time: try it again"


class Listings:
    """Records listings, on the channel of the batches.

    Lock order: the source, and then keys in the order of batches. So neither two
    observations nor an observation and a batch deadlock.
    """

    def __init__(
        self, connections: Connections, channel: RetryingChannel, tables: Tables
    ) -> None:
        self._connections = connections
        self._channel = channel
        self._tables = tables

    async def observe(self, request: Observe) -> Observed | None:
        """Record a listing."""

        async def send(
            connection: asyncpg.Connection, attempt: Attempt
        ) -> Observed | None:
            return await Observation(
                connection, self._tables, request, attempt.timeout
            ).execute()

        return await self._change(send)

    async def fail(self, failure: Fail) -> None:
        """Record that a source could not be polled.

        A retry recognises its first attempt by the state that this one wrote.
        """
        written: SourceState | None = None

        async def send(connection: asyncpg.Connection, attempt: Attempt) -> None:
            nonlocal written
            found = await lock_source(
                connection, self._tables, failure.namespace, attempt.timeout,
                may_insert=True,
            )  # fmt: skip
            assert found is not None  # noqa: S101 - it was inserted
            id_, _, stored = found
            if attempt.maybe_applied and stored is not None and stored == written:
                return
            written = failed(stored, failure)
            await connection.execute(
                self._tables.render(sources.WRITE_SOURCE),
                id_,
                *written.columns(),
                timeout=attempt.timeout,
            )

        await self._change(send)

    async def _change(
        self, change: Callable[[asyncpg.Connection, Attempt], Awaitable[T]]
    ) -> T:
        """Change a source; a lock of another transaction, soon over, is waited for."""

        async def send(attempt: Attempt) -> T:
            try:
                with retry_locked():
                    async with self._connections.acquire(
                        timeout=attempt.timeout
                    ) as connection:
                        return await change(connection, attempt)
            except MovedError as exc:
                raise TransientError(exc, maybe_applied=False, advice=_BUSY) from exc

        return await self._channel.request(send, is_change=True)


async def source(
    connection: asyncpg.Connection, tables: Tables, namespace: str
) -> SourceRecord | None:
    """Read the state of a source."""
    found = await connection.fetchrow(tables.render(sources.SOURCE), namespace)
    return None if found is None else _source(found)


async def all_sources(
    connection: asyncpg.Connection, tables: Tables
) -> dict[str, SourceRecord]:
    """Read the states of all sources, by namespace."""
    found = await connection.fetch(tables.render(sources.SOURCES))
    made = {name: _source(columns) for name, *columns in found}
    return {name: record for name, record in made.items() if record is not None}


def _source(columns: Sequence[Any]) -> SourceRecord | None:
    pending, held, oldest, *state_columns = columns
    state = SourceState.of(state_columns)
    if state is None or not state.is_polled:
        return None
    return SourceRecord(state, pending, held, oldest)


async def waiting(
    connection: asyncpg.Connection,
    tables: Tables,
    namespace: str,
    *,
    after: int,
    limit: int,
) -> WaitingPage:
    """Read the keys that were observed and can be claimed."""
    statement = tables.render(sources.WAITING)
    records = await connection.fetch(statement, namespace, after, limit)
    keys: list[Waiting] = []
    later: list[float] = []
    for now, seq, key, *columns in records:
        row = to_row(columns)
        if verdict_of(row, now):
            keys.append(Waiting(seq, key, row.attempt))
        elif row.lease_until is not None and row.lease_until > now:
            later.append(row.lease_until - now)
    cursor = records[-1]["seq"] if len(records) == limit else None
    return WaitingPage(keys, cursor, min(later, default=None))
