"""Requests that change whole namespaces, on the channel of the batches."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..._errors import OutcomeUnknownError, StoreError
from ..base import PageResult
from . import maintenance
from .errors import retry_locked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from .._retry import Attempt, RetryingChannel
    from ..base import Cursor
    from .pool import Connections
    from .tables import Tables

T = TypeVar("T")

_BRIEF = 0.5
"""Up to this ``lock_timeout`` a purge does not wait for that of another process."""


class Removals:
    """Removes and renames, as the methods of the backend promise.

    After the last rows, names are removed as well. The cursors of their pages begin
    with "".
    """

    def __init__(
        self, connections: Connections, channel: RetryingChannel, tables: Tables
    ) -> None:
        self._connections = connections
        self._channel = channel
        self._tables = tables

    async def purge(
        self,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None,
    ) -> PageResult:
        """Remove expired rows."""
        is_blocking = lock_timeout is None or lock_timeout > _BRIEF
        purge = partial(maintenance.purge, is_blocking=is_blocking)
        return await self._remove(purge, namespace, limit, cursor)

    async def cleanup(
        self, age: float, namespace: str | None, limit: int, cursor: Cursor | None
    ) -> PageResult:
        """Remove old rows."""
        cleanup = partial(maintenance.cleanup, age=age)
        return await self._remove(cleanup, namespace, limit, cursor)

    async def clear(
        self, namespace: str | None, limit: int, cursor: Cursor | None
    ) -> PageResult:
        """Remove all rows, and what their sources left."""
        return await self._remove(
            maintenance.clear, namespace, limit, cursor, is_clear=True
        )

    async def probe(self) -> None:
        """Commit a write that changes nothing."""
        await self._change(
            lambda connection: maintenance.probe(connection, self._tables),
            "whether a probe was committed before it did",
            in_transaction=True,
        )

    async def rename(self, namespace: str, name: str) -> bool:
        """Rename a namespace; false if the new name is occupied."""
        return await self._change(
            lambda connection: maintenance.rename(
                connection, self._tables, namespace, name
            ),
            "whether it was renamed before it did",
            in_transaction=True,
        )

    async def _remove(
        self,
        remove: Callable[..., Awaitable[PageResult]],
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        *,
        is_clear: bool = False,
    ) -> PageResult:
        """Remove a page of rows, and after the last row a page of names."""
        removed = 0
        if cursor is None or cursor[0]:
            page = await self._change(
                lambda connection: remove(
                    connection, self._tables, namespace, limit=limit, cursor=cursor
                ),
                "how many rows were removed before it did",
            )
            removed, cursor = page.removed, page.cursor
        if cursor is None:
            cursor = await self._remove_names(namespace, limit, "", is_clear=is_clear)
        elif not cursor[0]:
            cursor = await self._remove_names(
                namespace, limit, cursor[1], is_clear=is_clear
            )
        return PageResult(removed, cursor)

    async def _change(
        self,
        change: Callable[[asyncpg.Connection], Awaitable[T]],
        unknown: str,
        *,
        in_transaction: bool = False,
    ) -> T:
        """Change rows; a lock of another transaction, soon over, is waited for."""

        async def send(attempt: Attempt) -> T:
            if attempt.maybe_applied:
                raise OutcomeUnknownError(
                    self._connections.location,
                    f"the connection broke, and {unknown}, nobody knows",
                    "Call it again to complete it",
                )
            with retry_locked():
                async with (
                    self._connections.acquire(in_transaction=in_transaction) as one,
                    asyncio.timeout(self._connections.request_timeout),
                ):
                    return await change(one)

        return await self._channel.request(send, is_change=True)

    async def _remove_names(
        self, namespace: str | None, limit: int, after: str, *, is_clear: bool
    ) -> Cursor | None:
        """Remove a page of names; after a purge or a cleanup, as far as possible."""

        async def send(_: Attempt) -> Cursor | None:
            async with asyncio.timeout(self._connections.request_timeout):
                return await maintenance.remove_names(
                    self._connections, self._tables, namespace,
                    limit=limit, after=after, is_clear=is_clear,
                )  # fmt: skip

        try:
            return await self._channel.request(send, is_change=False)
        except StoreError:
            if is_clear:
                raise
            return None  # the next purge removes them
