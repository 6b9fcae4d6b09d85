"""Every metric: its name, its meaning, and how it is read from a snapshot.

One table serves Prometheus, OpenTelemetry, the reference in the docs, the alerts and
the dashboard. Names follow the conventions of both: dots here, and underscores, the
unit and ``_total`` are what an exporter makes of them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from .. import __version__
from ._limits import limited

if TYPE_CHECKING:
    from .. import Histogram, OnAbandoned, Sizes, Source, StoreMetrics

Labels = tuple[str, ...]
Value = tuple[Labels, float]
_Read = Callable[["StoreMetrics"], Iterable[Value]]


_UNITS = {"s": "seconds", "By": "bytes"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: Its name in OpenTelemetry, without ``catalyst_seen.``.
        unit: Its unit in the notation of OpenTelemetry: ``"s"``, ``"By"``, ``"{key}"``.
        labels: The names of its labels, besides ``store``.
        help: What it tells, in a sentence.
    """

    name: str
    unit: str
    labels: Labels
    help: str

    @property
    def base_name(self) -> str:
        """Its name in Prometheus, without the suffix of its kind."""
        name = f"catalyst_seen_{self.name.replace('.', '_')}"
        return f"{name}_{_UNITS[self.unit]}" if self.unit in _UNITS else name


@dataclass(frozen=True, slots=True)
class Number(Metric):
    """A metric with one number for each combination of its labels.

    Attributes:
        kind: ``"counter"``, which only grows, or ``"gauge"``.
        read: Returns the values of the labels, and the number, of each combination.
    """

    kind: Literal["counter", "gauge"]
    read: Callable[[StoreMetrics], Iterable[Value]]

    @property
    def exposed_name(self) -> str:
        """Its name in Prometheus."""
        return f"{self.base_name}_total" if self.kind == "counter" else self.base_name


@dataclass(frozen=True, slots=True)
class Buckets(Metric):
    """A metric that is a histogram.

    Attributes:
        read: Returns it.
    """

    read: Callable[[StoreMetrics], Histogram]

    def buckets(self, metrics: StoreMetrics) -> list[tuple[str, int]]:
        """Return the upper bounds, and how many values are not above each."""
        histogram = self.read(metrics)
        bounds = [f"{bound:g}" for bound in histogram.bounds]
        return [*zip([*bounds, "+Inf"], accumulate(histogram.counts), strict=True)]


def _one(read: Callable[[StoreMetrics], float | None]) -> _Read:
    """Read one number; without one there is no value."""

    def values(metrics: StoreMetrics) -> Iterable[Value]:
        number = read(metrics)
        return [] if number is None else [((), number)]

    return values


def _size(read: Callable[[Sizes], float | None]) -> _Read:
    """Read one number of the last sample."""
    return _one(lambda metrics: read(metrics.sizes) if metrics.sizes else None)


def _each_source(read: Callable[[Source], Mapping[str, float | None]]) -> _Read:
    """Read numbers of each source, by the label that follows its namespace."""

    def values(metrics: StoreMetrics) -> Iterable[Value]:
        for source in limited(metrics.sizes.sources if metrics.sizes else ()):
            for label, number in read(source).items():
                if number is not None:
                    labels = (source.namespace, label) if label else (source.namespace,)
                    yield labels, number

    return values


def _source(read: Callable[[Source], float | None]) -> _Read:
    """Read one number of each source."""
    return _each_source(lambda source: {"": read(source)})


def _build(metrics: StoreMetrics) -> Iterable[Value]:
    engine = metrics.sizes.engine if metrics.sizes else ""
    python = platform.python_version()
    yield (__version__, python, metrics.backend, engine), 1


def _keys(metrics: StoreMetrics) -> Iterable[Value]:
    keys = metrics.sizes.keys if metrics.sizes else {}
    return (((namespace,), number) for namespace, number in keys.items())


def _claims(metrics: StoreMetrics) -> Iterable[Value]:
    if metrics.sizes:
        yield ("live",), metrics.sizes.claimed
        yield ("released",), metrics.sizes.released
        for policy, state in _ABANDONED.items():
            yield (state,), metrics.sizes.abandoned[policy]


_ABANDONED: dict[OnAbandoned, str] = {
    "retry": "abandoned",
    "hold": "held",
    "drop": "dropped",
}
_SAMPLED = " Read from the database, at most once in sample_interval."
_ALL = " All processes on one database report the same: aggregate with max."

