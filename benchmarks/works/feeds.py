"""The real job, thousands of feeds: each form of the store, and its alternatives.

The goals are parts of one plain statement per feed, measured in the same run: it has
the shape of the question, but says only which items are new. The other programs are
measured with fewer feeds, for they would need minutes.
"""

from __future__ import annotations

from benchmarks.contestants.disk import DiskCache
from benchmarks.contestants.naive import NaiveAiosqlite
from benchmarks.contestants.ours import Ours, OursByFilter
from benchmarks.contestants.raw import PlainStatement
from benchmarks.contestants.valkey import Idemkit, RedisPy
from benchmarks.feeds import (
    FIRST,
    ITEMS,
    LAG,
    LATER,
    P99,
    UNCHANGED,
    measures,
    of,
    polling,
)
from benchmarks.measure import OURS, Goal, Work

from .servers import FILTER
from .throughput import DISKCACHE, IDEMKIT, NAIVE, REDIS

PLAIN = "one plain statement"

_FEEDS, _FEEDS_QUICK = 5_000, 1_000
_FEW, _FEW_QUICK = 200, 50
_GOALS = {
    FIRST: (Goal(0.6, PLAIN),),
    LATER: (Goal(0.4, PLAIN), Goal(0.6, PLAIN, is_aim=True)),
    of(LATER, LAG): (Goal(10),),
    of(LATER, P99): (Goal(40),),
    UNCHANGED: (Goal(5, PLAIN),),
}
_JOB = f"{ITEMS} items each, 100 polls at once"

FEED_WORKS = (
    *(
        Work(
            name,
            f"{_FEEDS:,} feeds of {_JOB}, by {verbs}",
            measures(_GOALS),
            {
                OURS: polling(opened, _FEEDS, _FEEDS_QUICK),
                PLAIN: polling(PlainStatement.opened, _FEEDS, _FEEDS_QUICK),
            },
            quick=f"{_FEEDS_QUICK:,} feeds only",
            is_long=True,
        )
        for name, verbs, opened in (
            ("feeds", "check_and_mark_many", Ours.opened),
            ("feeds-filter", "filter_new and mark_many", OursByFilter.opened),
        )
    ),
    Work(
        "feeds-peers",
        f"{_FEW} feeds of {_JOB}",
        measures({}),
        {
            OURS: polling(Ours.opened, _FEW, _FEW_QUICK),
            FILTER: polling(OursByFilter.opened, _FEW, _FEW_QUICK),
            PLAIN: polling(PlainStatement.opened, _FEW, _FEW_QUICK),
            NAIVE: polling(NaiveAiosqlite.opened, _FEW, _FEW_QUICK),
            DISKCACHE: polling(DiskCache.opened, _FEW, _FEW_QUICK),
            **{
                name: polling(
                    opened, _FEW, _FEW_QUICK, lambda servers: servers.valkey_in_memory
                )
                for name, opened in (
                    (f"{REDIS}, pipelined", RedisPy.opened_in_memory),
                    (IDEMKIT, Idemkit.opened),
                )
            },
        },
        quick=f"{_FEW_QUICK} feeds only",
        is_long=True,
    ),
)
"""Items per second by phase, with CPU time, the p99 of polls, and the loop's lag."""
