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
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from ..._config import SeenStoreConfig
from ..._errors import StoreClosedError, StoreError
from ..._types import ON_ABANDONED, CheckReport, Record
from ..._verdict import Verdict
from .._retry import RetryingChannel, ServerClock
from .._settings import REDIS, check_effective
from ..base import BackendStats, BatchResult, PageResult
from ..operations import Get
from .batch import Batch
from .client import Client, OwnedClient, connect, describe, topology_of
from .errors import translated_errors
from .health import check, check_server
from .keys import KeyCodec
from .script import Cleanup

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )

    from ..base import Cursor
    from ..operations import Id, Operation, Row
    from .cluster import Topology

T = TypeVar("T")

_SCAN_START = _SCAN_END = "0"
_SCAN_COUNT = 1_000  # keys that one SCAN examines, while the server blocks others


class RedisBackend:
    """Keys in Redis 7 or Valkey 8, or newer. Implements ``SupportsInspection``."""

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
        self._channel = RetryingChannel(self._location, self.config.timeout_seconds)
        self._codec = KeyCodec(self.config.prefix)
        self._topology: Topology | None = None
        self._owned_client: OwnedClient | None = None
        self._engine = ""

    @property
    def location(self) -> str:
        return self._location

    @property
    def database(self) -> str:
        return f"{self._location} {self.config.prefix}"

    def now(self) -> float:
        return self._clock.now()

    def _client(self) -> Client:
        if isinstance(self._target, str):
            return connect(self._target, self.config.timeout_seconds)
        return self._target

    async def open(self) -> None:
        connecting = asyncio.create_task(self._connect())
        try:
            self._topology, self._owned_client = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_abandon_connected)
            raise

    async def _connect(self) -> tuple[Topology, OwnedClient | None]:
        topology = topology_of(self._client())
        owned = OwnedClient(topology) if isinstance(self._target, str) else None
        try:
            await self._check_servers(topology)
        except BaseException:
            if owned is not None:
                await owned.aclose()
            raise
        return topology, owned

    async def _check_servers(self, topology: Topology) -> None:
        # The batch loads the script and reads the server's clock.
        batch = self._batch([Get("", "probe")], topology)
        with translated_errors(self._location):
            for primary in await topology.primaries():
                self._engine = await check_server(
                    topology, primary, self.config, self._location
                )
            await batch.send()
        batch.result()

    async def aclose(self) -> None:
        await self._channel.aclose()
        owned, self._owned_client = self._owned_client, None
        self._topology = None
        if owned is not None:
            await owned.aclose()

    def abandon(self) -> None:
        self._channel.abandon()
        if self._owned_client is not None:
            self._owned_client.abandon()

    async def apply(
        self,
        operations: Sequence[Operation[object]],
        *,
        sample_version: bool,
        timeout: float | None = None,
    ) -> BatchResult:
        _, result = await self._execute(operations, timeout)
        return result._replace(version=object() if sample_version else None)

    async def cleanup(
        self,
        age: float,
        *,
        namespace: str | None,
        limit: int,
        cursor: Cursor | None,
        lock_timeout: float | None = None,
    ) -> PageResult:
        primary, position = cursor or ("", _SCAN_START)
        primaries = [name for name in await self._primaries() if name >= primary]
        if not primaries:
            return PageResult(0, None)
        if primaries[0] != primary:  # the node of the cursor has left the cluster
            position = _SCAN_START
        after, ids = await self._scan_page(primaries[0], position, namespace, limit)
        removed = await self._remove_old(ids, age) if ids else 0
        if after != _SCAN_END:
            return PageResult(removed, (primaries[0], after))
        following = (primaries[1], _SCAN_START) if primaries[1:] else None
        return PageResult(removed, following)

    async def count(self, namespace: str | None) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        async for id_, verdict, _ in self._rows(namespace):
            if verdict is Verdict.DUPLICATE:
                counts[id_[0]] += 1
        return counts

    async def held(self, namespace: str | None) -> list[Record]:
        held = [
            Record(id_[1], id_[0], row.first_seen, row.last_seen, row.expires_at)
            async for id_, verdict, row in self._rows(namespace)
            if verdict is Verdict.HELD
        ]
        return sorted(held, key=lambda record: (record.namespace, record.key))

    async def stats(self, namespace: str | None) -> BackendStats:
        keys: Counter[str] = Counter()
        abandoned = dict.fromkeys(ON_ABANDONED, 0)
        claimed = 0
        async for id_, verdict, row in self._rows(namespace):
            keys[id_[0]] += verdict is Verdict.DUPLICATE
            claimed += verdict is Verdict.IN_FLIGHT
            if row.on_abandoned and verdict is not Verdict.IN_FLIGHT:
                abandoned[row.on_abandoned] += 1
        return BackendStats(
            keys_by_namespace=dict(+keys),
            claimed=claimed,
            abandoned=abandoned,
            file_bytes=0,
            engine=self._engine,
        )

    async def check(self, *, is_full: bool) -> CheckReport:
        topology = self._connected()
        return await self._request(
            lambda _: check(topology, self.config, self._location)
        )

    async def _execute(
        self,
        operations: Sequence[Operation[object]],
        timeout: float | None = None,
    ) -> tuple[Batch, BatchResult]:
        batch = self._batch(operations, self._connected())
        failure = None
        try:
            await self._request(batch.send, is_change=batch.is_change, timeout=timeout)
        except StoreError as exc:
            failure = exc  # of some script calls; the others have their results
        return batch, batch.result(failure)

    def _batch(
        self, operations: Sequence[Operation[object]], topology: Topology
    ) -> Batch:
        encode = self._codec.encode
        return Batch(
            operations,
            [encode(operation.namespace, operation.key) for operation in operations],
            topology,
            self._clock,
            location=self._location,
            replicas=self.config.wait_replicas,
        )

    async def _request(
        self,
        send: Callable[[float], Awaitable[T]],
        *,
        is_change: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Send a request, with retries, and translate the error of the last one.

        Args:
            send: Sends the request once; its argument is the timeout of the attempt.
            is_change: Whether the request changes a key.
            timeout: As of ``apply``.
        """
        with translated_errors(self._location):
            return await self._channel.request(
                lambda attempt: send(attempt.timeout),
                is_change=is_change,
                timeout=timeout,
            )

    async def _remove_old(self, ids: Iterable[Id], age: float) -> int:
        _, result = await self._execute([Cleanup(*id_, age) for id_ in ids])
        _raise_unavailable(result)
        return sum(removed is True for removed in result.results)

    async def _rows(
        self, namespace: str | None
    ) -> AsyncIterator[tuple[Id, Verdict, Row]]:
        """Yield the id, the state and the row of every key, once."""
        known: set[Id] = set()  # SCAN may return a key twice
        for primary in await self._primaries():
            cursor = _SCAN_START
            while True:
                cursor, ids = await self._scan_page(
                    primary, cursor, namespace, _SCAN_COUNT
                )
                ids = [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
                known.update(ids)
                for entry in await self._read_rows(ids) if ids else ():
                    yield entry
                if cursor == _SCAN_END:
                    break

    async def _read_rows(self, ids: Sequence[Id]) -> list[tuple[Id, Verdict, Row]]:
        batch, result = await self._execute([Get(*id_) for id_ in ids])
        _raise_unavailable(result)
        return [
            (id_, verdict, row)
            for id_, verdict, row in zip(ids, batch.verdicts, result.rows, strict=True)
            if row is not None and verdict is not None
        ]

    async def _scan_page(
        self, primary: str, cursor: str, namespace: str | None, size: int
    ) -> tuple[str, list[Id]]:
        """Return the next cursor of ``SCAN``, and the ids of one page."""
        pattern = self._codec.pattern(namespace)
        args = ("SCAN", cursor, "MATCH", pattern, "COUNT", size)
        execute = self._connected().execute
        after, redis_keys = await self._request(
            lambda timeout: execute(primary, *args, timeout=timeout)
        )
        ids = map(self._codec.decode, redis_keys)
        return after.decode(), [id_ for id_ in ids if id_ is not None]

    async def _primaries(self) -> list[str]:
        primaries = self._connected().primaries
        return await self._request(lambda _: primaries())

    def _connected(self) -> Topology:
        if self._topology is None:
            raise StoreClosedError(f"store {self._location!r} was closed")
        return self._topology


def _raise_unavailable(result: BatchResult) -> None:
    """Raise the error of a failed operation; keys of other programs are skipped."""
    for one in result.results:
        if isinstance(one, StoreError):
            raise one


def _abandon_connected(
    connecting: asyncio.Task[tuple[Topology, OwnedClient | None]],
) -> None:
    """Disconnect after an open that was cancelled while it connected."""
    if not connecting.cancelled() and connecting.exception() is None:
        _, owned = connecting.result()
        if owned is not None:
            owned.abandon()
