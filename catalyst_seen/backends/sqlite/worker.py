"""A worker thread: aiosqlite's, which runs whole functions on one database.

aiosqlite runs one statement per hop to its thread. Here one hop runs a function that
may execute a whole transaction, so that a cancelled caller leaves nothing half done.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import aiosqlite

from ..._errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .database import Database

if not hasattr(aiosqlite.Connection, "stop"):  # before 0.22
    raise ImportError(
        f"catalyst-seen needs aiosqlite 0.22.1 or newer, and {aiosqlite.__version__} is"
        " installed, perhaps by another requirement: pip install 'aiosqlite>=0.22.1'"
    )

P = ParamSpec("P")
T = TypeVar("T")

_INTERRUPT_INTERVAL = 0.02  # seconds until the next statement is interrupted as well
_CHUNK_SIZE = 64  # of iterations over cursors, which have no use here


class _Adapter:
    """The object that aiosqlite uses like a connection: it executes functions.

    ``aiosqlite.Connection.execute_fetchall`` calls, on its thread, ``execute`` with its
    own two arguments, and then ``fetchall`` of the result.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def execute(self, function: Callable[[], object], _parameters: object) -> _Result:
        try:
            return _Result(function())
        except StopIteration as exc:  # a future cannot hold it: the caller would hang
            raise RuntimeError("StopIteration in the worker thread") from exc

    def close(self) -> None:
        self._database.close()


class _Result:
    def __init__(self, value: object) -> None:
        self._value = value

    def fetchall(self) -> object:
        return self._value


class Worker:
    """One database, and the thread that alone uses it from ``open`` to the end.

    The thread is a daemon: a store that was not closed does not keep the process alive.

    Attributes:
        database: The database. Its flags, and ``abort``, are for any thread.
    """

    def __init__(self, database: Database) -> None:
        """Prepare the thread; it starts with ``open``.

        Args:
            database: A closed database. The thread opens and closes it.
        """
        self.database = database
        self._is_abandoned = False
        self._thread: threading.Thread | None = None
        with _thread_errors(database):
            # A thread is a daemon if its creator is one.
            self._aiosqlite = _on_daemon_thread(
                partial(
                    aiosqlite.Connection,
                    cast("Callable[[], Any]", self._connect),
                    _CHUNK_SIZE,
                )
            )

    async def open(self) -> None:
        """Start the thread and connect; a failed or cancelled open leaves nothing."""
        # aiosqlite must not be cancelled here: it would lose the connection that its
        # thread is about to make, and post a result to a loop that may be closed.
        connecting = asyncio.ensure_future(self._aiosqlite)
        try:
            with _thread_errors(self.database):
                await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._discard)
            raise
        except BaseException:
            if self._thread is not None:  # it is ending, and will notify this loop
                self._thread.join()
            raise

    async def run(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function on the thread; cancelling the caller does not stop it."""
        call = partial(function, self.database, *args, **kwargs)
        return cast("T", await self._aiosqlite.execute_fetchall(cast("str", call)))

    async def run_once(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Open, run one function that only reads, and close.

        Cancelling the caller aborts the function; nothing else uses this database.
        """
        reading = asyncio.ensure_future(self._run_once(function, *args, **kwargs))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            await self._abort(reading)
            raise

    async def _abort(self, reading: asyncio.Future[Any]) -> None:
        """Abort a function, and wait for its end, however often that is cancelled.

        A cancel scope of anyio cancels again in each iteration of the event loop. A
        caller that went on earlier would leave the thread behind.
        """
        while not reading.done():
            self.database.abort()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({reading}, timeout=_INTERRUPT_INTERVAL)
        if not reading.cancelled():
            reading.exception()  # retrieved, so that asyncio does not log it

    async def _run_once(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        await self.open()
        try:
            return await self.run(function, *args, **kwargs)
        finally:
            if not self._is_abandoned:  # otherwise the thread has ended
                await self.aclose()

    async def aclose(self) -> None:
        """Complete the functions that were sent, then close the database and end."""
        stopped = self._aiosqlite.stop()
        if stopped is not None:
            await stopped
        if self._thread is not None:
            self._thread.join()

    def abandon(self) -> None:
        """Close without waiting, from any thread, with or without a loop."""
        if sys.is_finalizing():  # all threads have stopped, and a new one would hang
            return
        self._is_abandoned = True
        end = threading.Thread(target=self._end, daemon=True, name="catalyst-seen end")
        with suppress(RuntimeError):  # too late for a new thread: the process ends
            end.start()

    def _connect(self) -> _Adapter:
        """Open the database, on the thread."""
        self._thread = threading.current_thread()
        self.database.open()
        if self._is_abandoned:
            self.database.close()
        return _Adapter(self.database)

    def _discard(self, connecting: asyncio.Future[Any]) -> None:
        """Close a connection that was made after its caller was cancelled."""
        if connecting.cancelled() or connecting.exception() is None:
            self.abandon()

    def _end(self) -> None:
        """Stop the thread, which may have died because its loop was closed.

        On a thread without an event loop, aiosqlite's ``stop`` creates no future.
        """
        self._aiosqlite.stop()
        if self._thread is not None:
            self._thread.join()
        self.database.close()


def _on_daemon_thread(function: Callable[[], T]) -> T:
    """Call a short function on a daemon thread, and wait for it."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join()
    return results[0]


@contextmanager
def _thread_errors(database: Database) -> Iterator[None]:
    """Translate the error of a system that allows no more threads."""
    try:
        yield
    except RuntimeError as exc:  # Python has no exception of its own for this
        if "start new thread" not in str(exc):
            raise
        raise StoreUnavailableError(
            database.location,
            str(exc),
            "Raise the limit of processes (ulimit -u), or end some",
        ) from exc
