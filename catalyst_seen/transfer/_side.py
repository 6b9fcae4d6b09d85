"""One of the two stores of a move: reads and writes rows as they are stored."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .._errors import ConfigurationError
from ..backends.base import SupportsTransfer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from .._store import AsyncSeenStore
    from ..backends.base import Cursor, StoredPage
    from ..backends.listings import SourceState
    from ..backends.operations import Id, Row

_VERB = "move"
_PAGE = 5_000  # rows of one call


def as_target(store: AsyncSeenStore) -> AsyncSeenStore:
    """Let a store be opened although a move to it has not ended; return it.

    Any other open of such a store raises ``StoreUnavailableError``. Only a ``Transfer``
    may use it: what else is marked there is removed.

    Args:
        store: The store, which is not open yet.
    """
    backend = store._lifecycle.backend  # noqa: SLF001 - as the store's own verbs
    if isinstance(backend, SupportsTransfer):
        backend.open_unfinished()
    return store


class Side:
    """An open store, by the rows of its backend."""

    def __init__(self, store: AsyncSeenStore, skipped: str) -> None:
        """Use an open store.

        Args:
            store: The store.
            skipped: A namespace that is not read.

        Raises:
            ConfigurationError: Its backend has no rows that can be moved.
        """
        self._lifecycle = store._lifecycle  # noqa: SLF001 - as the store's own verbs
        self._change = partial(store._maintenance.change, _VERB)  # noqa: SLF001
        self._skipped = skipped
        backend = self._lifecycle.backend
        if not isinstance(backend, SupportsTransfer):
            raise ConfigurationError(
                "backend", f"{type(backend).__name__} cannot move its rows"
            )
        self._backend: SupportsTransfer = backend
        self.location: str = backend.location
        self.database: str = backend.database

    def now(self) -> float:
        """Return the time of the database."""
        return self._lifecycle.backend.now()

    async def pages(self) -> AsyncGenerator[tuple[list[Id], list[Row]], None]:
        """Yield the keys and the rows of each page; the next one is read meanwhile."""
        reading: asyncio.Task[StoredPage] | None = self._start(None)
        try:
            while reading is not None:
                rows, cursor = await reading
                reading = self._start(cursor) if cursor is not None else None
                kept = [one for one in rows if one.namespace != self._skipped]
                yield [one[:2] for one in kept], [one.row for one in kept]
        finally:
            if reading is not None:
                reading.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await reading

    async def rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        """Read the rows of keys."""
        return await self._lifecycle.read(
            _VERB, partial(self._backend.read_rows_of, ids)
        )

    async def write(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows; ``None`` removes one."""
        await self._change(partial(self._backend.write_rows, rows))

    async def states(self) -> Mapping[str, SourceState]:
        """Read the states of all sources."""
        return await self._lifecycle.read(_VERB, self._backend.read_source_states)

    async def write_states(self, states: Mapping[str, SourceState | None]) -> None:
        """Replace the states of sources; ``None`` removes one."""
        await self._change(partial(self._backend.write_source_states, states))

    def _start(self, cursor: Cursor | None) -> asyncio.Task[StoredPage]:
        read = partial(self._backend.read_rows, limit=_PAGE, cursor=cursor)
        return asyncio.create_task(self._lifecycle.read(_VERB, read))
