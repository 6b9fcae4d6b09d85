"""Connections: the pool, the settings of a transaction, and cancellation.

A call that is cancelled, or whose connection failed, terminates its connection, because
the state of the server is unknown. A transaction that failed is rolled back.
"""

from __future__ import annotations

import asyncio

# The event loop imports these when it resolves the first host name. An import stalls
# the loop, so they are imported here, when the backend is constructed.
import concurrent.futures.thread  # noqa: F401
import encodings.idna  # noqa: F401
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg

from ..._errors import StoreClosedError, StoreUnavailableError
from .._retry import TransientError
from .dsn import named_program
from .errors import translate_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_POOL_SIZE = 2
"""One connection for batches, one for reads beside them."""

_CLOSE_TIMEOUT = 1.0
"""Seconds that a close waits for the server."""

# A prepared statement keeps the plan of its first executions, when the table may have
# been empty; later it may have millions of rows. So only index scans are allowed.
_PLANNER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "jit": "off",
}
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ_ONLY = (
    f"{_BEGIN} READ ONLY; SET LOCAL jit = off; SET LOCAL enable_seqscan = on;"
    " SET LOCAL enable_bitmapscan = on; SET LOCAL plan_cache_mode = force_custom_plan"
)


class Connections:
    """The connections of a store, from its own pool or from a pool of the user's.

    Attributes:
        location: The address of the database, for errors.
        request_timeout: Seconds after which a request counts as lost. It is longer than
            PostgreSQL's ``lock_timeout``, so that a wait for a lock ends with that.
    """

    def __init__(
        self, target: str | asyncpg.Pool, timeout: float, lock_timeout: float
    ) -> None:
        """Keep the settings; no I/O.

        Args:
            target: A URL, or a pool of the user's.
            timeout: Seconds to wait for a connection, and for a reply.
            lock_timeout: Seconds to wait for a lock.
        """
        self.location: str = ""
        self.request_timeout: float = 1.1 * timeout + 0.1
        self._target = target
        self._timeout = timeout
        self._pool: asyncpg.Pool | None = None
        self._terminator: asyncio.Task[None] | None = None
        self._settings = {
            "lock_timeout": milliseconds(lock_timeout),
            **_PLANNER,
        }
        self._begin = "; ".join(
            [
                _BEGIN,
                *(f"SET LOCAL {key} = {self._settings[key]}" for key in self._settings),
            ]
        )

    @property
    def is_own(self) -> bool:
        """Does the pool belong to the store, and not to its user?"""
        return isinstance(self._target, str)

    async def open(self) -> None:
        """Create the pool, which connects at the first request."""
        if not isinstance(self._target, str):
            self._pool = self._target
            return
        self._pool = await asyncpg.create_pool(
            self._target,
            min_size=0,
            max_size=_POOL_SIZE,
            timeout=self._timeout,
            reset=_skip_reset,
            server_settings={
                **named_program(self._target),
                "default_transaction_isolation": "read committed",
                **self._settings,
            },
        )
        self._terminator = asyncio.create_task(
            _terminate_with_loop(self._pool), name="catalyst-seen connections"
        )

    async def aclose(self) -> None:
        """Close the pool if it belongs to the store."""
        pool, self._pool = self._pool, None
        if pool is None or self._terminator is None:
            return
        try:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await pool.close()
        finally:
            self._terminator.cancel()
        await asyncio.wait({self._terminator})

    def abandon(self) -> None:
        """Terminate the pool without waiting, from any thread."""
        self._pool = None
        if self._terminator is not None and not self._terminator.done():
            with suppress(RuntimeError):  # its loop has ended, and so has the pool
                loop = self._terminator.get_loop()
                loop.call_soon_threadsafe(self._terminator.cancel)

    @asynccontextmanager
    async def acquire(
        self,
        *,
        in_transaction: bool = True,
        read_only: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[asyncpg.Connection]:
        """Acquire a connection for the block, and translate the errors of the block.

        Args:
            in_transaction: Whether the block is one transaction; else each statement
                is its own. On a connection of the user's a block always is one, because
                the settings are local to it.
            read_only: Whether the block scans the whole table, in a transaction.
            timeout: Seconds to wait for a connection, and for BEGIN and COMMIT each;
                ``None`` is the setting.

        Raises:
            TransientError: Another attempt may succeed.
            StoreUnavailableError: A retry would not help.
            StoreClosedError: The store was closed before or meanwhile.
        """
        begin = self._begin if in_transaction or not self.is_own else None
        if read_only:
            begin = _BEGIN_READ_ONLY
        request_timeout = self.request_timeout if timeout is None else timeout
        pool = self._pool
        if pool is None:
            raise self._closed()
        try:
            connection = await self._acquire(pool, timeout or self._timeout)
            try:
                if begin:
                    with translate_errors(
                        self.location, maybe_applied=False, connection=connection
                    ):
                        await connection.execute(begin, timeout=request_timeout)
                with translate_errors(
                    self.location, maybe_applied=True, connection=connection
                ):
                    yield connection
                    if begin:
                        await connection.execute("COMMIT", timeout=request_timeout)
            except BaseException as exc:
                await self._rollback_or_terminate(connection, exc)
                raise
            finally:
                # The outcome of the block is decided: a failed release changes nothing.
                with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await pool.release(connection)
        except (TransientError, asyncpg.InterfaceError) as exc:
            if self._pool is not None:
                raise
            raise self._closed() from exc

    async def _acquire(self, pool: asyncpg.Pool, timeout: float) -> asyncpg.Connection:
        try:
            with translate_errors(self.location, maybe_applied=False):
                return await pool.acquire(timeout=timeout)
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
                f"your pool had no connection in {timeout:.3g} seconds",
                "Give it more of them (max_size), or find out who keeps them",
            ) from exc.cause

    def _closed(self) -> StoreClosedError:
        return StoreClosedError(f"store {self.location!r} was closed meanwhile")

    async def _rollback_or_terminate(
        self, connection: asyncpg.Connection, exc: BaseException
    ) -> None:
        with suppress(asyncpg.InterfaceError):  # the connection is back in the pool
            if isinstance(exc, TransientError | asyncio.CancelledError):
                connection.terminate()
            elif connection.is_in_transaction():
                try:
                    await connection.execute("ROLLBACK", timeout=self.request_timeout)
                except (OSError, asyncpg.PostgresError):
                    connection.terminate()


def milliseconds(seconds: float) -> str:
    """Return a duration as PostgreSQL's settings expect it; 0 would be for ever."""
    return str(max(1, round(1000 * seconds)))


async def _skip_reset(_: asyncpg.Connection) -> None:
    """Skip asyncpg's reset of released connections, a round trip for each batch."""


async def _terminate_with_loop(pool: asyncpg.Pool) -> None:
    """Terminate a pool on cancellation, which ``asyncio.run`` requests at its end.

    Connections can only be closed while their loop runs.
    """
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        pool.terminate()
