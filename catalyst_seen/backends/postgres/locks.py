"""The keys whose rows other transactions have locked for longer than a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .queries import LOCKED

if TYPE_CHECKING:
    import asyncpg

    from .._retry import Attempt, RetryingChannel
    from ..operations import Id
    from .pool import Connections
    from .tables import Tables


class LockedKeys:
    """Finds locked keys, and remembers them.

    The next batch with one of them need not wait for ``lock_timeout`` to find out.

    Attributes:
        known: The keys that were locked when they were last seen.
    """

    def __init__(
        self, connections: Connections, channel: RetryingChannel, tables: Tables
    ) -> None:
        self._connections = connections
        self._channel = channel
        self._tables = tables
        self.known: frozenset[Id] = frozenset()

    async def among(self, ids: frozenset[Id], timeout: float | None) -> frozenset[Id]:
        """Return the keys whose rows are locked, without a wait, and remember them."""
        if not ids:
            return ids
        statement = self._tables.render(LOCKED)
        namespaces, keys = zip(*ids, strict=True)

        async def send(attempt: Attempt) -> list[asyncpg.Record]:
            async with self._connections.acquire(
                in_transaction=False, timeout=attempt.timeout
            ) as connection:
                rows: list[asyncpg.Record] = await connection.fetch(
                    statement, namespaces, keys, timeout=attempt.timeout
                )
                return rows

        rows = await self._channel.request(send, is_change=False, timeout=timeout)
        locked = frozenset((row["name"], row["key"]) for row in rows)
        self.known = (self.known - ids) | locked
        return locked
