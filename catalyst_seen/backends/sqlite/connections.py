"""The connections of a store: one for its calls, and some that only read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..._errors import StoreClosedError
from ..._logging import log
from .database import Database
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shared import SharedState

P = ParamSpec("P")
T = TypeVar("T")

_MAX_READERS = 4  # long reads at once: each has a thread and a connection


class Connections:
    """Opens the connections of a store, runs functions on them, and closes them.

    A function runs whole on the thread of a worker; its first argument is the
    connection.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._writer: Worker | None = None
        self._generation = 0
        self._is_closed = False
        self._read_slots = asyncio.Semaphore(_MAX_READERS)
        self._readers: set[Worker] = set()

    async def open(self) -> None:
        """Open the connection for calls."""
        self._writer = await self._connect()

    async def run(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function on the connection for calls; reconnect after a fatal error."""
        self._check_open()
        worker = self._writer
        if worker is None or worker.database.needs_reconnect:
            worker = await self._reconnect()
        return await worker.run(function, *args, **kwargs)

    async def read(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that only reads, beside the calls, when a slot is free."""
        until = self._until()  # the wait for a slot counts
        async with self._read_slots:
            return await self._read(until, function, *args, **kwargs)

    async def read_at_once(
        self,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that only reads on a connection and a thread of its own.

        In WAL mode it blocks no writer. A database in memory has one connection only,
        which runs these functions as well.
        """
        return await self._read(self._until(), function, *args, **kwargs)

    async def _read(
        self,
        until: float,
        function: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if not self._shared.is_file:
            return await self.run(function, *args, **kwargs)
        self._check_open()
        worker = Worker(Database(self._shared, reads_until=until))
        self._readers.add(worker)
        try:
            return await worker.run_once(function, *args, **kwargs)
        finally:
            self._readers.discard(worker)

    async def aclose(self) -> None:
        """Complete the calls that were sent, and close the connection for calls."""
        self._is_closed = True
        worker, self._writer = self._writer, None
        if worker is not None:
            try:
                await worker.run(Database.truncate_log)
            except BaseException:
                worker.abandon()
                raise
            await worker.aclose()

    def abandon(self) -> None:
        """Close all without waiting, from any thread, with or without a loop."""
        self._is_closed = True
        self._abandon_writer()
        for worker in list(self._readers):
            worker.database.abort()
            worker.abandon()

    async def _connect(self) -> Worker:
        worker = Worker(Database(self._shared, generation=self._generation))
        await worker.open()
        self._generation += 1
        if self._is_closed:
            worker.abandon()
            raise StoreClosedError("the store was closed while it was connecting")
        return worker

    async def _reconnect(self) -> Worker:
        self._abandon_writer()
        self._writer = worker = await self._connect()
        log("warning", "connection_reopened", location=self._shared.path)
        return worker

    def _until(self) -> float:
        return time.monotonic() + self._shared.config.timeout_seconds

    def _abandon_writer(self) -> None:
        worker, self._writer = self._writer, None
        if worker is not None:
            worker.abandon()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError("the store was closed before this call was sent")
