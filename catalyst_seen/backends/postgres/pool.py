"""Connections to PostgreSQL: of a pool of the store's own, or of its user's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg

from ..._errors import StoreClosedError, StoreUnavailableError
from .._retry import TransientError
from .errors import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SIZE = 2  # one for the calls, one for what may be read aside
_CLOSE_TIMEOUT = 1.0  # seconds that a server has to say goodbye

# A statement is planned once, and for a table that is small; it may have millions of
# rows the next minute. So the plan must not count on its size: keys are looked up.
_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "jit": "off",
}
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_READ = (
    f"{_BEGIN} READ ONLY; SET LOCAL jit = off; SET LOCAL enable_seqscan = on;"
    " SET LOCAL enable_bitmapscan = on; SET LOCAL plan_cache_mode = force_custom_plan"
)


class Connections:
    """Lends connections, each for one transaction.

    Attributes:
        location: Where they lead, for errors.
        limit: Seconds until a statement counts as lost: after PostgreSQL would have
            said that it waited for a lock for too long.
    """

    def __init__(self, target: str | asyncpg.Pool, timeout: float) -> None:
        """Remember the settings; no I/O.

        Args:
            target: A URL, or a pool of the user's.
            timeout: Seconds to wait for a lock, or for a connection.
        """
        self.location: str = ""
        self.limit: float = 1.1 * timeout + 0.1
        self._target = target
        self._timeout = timeout
        self._pool: asyncpg.Pool | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settings = {"lock_timeout": str(max(1, round(1000 * timeout))), **_PLANS}
        self._begin = "; ".join(
            [
                _BEGIN,
                *(f"SET LOCAL {key} = {self._settings[key]}" for key in self._settings),
            ]
        )

    @property
    def is_own(self) -> bool:
        """Is the pool the store's own?"""
        return isinstance(self._target, str)

    async def open(self) -> None:
        """Make the pool; it connects when it is used."""
        if not isinstance(self._target, str):
            self._pool = self._target
            return
        self._pool = await asyncpg.create_pool(
            self._target,
            min_size=0,
            max_size=_SIZE,
            timeout=self._timeout,
            reset=_leave,
            server_settings={
                "default_transaction_isolation": "read committed",
                **self._settings,
            },
        )
        self._keeper = asyncio.create_task(
            _end_with_the_loop(self._pool), name="catalyst-seen connections"
        )

    async def aclose(self) -> None:
        """Close the pool if it is the store's own."""
        pool, self._pool = self._pool, None
        if pool is None or self._keeper is None:
            return
        try:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await pool.close()
        finally:
            self._keeper.cancel()
        await asyncio.wait({self._keeper})

    def abandon(self) -> None:
        """Close it without waiting, from any thread."""
        self._pool = None
        if self._keeper is not None and not self._keeper.done():
            with suppress(RuntimeError):  # its loop has ended, and so has the pool
                self._keeper.get_loop().call_soon_threadsafe(self._keeper.cancel)

    @asynccontextmanager
    async def one(
        self, *, together: bool = True, read_only: bool = False
    ) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection, and say in our words what fails.

        Args:
            together: Is all that is done one transaction, or each statement its own? A
                connection of the user's has one in any case: only so can settings be
                lent to it.
            read_only: Is it a long look at the whole table?

        Raises:
            Broken: Another attempt may succeed.
        """
        begin = self._begin if together or not self.is_own else None
        if read_only:
            begin = _READ
        pool = self._pool
        if pool is None:
            raise self._closed()
        try:
            connection = await self._acquired(pool)
            try:
                if begin:
                    with translated(
                        self.location, maybe_applied=False, connection=connection
                    ):
                        await connection.execute(begin, timeout=self.limit)
                with translated(
                    self.location, maybe_applied=True, connection=connection
                ):
                    yield connection
                    if begin:
                        await connection.execute("COMMIT", timeout=self.limit)
            except BaseException as exc:
                await self._undo(connection, exc)
                raise
            finally:
                # What it was lent for is done, or has failed: this changes nothing.
                with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await pool.release(connection)
        except (TransientError, asyncpg.InterfaceError) as exc:
            if self._pool is not None:
                raise
            raise self._closed() from exc

    async def _acquired(self, pool: asyncpg.Pool) -> asyncpg.Connection:
        try:
            with translated(self.location, maybe_applied=False):
                return await pool.acquire(timeout=self._timeout)
        except asyncpg.InterfaceError as exc:
            if self.is_own:
                raise
            raise StoreUnavailableError(
                self.location, f"your pool: {exc}", "Give the store a pool that is open"
            ) from exc
        except TransientError as exc:
            if self.is_own or not isinstance(exc.cause, TimeoutError):
                raise
            raise StoreUnavailableError(
                self.location,
                f"your pool had no connection in {self._timeout:g} seconds",
                "Give it more of them (max_size), or find out who keeps them",
            ) from exc.cause

    def _closed(self) -> StoreClosedError:
        return StoreClosedError(f"store {self.location!r} was closed meanwhile")

    async def _undo(self, connection: asyncpg.Connection, exc: BaseException) -> None:
        """End a transaction that failed; and a connection that does not answer."""
        with suppress(asyncpg.InterfaceError):  # the pool has it back already
            if isinstance(exc, TransientError | asyncio.CancelledError):
                connection.terminate()
            elif connection.is_in_transaction():
                try:
                    await connection.execute("ROLLBACK", timeout=self.limit)
                except (OSError, asyncpg.PostgresError):
                    connection.terminate()


async def _leave(_: asyncpg.Connection) -> None:
    """Leave the connection as it is: to reset it would cost a trip for each batch."""


async def _end_with_the_loop(pool: asyncpg.Pool) -> None:
    """Terminate a pool when this is cancelled, as ``asyncio.run`` does at its end.

    Afterwards its connections could not be closed: that takes a loop.
    """
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        pool.terminate()
