"""Throughput and latency."""

from __future__ import annotations

from benchmarks.contestants.disk import DiskCache
from benchmarks.contestants.naive import NaiveAiosqlite
from benchmarks.contestants.old import OldStoreInThreads
from benchmarks.contestants.ours import Ours
from benchmarks.contestants.raw import OneHop, RawExecutemany, RawSqlite
from benchmarks.contestants.valkey import CONNECTIONS, Idemkit, RedisPy
from benchmarks.load import (
    TIME,
    claiming,
    claiming_many,
    cycling,
    fully_synchronous,
    latencies,
    looking,
    marking,
    marking_many,
    per_operation,
    reopened,
    repeating,
    repeating_many,
)
from benchmarks.measure import OURS, THROUGHPUT, Goal, Measure, Work
from benchmarks.timing import LOOP, PERCENTILES, WORKER

NAIVE = "naive aiosqlite"
OLD = "old store, to_thread"
DISKCACHE = "diskcache, to_thread"
REDIS = "redis-py"
RAW = "raw sqlite3"
HOP = "one aiosqlite hop"
IDEMKIT = "idemkit"

_TASKS = 100
_MANY = 1_000
_CYCLE = 20  # marks, as a bot that opens a store for each of its cycles


def _per_second(what: str, *goals: Goal) -> tuple[Measure, ...]:
    return (Measure(THROUGHPUT, f"{what}/s", more_is_better=True, goals=goals),)


def _by_tasks(tasks: int, *goals: Goal, title: str, name: str) -> Work:
    """Mark new keys from a number of tasks, or in batches of that number."""
    redis = (
        RedisPy.opened_in_memory if tasks <= CONNECTIONS else RedisPy.opened_for_many
    )
    return Work(
        name,
        title,
        _per_second("marks", *goals),
        {
            OURS: marking(Ours.opened, tasks),
            RAW: marking_many(RawSqlite.opened, tasks),
            NAIVE: marking(NaiveAiosqlite.opened, tasks),
            OLD: marking(OldStoreInThreads.opened, tasks),
            DISKCACHE: marking(DiskCache.opened, tasks),
            REDIS: marking(redis, tasks),
            f"{REDIS}, pipelined": marking_many(RedisPy.opened_in_memory, tasks),
        },
    )


THROUGHPUT_WORKS = (
    _by_tasks(
        _TASKS,
        Goal(0.95, RAW),
        name="new-keys",
        title="check_and_mark, new keys, 100 tasks (raw and pipelined: batches of 100)",
    ),
    Work(
        "new-keys-full",
        "check_and_mark, new keys, 100 tasks, synchronous=FULL",
        _per_second("marks", Goal(20, NAIVE, is_aim=True)),
        {
            OURS: fully_synchronous(marking(Ours.opened, _TASKS)),
            RAW: fully_synchronous(marking_many(RawSqlite.opened, _TASKS)),
            NAIVE: fully_synchronous(marking(NaiveAiosqlite.opened, _TASKS)),
        },
    ),
    Work(
        "duplicates",
        "check_and_mark, keys that were checked just before, 100 tasks",
        _per_second("checks", Goal(40, NAIVE, is_aim=True)),
        {
            OURS: repeating(Ours.opened, _TASKS),
            RAW: repeating_many(RawSqlite.opened, _TASKS),
            NAIVE: repeating(NaiveAiosqlite.opened, _TASKS),
            OLD: repeating(OldStoreInThreads.opened, _TASKS),
            DISKCACHE: repeating(DiskCache.opened, _TASKS),
            REDIS: repeating(RedisPy.opened_in_memory, _TASKS),
            f"{REDIS}, pipelined": repeating_many(RedisPy.opened_in_memory, _TASKS),
        },
    ),
    Work(
        "duplicates-reopened",
        "check_and_mark, keys marked before the store was opened, 100 tasks",
        _per_second("checks"),
        {
            OURS: reopened(Ours.opened, _TASKS),
            NAIVE: reopened(NaiveAiosqlite.opened, _TASKS),
            OLD: reopened(OldStoreInThreads.opened, _TASKS),
        },
    ),
    Work(
        "recent-key",
        "is_seen, keys that were read just before, one caller",
        _per_second("looks", Goal(100_000), Goal(15, HOP)),
        {
            OURS: looking(Ours.opened),
            HOP: looking(OneHop.opened),
            REDIS: looking(RedisPy.opened_in_memory),
        },
    ),
    Work(
        "one-caller",
        "check_and_mark, new keys, one caller",
        (Measure(TIME, "µs", goals=(Goal(1.7, HOP),)),),
        {
            OURS: per_operation(marking(Ours.opened, 1)),
            RAW: per_operation(marking(RawSqlite.opened, 1)),
            HOP: per_operation(marking(OneHop.opened, 1)),
            NAIVE: per_operation(marking(NaiveAiosqlite.opened, 1)),
            OLD: per_operation(marking(OldStoreInThreads.opened, 1)),
            REDIS: per_operation(marking(RedisPy.opened_in_memory, 1)),
        },
    ),
    Work(
        "cycle",
        "a store opened for a cycle of 20 marks, and closed",
        (Measure(TIME, "µs"),),
        {
            OURS: cycling(Ours.opened, _CYCLE),
            NAIVE: cycling(NaiveAiosqlite.opened, _CYCLE),
            OLD: cycling(OldStoreInThreads.opened, _CYCLE),
        },
    ),
    Work(
        "many",
        "check_and_mark_many, 1,000 new keys at a time (raw: executemany)",
        _per_second("marks", Goal(0.6, RAW)),
        {
            OURS: marking_many(Ours.opened, _MANY),
            RAW: marking_many(RawExecutemany.opened, _MANY),
            f"{REDIS}, pipelined": marking_many(RedisPy.opened_in_memory, _MANY),
        },
    ),
    Work(
        "claims",
        "claim and confirm, new keys, 100 tasks (raw: batches of 100)",
        (
            *_per_second("claims", Goal(0.4, RAW)),
            Measure(LOOP, "µs"),
            Measure(WORKER, "µs"),
        ),
        {
            OURS: claiming(Ours.opened, _TASKS),
            RAW: claiming_many(RawSqlite.opened, _TASKS),
            REDIS: claiming(RedisPy.opened_in_memory, _TASKS),
            IDEMKIT: claiming(Idemkit.opened, _TASKS),
        },
    ),
    _by_tasks(10, name="tasks-10", title="check_and_mark, new keys, 10 tasks"),
    _by_tasks(1_000, name="tasks-1000", title="check_and_mark, new keys, 1,000 tasks"),
    Work(
        "latency",
        "check_and_mark, new keys, 100 tasks, each timed",
        tuple(Measure(name, "ms") for name in PERCENTILES),
        {
            OURS: latencies(Ours.opened, _TASKS),
            NAIVE: latencies(NaiveAiosqlite.opened, _TASKS),
            OLD: latencies(OldStoreInThreads.opened, _TASKS),
            DISKCACHE: latencies(DiskCache.opened, _TASKS),
            REDIS: latencies(RedisPy.opened_in_memory, _TASKS),
        },
    ),
)