METRICS: tuple[Number | Buckets, ...] = (
    Number(
        "operations", "{operation}", ("verb", "outcome", "namespace"),
        "Operations with a result: by verb, by what became of the key, and by"
        " namespace.",
        "counter", lambda m: m.operations.items(),
    ),
    Number(
        "errors", "{call}", ("verb", "error"),
        "Calls that failed: unavailable and locked (by a transaction of the program's)"
        " did nothing, after unknown nobody knows.",
        "counter", lambda m: m.errors.items(),
    ),
    Number(
        "cache.hits", "{operation}", (),
        "Operations that the cache in memory answered.",
        "counter", _one(lambda m: m.cache_hits),
    ),
    Number(
        "cache.keys", "{key}", (),
        "Keys in the cache in memory.",
        "gauge", _one(lambda m: m.cache_keys),
    ),
    Buckets(
        "batch.duration", "s", (),
        "How long the database took for a batch of operations.",
        lambda m: m.batch_seconds,
    ),
    Buckets(
        "batch.wait", "s", (),
        "How long the first call of a batch waited until it was sent.",
        lambda m: m.wait_seconds,
    ),
    Buckets(
        "batch.keys", "{key}", (),
        "Operations in a batch; one on many keys counts its keys.",
        lambda m: m.batch_keys,
    ),
    Number(
        "retries", "{request}", (),
        "Requests to a server that were sent again.",
        "counter", _one(lambda m: m.retries),
    ),
    Number(
        "leases.lost", "{claim}", (),
        "Claims whose owner learned that another one may have the key.",
        "counter", _one(lambda m: m.leases_lost),
    ),
    Number(
        "purge.runs", "{run}", (),
        "Complete purges of expired rows.",
        "counter", _one(lambda m: m.purge_runs),
    ),
    Number(
        "purge.rows", "{row}", (),
        "Expired rows that purges removed.",
        "counter", _one(lambda m: m.purge_rows),
    ),
    Number(
        "purge.failures", "{run}", (),
        "Purges that failed.",
        "counter", _one(lambda m: m.purge_failures),
    ),
    Number(
        "last_purge.timestamp", "s", (),
        "When the last complete purge ended, in seconds since 1970.",
        "gauge", _one(lambda m: m.last_purge),
    ),
    Number(
        "checkpoints", "{checkpoint}", (),
        "Checkpoints of SQLite's write-ahead log.",
        "counter", _one(lambda m: m.checkpoints),
    ),
    Number(
        "checkpoint.failures", "{checkpoint}", (),
        "Checkpoints that failed.",
        "counter", _one(lambda m: m.checkpoint_failures),
    ),
    Number(
        "wal", "By", (),
        "Size of SQLite's write-ahead log after the last write.",
        "gauge", _one(lambda m: m.wal_bytes),
    ),
    Number(
        "alarms", "{alarm}", (),
        "Conditions that need an operator now; stats().alarms names them.",
        "gauge", _one(lambda m: len(m.alarms)),
    ),
    Number(
        "sample.age", "s", (),
        "How long ago the following metrics were read from the database.",
        "gauge", _size(lambda s: s.age),
    ),
    Number(
        "sample.duration", "s", (),
        "How long that took.",
        "gauge", _size(lambda s: s.duration),
    ),
    Number(
        "keys", "{key}", ("namespace",),
        "Seen keys of each namespace." + _SAMPLED,
        "gauge", _keys,
    ),
    Number(
        "claims", "{claim}", ("state",),
        "Claims: live, or released and waiting for a pause; released, the pause over,"
        " and not claimed since; or over without an answer, and abandoned (the next"
        " caller gets the key), held (a person decides) or dropped (the key is seen)."
        + _SAMPLED,
        "gauge", _claims,
    ),
    Number(
        "oldest_claim.age", "s", (),
        "Age of the oldest claim under a live lease." + _SAMPLED,
        "gauge", _size(lambda s: s.oldest_claim),
    ),
    Number(
        "oldest_released.age", "s", (),
        "How long the oldest released key could have been claimed, its pause over."
        + _SAMPLED,
        "gauge", _size(lambda s: s.oldest_released),
    ),
    Number(
        "oldest_pending.age", "s", (),
        "How long the oldest pending key has waited." + _SAMPLED,
        "gauge", _size(lambda s: s.oldest_pending),
    ),
    Number(
        "file", "By", (),
        "Size of SQLite's file, or of PostgreSQL's tables and indexes." + _SAMPLED,
        "gauge", _size(lambda s: s.file_bytes),
    ),
    Number(
        "free_pages", "{page}", (),
        "Unused pages of SQLite's file, which it uses again." + _SAMPLED,
        "gauge", _size(lambda s: s.free_pages),
    ),
    Number(
        "source.polls", "{poll}", ("namespace", "outcome"),
        "Polls of a source." + _SAMPLED + _ALL,
        "counter", _each_source(lambda s: {"done": s.polls, "failed": s.failed}),
    ),
    Number(
        "source.items", "{item}", ("namespace", "outcome"),
        "Items that a source listed, by what became of them." + _SAMPLED + _ALL,
        "counter",
        _each_source(
            lambda s: {
                "new": s.new,
                "duplicate": s.duplicates,
                "changed": s.changed,
                "replaced": s.replaced,
            }
        ),
    ),
    Number(
        "source.listed", "{item}", ("namespace",),
        "Items that a source lists now." + _SAMPLED + _ALL,
        "gauge", _source(lambda s: s.listed),
    ),
    Number(
        "source.pending", "{key}", ("namespace",),
        "Keys of a source that wait to be handled." + _SAMPLED + _ALL,
        "gauge", _source(lambda s: s.pending),
    ),
    Number(
        "source.held", "{key}", ("namespace",),
        "Keys of a source about which a person has to decide." + _SAMPLED + _ALL,
        "gauge", _source(lambda s: s.held),
    ),
    Number(
        "source.last_poll.timestamp", "s", ("namespace",),
        "When a source was polled with success, in seconds since 1970." + _SAMPLED
        + _ALL,
        "gauge", _source(lambda s: s.last_poll),
    ),
    Number(
        "build.info", "", ("version", "python", "backend", "engine"),
        "What the store runs on; always 1.",
        "gauge", _build,
    ),
)  # fmt: skip
"""All metrics, in the order in which they are shown."""
