"""The same works on each server, compared with a plain client.

Both use one server, in the same way: through a socket in the file system, a cluster
through TCP. Valkey writes its log to the disk every second; PostgreSQL acknowledges
what is on the disk. Keys have 60 bytes.

How much memory a key needs depends on how full the server's hash tables are, which
double from time to time. 100,000 keys fill Valkey's by 87 %, and a quarter of them one
of a quarter of the size; when they have just doubled, a key needs 10 bytes more. A
cluster has tables for each of its 16,384 slots: with so few keys, they weigh more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.contestants.ours import Ours, OursByClaims, OursByFilter
from benchmarks.contestants.postgres import Asyncpg
from benchmarks.contestants.valkey import RedisPy, RedisPyByTag
from benchmarks.feeds import FIRST, ITEMS, LATER, measures, polling
from benchmarks.load import (
    SIZE,
    TIME,
    claiming,
    filling,
    latencies,
    marking,
    marking_many,
    per_operation,
    repeating,
    with_addresses,
)
from benchmarks.measure import OURS, THROUGHPUT, Goal, Measure, Work
from benchmarks.timing import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.contestants import ByHand, Opener, Polling
    from benchmarks.measure import Run
    from benchmarks.servers import Place

FILTER = f"{OURS}, filter_new + mark_many"
REDIS = "redis-py"
ASYNCPG = "asyncpg"

_TASKS = 100
_MANY = 1_000
_KEYS, _KEYS_QUICK = 100_000, 25_000
_FEEDS, _FEEDS_QUICK = 1_000, 100


@dataclass(frozen=True)
class Backend:
    """A kind of server, and its use without the store.

    Attributes:
        name: Prefix of the names of its works.
        title: Name of the server.
        place: Returns the server.
        by_hand: Name of the plain client.
        opened: Opens the plain client.
        others: Further ways to mark new keys by hand, without a goal.
        most: The largest number of bytes per key of our store.
        pollers: Further ways to poll feeds by hand.
        aim: How many times the items a second of the plain client, at polls of feeds.
    """

    name: str
    title: str
    place: Place
    by_hand: str
    opened: Opener[ByHand]
    others: Mapping[str, Run] = field(default_factory=dict)
    most: float | None = None
    pollers: Mapping[str, Opener[Polling]] = field(default_factory=dict)
    aim: float | None = None

    def works(self) -> tuple[Work, ...]:
        """Return all works on the server."""
        new = self._both(lambda opened: marking(opened, _TASKS))
        one = self._both(lambda opened: per_operation(marking(opened, 1)))
        return (
            self._work(
                "new-keys",
                "check_and_mark, new keys, 100 tasks",
                _per_second("marks", Goal(4, self.by_hand, is_aim=True)),
                {**new, **self.others},
            ),
            self._work(
                "duplicates",
                "check_and_mark, keys that were checked just before, 100 tasks",
                _per_second("checks"),
                self._both(lambda opened: repeating(opened, _TASKS)),
            ),
            self._work(
                "one-caller",
                "check_and_mark, new keys, one caller",
                (Measure(TIME, "µs"),),
                one,
            ),
            self._work(
                "many",
                "check_and_mark_many, 1,000 new keys at a time",
                _per_second("marks"),
                self._both(lambda opened: marking_many(opened, _MANY)),
            ),
            self._work(
                "claims",
                "claim and confirm, new keys, 100 tasks",
                _per_second("claims"),
                self._both(lambda opened: claiming(opened, _TASKS)),
            ),
            self._feeds(),
            self._latency(),
            self._size(),
        )

    def _feeds(self) -> Work:
        def way(opened: Opener[Polling]) -> Run:
            return polling(opened, _FEEDS, _FEEDS_QUICK, self.place)

        aims = () if self.aim is None else (Goal(self.aim, self.by_hand, is_aim=True),)
        work = self._work(
            "feeds",
            f"{_FEEDS:,} feeds of {ITEMS} items each, 100 polls at once",
            measures({FIRST: aims, LATER: aims}),
            {
                OURS: way(Ours.on(self.place)),
                FILTER: way(OursByFilter.on(self.place)),
                self.by_hand: way(self.opened),
                **{name: way(opened) for name, opened in self.pollers.items()},
            },
        )
        return replace(work, quick=f"{_FEEDS_QUICK} feeds only", is_long=True)

    def _latency(self) -> Work:
        return self._work(
            "latency",
            "check_and_mark, new keys, 100 tasks, each timed",
            tuple(Measure(name, "ms") for name in PERCENTILES),
            self._both(lambda opened: latencies(opened, _TASKS)),
        )

    def _size(self) -> Work:
        def way(opened: Opener[ByHand]) -> Run:
            return filling(opened, self.place, _KEYS, _KEYS_QUICK)

        claimed = {f"{OURS}, claimed and confirmed": way(OursByClaims.on(self.place))}
        goals = () if self.most is None else (Goal(self.most),)
        work = self._work(
            "size",
            f"room for a key of 60 bytes, of {_KEYS:,}",
            (Measure(SIZE, "bytes", goals=goals),),
            {**self._both(way), **claimed},
        )
        return replace(work, quick=f"{_KEYS_QUICK:,} keys only", is_long=True)

    def _both(self, way: Callable[[Opener[ByHand]], Run]) -> dict[str, Run]:
        """Return the same run of our store and of the plain client."""
        return {OURS: way(Ours.on(self.place)), self.by_hand: way(self.opened)}

    def _work(
        self,
        name: str,
        title: str,
        measures: tuple[Measure, ...],
        runs: Mapping[str, Run],
    ) -> Work:
        return Work(
            f"{self.name}-{name}",
            title,
            measures,
            {name: with_addresses(run) for name, run in runs.items()},
            backend=self.title,
        )


def _per_second(what: str, *goals: Goal) -> tuple[Measure, ...]:
    return (Measure(THROUGHPUT, f"{what}/s", more_is_better=True, goals=goals),)


BACKENDS = (
    Backend(
        "valkey",
        "Valkey",
        lambda servers: servers.valkey,
        REDIS,
        RedisPy.opened,
        {f"{REDIS}, pipelined": marking_many(RedisPy.opened, _TASKS)},
        most=160,
    ),
    Backend(
        "cluster",
        "Valkey Cluster, three primaries",
        lambda servers: servers.cluster,
        REDIS,
        RedisPy.opened_on_cluster,
        {f"{REDIS}, pipelined": marking_many(RedisPy.opened_on_cluster, _TASKS)},
        pollers={f"{REDIS}, hash tags": RedisPyByTag.opened_on_cluster},
        aim=3,
    ),
    Backend(
        "postgres",
        "PostgreSQL",
        lambda servers: servers.postgres,
        ASYNCPG,
        Asyncpg.opened,
        {f"{ASYNCPG}, tuned": marking(Asyncpg.opened_tuned, _TASKS)},
    ),
)

SERVER_WORKS = tuple(work for backend in BACKENDS for work in backend.works())
