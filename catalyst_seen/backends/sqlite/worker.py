"""aiosqlite's worker thread, as a place where whole functions run.

aiosqlite sends one statement per hop. Here one hop carries a function that gets the
connection and may run a whole transaction, so that a cancelled caller leaves nothing
half done. No SQL lives here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiosqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_AGAIN = 0.02  # seconds until the next statement is interrupted as well


class Connection(sqlite3.Connection):
    """A connection whose ``execute`` also takes a function.

    aiosqlite hands whatever it is given to ``execute`` on its worker thread, and then
    asks the result for ``fetchall()``.
    """

    is_suspect = False  # whoever sees it fail in earnest sets this
    is_unwanted = False  # nobody waits any more for what it is at
    on_close: Callable[[], object] = staticmethod(lambda: None)

    def execute(self, work: Any, parameters: Any = (), /) -> Any:
        if not callable(work):
            return super().execute(work, parameters)
        try:
            return _Finished(work(self))
        except StopIteration as exc:  # no future takes it, and the caller would wait
            raise RuntimeError("StopIteration in the worker thread") from exc

    def close(self) -> None:
        super().close()
        self.on_close()


class NoThreadError(Exception):
    """The system lets this process start no more threads."""


class _Finished:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def fetchall(self) -> object:
        return self._answer


class Worker:
    """One connection and the thread that alone touches it, from ``open`` to the end.

    The thread is a daemon: a store that nobody closed does not keep the process alive.
    """

    def __init__(
        self,
        database: str,
        connect: Callable[[Callable[[], Connection]], Connection],
        **options: Any,
    ) -> None:
        """Prepare the thread; it starts with ``open``.

        Args:
            database: What to connect to.
            connect: Runs on the thread; is given a function that makes the connection,
                and returns it, ready for use.
            options: What the connection is made with.
        """
        self._connect = connect
        self._is_abandoned = False
        self._is_unwanted = False
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        # A thread inherits being a daemon from the one that makes it.
        self._database = _on_daemon_thread(
            lambda: aiosqlite.connect(
                database,
                factory=self._make,
                isolation_level=None,
                check_same_thread=False,  # for _end
                **options,
            )
        )

    async def open(self) -> None:
        """Start the thread and connect; a failed or cancelled open leaves nothing."""
        # Not to be cancelled inside aiosqlite: it would forget the connection that its
        # thread is about to make, and promise an answer to a loop that may end first.
        connecting = asyncio.ensure_future(self._database)
        try:
            with _starting():
                await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._discard)
            raise
        except BaseException:
            if self._thread is not None:  # it is ending, and will tell this loop
                self._thread.join()
            raise

    @property
    def is_suspect(self) -> bool:
        """Should another connection be made before anything else is run?"""
        return self._connection is not None and self._connection.is_suspect

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function on the thread and return what it returns.

        A cancelled caller does not stop it.
        """
        return cast("T", await self._database.execute_fetchall(cast("str", work)))

    async def run_once(self, work: Callable[[Connection], T]) -> T:
        """Open, run one function that only reads, and end.

        If the caller is cancelled, the statement that runs is interrupted, as the
        connection is nobody else's; what runs between statements looks at
        ``is_unwanted``.
        """
        reading = asyncio.ensure_future(self._run_once(work))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            while not reading.done():
                self.leave()
                await asyncio.wait({reading}, timeout=_AGAIN)
            if not reading.cancelled():
                reading.exception()  # nobody else asks for it
            raise

    def leave(self) -> None:
        """End soon what only reads: nobody waits for it any more."""
        self._is_unwanted = True
        if self._connection is not None:
            self._connection.is_unwanted = True
            with suppress(sqlite3.ProgrammingError):  # it is closed already
                self._connection.interrupt()

    async def _run_once(self, work: Callable[[Connection], T]) -> T:
        await self.open()
        try:
            return await self.run(work)
        finally:
            if not self._is_abandoned:  # else nobody would answer
                await self.aclose()

    async def aclose(self) -> None:
        """Let the thread finish what was sent, disconnect and end."""
        stopped = self._database.stop()
        if stopped is not None:
            await stopped
        if self._thread is not None:
            self._thread.join()

    def abandon(self) -> None:
        """The same without waiting, from any thread, also when the loop is gone."""
        if sys.is_finalizing():  # every thread has stopped, and a new one would hang
            return
        self._is_abandoned = True
        end = threading.Thread(target=self._end, daemon=True, name="catalyst-seen end")
        with suppress(RuntimeError):  # too late for a new thread: all end together
            end.start()

    def _make(self, *args: Any, **kwargs: Any) -> Connection:
        self._thread = threading.current_thread()

        def make() -> Connection:
            self._connection = connection = Connection(*args, **kwargs)
            connection.is_unwanted = self._is_unwanted
            return connection

        connection = self._connect(make)
        if self._is_abandoned:
            connection.close()
        return connection

    def _discard(self, connecting: asyncio.Future[Any]) -> None:
        if connecting.cancelled() or connecting.exception() is None:
            self.abandon()

    def _end(self) -> None:
        """Stop the thread, or find it dead because its loop was closed.

        On a thread of its own, ``stop`` finds no event loop to promise an answer to,
        and the connection can be closed when nobody uses it any more.
        """
        self._database.stop()
        if self._thread is not None:
            self._thread.join()
        if self._connection is not None:
            self._connection.close()


def _on_daemon_thread(function: Callable[[], T]) -> T:
    """Call a short function on a daemon thread, and wait for it."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    with _starting():
        thread.start()
    thread.join()
    return results[0]


@contextmanager
def _starting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:  # Python has no error of its own for that
        if "start new thread" not in str(exc):
            raise
        raise NoThreadError(str(exc)) from exc
