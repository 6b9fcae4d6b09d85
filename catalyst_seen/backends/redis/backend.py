"""The verbs of a store as batches for Redis or Valkey, one server or a cluster.

A batch is one script call on each server that has keys of it. The script
(``script.lua``) executes the state table, atomically per key, and checks the TTL of
each row that it reads. Redis's own expiry removes expired rows, so there is no purge.

Control flows downwards: the backend sends each request through a ``RetryingChannel``
(``backends/_retry.py``: every retry and its backoff happen there, none in this
package or in redis-py), which calls ``batch``, ``cluster`` and ``pipeline`` in turn.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._config import SeenStoreConfig
from ..._errors import StoreClosedError
from .._retry import RetryingChannel, ServerClock
from .._settings import REDIS, check_effective
from .._unfinished import MARK, check_finished
from ..base import BackendCounters, PageResult
from ..operations import ForEach, Get, Mark
from . import each
from .administration import Cleanup, Clear
from .client import Client, OwnedClient, connect, describe, topology_of
from .errors import translated_errors
from .health import check, check_server
from .inspection import Inspection
from .keys import KeyCodec
from .layout import adopt, is_adopted
from .listings import Listings
from .observing import Observing
from .renames import rename
from .scan import scan_page
from .session import Session
from .sources import drop, lock
from .transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..._types import CheckReport
    from ..base import (
        BackendStats,
        BatchResult,
        Cursor,
        RecordPage,
        Selection,
        StoredPage,
    )
    from ..listings import (
        Fail,
        Observe,
        Observed,
        SourceRecord,
        SourceState,
        WaitingPage,
    )
    from ..operations import Id, Operation, Row
    from .runs import Names


class _Connection(NamedTuple):
    """What an open backend has."""

    session: Session
    inspection: Inspection
    observing: Observing
    listings: Listings
    transfer: Transfer
    client: OwnedClient | None


_PROBE_TTL = 1.0  # seconds after which the server removes a probe


class RedisBackend:
    """Keys in Redis 7 or Valkey 8, or newer.

    Implements ``SupportsInspection``, ``SupportsNamespaces``, ``SupportsForEach``,
    ``SupportsListings`` and ``SupportsTransfer``.
    """

    for_each: frozenset[type[Operation[Any]]] = each.SUPPORTED

    def __init__(
        self, target: str | Client, config: SeenStoreConfig | None = None
    ) -> None:
        """Validate the target; no I/O.

        Args:
            target: A URL, or the user's client from redis-py's ``asyncio``, which is
                used and never closed.
            config: ``prefix``, ``timeout``, ``allow_eviction`` and ``wait_replicas``
                apply here; the store uses the others.

        Raises:
            ConfigurationError: redis-py refuses the URL, or a setting has no effect on
                Redis.
            TypeError: The target is neither a URL nor such a client.
        """
        self.config: SeenStoreConfig = config or SeenStoreConfig()
        if not isinstance(target, str | Client):
            raise TypeError(
                "target must be a URL, a redis.asyncio.Redis or RedisCluster,"
                f" not {type(target).__name__}"
            )
        check_effective(self.config, REDIS)
        self._target = target
        self._location = describe(self._client())
        self._clock = ServerClock(self.config.tuning.server_time)
        self._codec = KeyCodec(self.config.prefix)
        self._connection: _Connection | None = None
        self._closing: asyncio.Task[None] | None = None
        self._channel: RetryingChannel | None = None
        self._engine = ""
        self._opens_unfinished = False

    @property
    def location(self) -> str:
        return self._location

    @property
    def database(self) -> str:
        return f"redis {self.config.prefix}"  # a server has many names

    def now(self) -> float:
        return self._clock.now()

    def counters(self) -> BackendCounters:
        channel = self._channel
        if channel is None:
            return BackendCounters()
        return BackendCounters(channel.retries, failing=channel.failing)

    def _client(self) -> Client:
        if isinstance(self._target, str):
            return connect(self._target, self.config.timeout_seconds)
        return self._target

    async def open(self) -> None:
        connecting = asyncio.create_task(self._connect())
        try:
            connection, is_current = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_abandon_connected)
            raise
        self._connection = connection
        self._channel = connection.session.channel
        try:
            if not is_current:
                await adopt(connection.session, self._codec, self.config.prefix)
        except asyncio.CancelledError:
            # A request under way completes in the background.
            self._connection = None
            self._closing = asyncio.create_task(_close(connection))
            raise
        except BaseException:
            await self.aclose()
            raise

    async def _connect(self) -> tuple[_Connection, bool]:
        """Connect; return also whether the names have the present layout."""
        topology = topology_of(self._client())
        owned = OwnedClient(topology) if isinstance(self._target, str) else None
        channel = RetryingChannel(self._location, self.config.timeout_seconds)
        replicas = self.config.wait_replicas
        session = Session(topology, channel, self._clock, replicas)
        try:
            is_current = await self._check_servers(session)
        except BaseException:
            if owned is not None:
                await owned.aclose()
            raise
        inspection = Inspection(session, self._codec, self.config.prefix)
        observing = Observing(session, self._codec)
        listings = Listings(
            observing, inspection, self._location, self.config.timeout_seconds
        )
        transfer = Transfer(observing)
        parts = session, inspection, observing, listings, transfer
        return _Connection(*parts, owned), is_current

    async def _check_servers(self, session: Session) -> bool:
        """Check the servers; return whether the names have the present layout.

        A prefix to which a move has not ended is refused. Nothing is retried: a server
        that does not answer is reported at once.
        """
        topology = session.topology
        # The batch loads the script and reads the server's clock.
        reads = [Get("", "layout"), Get(*MARK)]
        names = [self._codec.layout, self._codec.encode(*MARK)]
        batch = session.batch(reads, names, 0)
        with translated_errors(self._location):
            for primary in await topology.primaries():
                self._engine = await check_server(
                    topology, primary, self.config, self._location
                )
            await batch.send()
        batch.result()
        marker, move = batch.replies
        if move is not None and not self._opens_unfinished:
            check_finished(move.row, self._location)
        return marker is not None and is_adopted(marker, self._location)

    async def aclose(self) -> None:
        if self._connection is not None:
            await _close(self._connection)
            self._connection = None

    def abandon(self) -> None:
        if self._connection is None:
            return
        self._connection.session.channel.abandon()
        if self._connection.client is not None:
            self._connection.client.abandon()

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        names = [*map(self._names, operations)]
        result = await self._connected().execute(operations, names, timeout)
        return result._replace(version=object() if sample_version else None)

    def _names(self, operation: Operation[object]) -> Names:
        if isinstance(operation, ForEach):
            return self._codec.encode_all(operation.namespace, operation.keys)
        return self._codec.encode(operation.namespace, operation.key)

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        pattern = self._codec.pattern(namespace)
        session = self._connected()
        names, after = await scan_page(session, pattern, cursor, limit)
        ids = {name: id_ for name in names if (id_ := self._codec.decode(name))}
        cleanups = [Cleanup(*id_, age) for id_ in ids.values()]
        replies = await session.ask(cleanups, list(ids))
        return PageResult(sum(reply.is_done for reply in replies), after)

    async def clear(
        self,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        """Remove the next rows, and the markers of the namespace among them.

        Its source cannot be observed until the last page has removed it: what is seen
        in a cleared namespace would be new, item by item.
        """
        codec, pattern = self._codec, self._codec.everything(namespace)
        session, observing = self._connected(), self._opened().observing
        if cursor is None and namespace:
            await lock(observing, namespace)
        names, after = await scan_page(session, pattern, cursor, limit)
        sources = {space for name in names if (space := codec.sourced(name))}
        if namespace is None:
            for space in sources:
                await lock(observing, space)
        found = [name for name in names if codec.owns(name) and not codec.sourced(name)]
        clears = [Clear(*(self._codec.decode(name) or ("", ""))) for name in found]
        replies = await session.ask(clears, found)
        removed = sum(
            reply.is_done and self._codec.decode(name) is not None
            for name, reply in zip(found, replies, strict=True)
        )
        if after is None:
            await drop(observing, namespace)
        return PageResult(removed, after)

    async def probe(self) -> None:
        names = self._codec.probes
        marks = [Mark("", name.decode(), _PROBE_TTL) for name in names]
        await self._opened().session.ask(marks, names)

    async def rename(self, namespace: str, name: str) -> bool:
        return await rename(self._opened().observing, self._inspect(), namespace, name)

    async def observe(self, request: Observe) -> Observed | None:
        """Record a listing, all or nothing.

        While the slot of the namespace moves to another node of a cluster, that fails.
        """
        return await self._opened().listings.observe(request)

    async def fail(self, failure: Fail) -> None:
        await self._opened().listings.fail(failure)

    async def source(self, namespace: str) -> SourceRecord | None:
        return await self._opened().listings.source(namespace)

    async def sources(self) -> Mapping[str, SourceRecord]:
        return await self._opened().listings.sources()

    async def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        return await self._opened().listings.waiting(
            namespace, after=after, limit=limit
        )

    def open_unfinished(self) -> None:
        self._opens_unfinished = True

    async def read_rows(self, *, limit: int, cursor: Cursor | None) -> StoredPage:
        """Return a page of rows; see ``records`` for a key that moves meanwhile."""
        return await self._opened().transfer.read_rows(limit, cursor)

    async def read_rows_of(self, ids: Sequence[Id]) -> list[Row | None]:
        return await self._opened().transfer.read_rows_of(ids)

    async def write_rows(self, rows: Sequence[tuple[Id, Row | None]]) -> None:
        """Replace rows, some hundred at once, all or nothing."""
        await self._opened().transfer.write_rows(rows)

    async def read_source_states(self) -> dict[str, SourceState]:
        return await self._opened().transfer.read_source_states()

    async def write_source_states(
        self, states: Mapping[str, SourceState | None]
    ) -> None:
        await self._opened().transfer.write_source_states(states)

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        return await self._inspect().count(namespace)

    async def has_any(self, namespace: str | None) -> bool:
        return await self._inspect().has_any(namespace)

    async def namespaces(self) -> list[str]:
        return await self._inspect().namespaces()

    async def records(
        self, selection: Selection, *, limit: int, cursor: Cursor | None
    ) -> RecordPage:
        """Return a page of the selected records, with their notes.

        A key is returned once, unless it moves to another node of the cluster between
        two pages: then it is returned twice, or not at all.
        """
        return await self._inspect().records(selection, limit, cursor)

    async def stats(self, namespace: str | None) -> BackendStats:
        stats = await self._inspect().stats(namespace, self._engine)
        report = await self.check(is_full=False)
        return replace(stats, alarms=report.problems)

    async def check(self, *, is_full: bool) -> CheckReport:
        """Check the settings of the servers; a full check scans the names as well."""
        session = self._connected()
        if is_full:
            await self._inspect().namespaces()
        report = await session.request(
            lambda _: check(session.topology, self.config, self._location)
        )
        problems = (*report.problems, *self._inspect().problems())
        return replace(report, is_full=is_full, problems=problems)

    def _connected(self) -> Session:
        return self._opened().session

    def _inspect(self) -> Inspection:
        return self._opened().inspection

    def _opened(self) -> _Connection:
        if self._connection is None:
            raise StoreClosedError(f"store {self._location!r} was closed")
        return self._connection


async def _close(connection: _Connection) -> None:
    await connection.session.channel.aclose()
    if connection.client is not None:
        await connection.client.aclose()


def _abandon_connected(connecting: asyncio.Task[tuple[_Connection, bool]]) -> None:
    """Disconnect after an open that was cancelled while it connected."""
    if not connecting.cancelled() and connecting.exception() is None:
        connection, _ = connecting.result()
        if connection.client is not None:
            connection.client.abandon()
