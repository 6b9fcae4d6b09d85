"""Keys in Redis or Valkey, on one server or on a cluster, through redis-py.

A batch is one call of a script on each server that has keys of it. The script does what
the state table says, each key in one step; Redis's own expiry takes rows away.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisClusterException, RedisError

from ..._config import SeenStoreConfig
from ..._errors import StoreClosedError, StoreUnavailableError
from ..._types import ON_ABANDONED, CheckReport, Record, Verdict
from .._retry import RetryingChannel, ServerClock, no_retry
from ..base import BackendStats, BatchResult, PageResult
from ..operations import Get
from ._link import Link
from .batch import Batch
from .client import Client, connect, describe, nodes_of
from .errors import refused
from .health import check, check_safety
from .keys import Names
from .script import Cleanup

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )

    from ..base import Cursor
    from ..operations import Id, Operation, Row
    from .cluster import Nodes
    from .pipeline import Word

T = TypeVar("T")

_PAGE = 1_000  # keys that Redis looks at before it lets others have a turn
_END = b"0"  # of a SCAN


class RedisBackend:
    """Keys in Redis 7 or Valkey 8, or what is newer."""

    def __init__(
        self, target: str | Client, config: SeenStoreConfig | None = None
    ) -> None:
        """Remember the settings; no I/O.

        Args:
            target: A URL, or a client of redis-py's ``asyncio`` of yours, which is used
                and never closed.
            config: ``prefix``, ``timeout``, ``allow_eviction`` and ``wait_replicas``
                count here; the store takes the others from it.

        Raises:
            ConfigurationError: redis-py can make nothing of the URL.
            TypeError: The target is neither a URL nor such a client.
        """
        self.config: SeenStoreConfig = config or SeenStoreConfig()
        if not isinstance(target, str | Client):
            raise TypeError(
                "target must be a URL, a redis.asyncio.Redis or RedisCluster,"
                f" not {type(target).__name__}"
            )
        self._target = target
        self._location = describe(self._client())
        self._clock = ServerClock(self.config.tuning.server_time)
        self._exchanges = RetryingChannel(self._location, self.config.timeout)
        self._link: Link | None = None
        self._engine = ""
        self._names = Names(self.config.prefix)

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
            return connect(self._target, self.config.timeout)
        return self._target

    async def open(self) -> None:
        opening = asyncio.create_task(self._opened())
        try:
            self._link = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_end_opened)
            raise

    async def _opened(self) -> Link:
        link = Link(nodes_of(self._client()), is_own=isinstance(self._target, str))
        try:
            with self._translated():
                for primary in await link.nodes.primaries():
                    self._engine = await check_safety(
                        link.nodes, primary, self.config, self._location
                    )
                look = self._batch([Get("", "what time is it")], link.nodes)
                await look.send()
            look.applied()
        except BaseException:
            await link.aclose()
            raise
        return link

    async def aclose(self) -> None:
        await self._exchanges.aclose()
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()

    def abandon(self) -> None:
        self._exchanges.abandon()
        if self._link is not None:
            self._link.abandon()

    async def apply(
        self, operations: Sequence[Operation[object]], *, sample_version: bool
    ) -> BatchResult:
        _, applied = await self._carry_out(operations)
        return applied._replace(version=object() if sample_version else None)

    async def cleanup(
        self, age: float, *, namespace: str | None, limit: int, cursor: Cursor | None
    ) -> PageResult:
        primary, position = cursor or ("", "0")
        primaries = [name for name in await self._primaries() if name >= primary]
        if not primaries:
            return PageResult(0, None)
        if primaries[0] != primary:
            position = "0"
        after, ids = await self._page(primaries[0], position, namespace, limit)
        removed = 0
        if ids:
            _, applied = await self._carry_out([Cleanup(*id_, age) for id_ in ids])
            _check(applied)
            removed = sum(answer is True for answer in applied.results)
        if after != _END:
            return PageResult(removed, (primaries[0], after.decode()))
        return PageResult(removed, (primaries[1], "0") if primaries[1:] else None)

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
        async for (of, _), verdict, row in self._rows(namespace):
            keys[of] += verdict is Verdict.DUPLICATE
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
        return await self._ask(lambda nodes: check(nodes, self.config, self._location))

    async def _carry_out(
        self, operations: Sequence[Operation[object]]
    ) -> tuple[Batch, BatchResult]:
        batch = self._batch(operations, self._connected())
        unanswered = None
        try:
            with self._translated():
                await self._exchanges.request(
                    lambda _: batch.send(), is_change=batch.is_change
                )
        except StoreUnavailableError as exc:
            unanswered = exc
        return batch, batch.applied(unanswered)

    def _batch(self, operations: Sequence[Operation[object]], nodes: Nodes) -> Batch:
        return Batch(
            operations,
            [self._names.name(one.namespace, one.key) for one in operations],
            nodes,
            self._clock,
            location=self._location,
            replicas=self.config.wait_replicas,
        )

    async def _rows(
        self, namespace: str | None
    ) -> AsyncIterator[tuple[Id, Verdict, Row]]:
        """Give every key once, what it is, and its row."""
        met: set[Id] = set()  # Redis may show a key twice
        for primary in await self._primaries():
            cursor = "0"
            while True:
                after, ids = await self._page(primary, cursor, namespace, _PAGE)
                ids = [id_ for id_ in dict.fromkeys(ids) if id_ not in met]
                met.update(ids)
                if ids:
                    looks = [Get(*id_) for id_ in ids]
                    batch, applied = await self._carry_out(looks)
                    _check(applied)
                    for id_, verdict, row in zip(
                        ids, batch.verdicts, applied.rows, strict=True
                    ):
                        if row is not None and verdict is not None:
                            yield id_, verdict, row
                if after == _END:
                    break
                cursor = after.decode()

    async def _page(
        self, primary: str, cursor: str, namespace: str | None, size: int
    ) -> tuple[bytes, list[Id]]:
        pattern = self._names.pattern(namespace)
        words = ("SCAN", cursor, "MATCH", pattern, "COUNT", size)
        after, names = await self._call(primary, *words)
        return after, [id_ for id_ in map(self._names.id_, names) if id_ is not None]

    async def _primaries(self) -> list[str]:
        return await self._ask(lambda nodes: nodes.primaries())

    async def _call(self, primary: str, *words: Word) -> Any:  # noqa: ANN401 - anything
        return await self._ask(lambda nodes: nodes.call(primary, *words))

    async def _ask(self, question: Callable[[Nodes], Awaitable[T]]) -> T:
        """Ask servers for something that changes nothing."""
        nodes = self._connected()
        with self._translated():
            return await self._exchanges.request(
                lambda _: question(nodes), is_change=False
            )

    def _connected(self) -> Nodes:
        if self._link is None:
            raise StoreClosedError(f"store {self._location!r} was closed")
        return self._link.nodes

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with no_retry(self._location):
                yield
        except (RedisError, RedisClusterException) as exc:
            raise refused(exc, self._location) from exc


def _check(applied: BatchResult) -> None:
    """Raise what failed, but for the keys of other programs, which do not count."""
    for answer in applied.results:
        if isinstance(answer, StoreUnavailableError):
            raise answer


def _end_opened(opening: asyncio.Task[Link]) -> None:
    """Disconnect what nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abandon()
