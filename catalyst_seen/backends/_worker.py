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
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiosqlite

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Connection(sqlite3.Connection):
    """A connection whose ``execute`` also takes a function.

    aiosqlite hands whatever it is given to ``execute`` on its worker thread, and then
    asks the result for ``fetchall()``.
    """

    def execute(self, work: Any, parameters: Any = (), /) -> Any:
        if callable(work):
            return _Finished(work(self))
        return super().execute(work, parameters)


class _Finished:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def fetchall(self) -> object:
        return self._answer


class Worker:
    """One connection and the thread that alone touches it.

    The thread is a daemon: a store that nobody closed does not keep the process alive.
    """

    def __init__(self) -> None:
        self._database: aiosqlite.Connection | None = None
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        return self._database is not None

    async def open(
        self,
        database: str,
        connect: Callable[[Callable[[], Connection]], Connection],
        **options: Any,
    ) -> None:
        """Start the thread and connect; a failed or cancelled open leaves nothing.

        Args:
            database: What to connect to.
            connect: Runs on the thread; is given a function that makes the connection,
                and returns it, prepared.
            options: What the connection is made with.
        """

        def remember(*args: Any, **kwargs: Any) -> Connection:
            self._thread = threading.current_thread()
            self._connection = connect(partial(Connection, *args, **kwargs))
            return self._connection

        opened = _on_daemon_thread(
            lambda: aiosqlite.connect(
                database,
                factory=remember,
                isolation_level=None,
                # another thread may close it when the worker is dead
                check_same_thread=False,
                **options,
            )
        )
        # A cancelled connect must not be cancelled inside aiosqlite, which would forget
        # the connection that its thread is about to make.
        connecting = asyncio.ensure_future(opened)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(lambda done: _discard(done, opened))
            raise
        except BaseException:
            # aiosqlite has told the thread to end, and it will answer this loop.
            if self._thread is not None:
                self._thread.join()
            raise
        self._database = opened

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function on the worker thread and return what it returns.

        A cancelled caller does not stop it.
        """
        if self._database is None:
            raise RuntimeError("the worker is not open")
        return cast("T", await self._database.execute_fetchall(cast("str", work)))

    async def aclose(self) -> None:
        """Let the thread finish what was sent, disconnect and end."""
        database, self._database = self._database, None
        if database is None or self._thread is None:
            return
        if stopped := database.stop():
            await stopped
        self._thread.join()

    def abandon(self) -> None:
        """The same without waiting, from any thread, also when the loop is gone."""
        database, self._database = self._database, None
        if database is None or self._thread is None or sys.is_finalizing():
            return
        if self._thread.is_alive():
            _on_daemon_thread(database.stop)
        elif self._connection is not None:
            self._connection.close()


def _discard(connecting: asyncio.Future[Any], opened: aiosqlite.Connection) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        _on_daemon_thread(opened.stop)


def _on_daemon_thread(function: Callable[[], T]) -> T:
    """Call a short function on a thread of its own, and wait for it.

    A thread inherits being a daemon from the one that makes it: so the worker becomes
    one. And without an event loop around, ``stop`` promises no loop an answer that it
    may be too late to take.
    """
    answers: list[T] = []
    thread = threading.Thread(
        target=lambda: answers.append(function()), daemon=True, name="catalyst-seen"
    )
    thread.start()
    thread.join()
    return answers[0]
