"""The snapshot of everything that a store has counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._metrics import MAX_NAMESPACES, OTHER, Sizes, StoreMetrics
from ..backends.base import BackendCounters, SupportsCounters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..backends.base import Backend
    from .dispatcher import Dispatcher
    from .maintenance import Maintenance
    from .sampling import Sample, Sampling


def snapshot(
    dispatcher: Dispatcher, maintenance: Maintenance, sampling: Sampling
) -> StoreMetrics:
    """Return what a store has counted; no I/O, from any thread."""
    lifecycle, counters = dispatcher.lifecycle, dispatcher.counters
    backend, sample = lifecycle.backend, sampling.last
    of_backend = BackendCounters()
    if isinstance(backend, SupportsCounters):
        of_backend = backend.counters()
    alarms = lifecycle.failures.alarms()
    if sample is not None:
        alarms = (*sample.stats.alarms, *alarms)
    hits = dispatcher.cache.hits
    return StoreMetrics(
        location=backend.location,
        backend=_name(backend),
        operations=dict(counters.operations.snapshot() + hits.snapshot()),
        errors=dict(lifecycle.failures.errors),
        cache_hits=hits.total(),
        cache_keys=len(dispatcher.cache),
        batch_keys=counters.batch_keys.snapshot(),
        batch_seconds=counters.batch_seconds.snapshot(),
        wait_seconds=counters.wait_seconds.snapshot(),
        retries=of_backend.retries,
        failing=of_backend.failing,
        leases_lost=counters.leases_lost,
        purge_runs=maintenance.runs,
        purge_rows=maintenance.rows,
        purge_failures=maintenance.failures,
        last_purge=maintenance.last,
        checkpoints=of_backend.checkpoints,
        checkpoint_failures=of_backend.checkpoint_failures,
        wal_bytes=of_backend.wal_bytes,
        alarms=alarms,
        sizes=None if sample is None else _sizes(sample),
    )


def _sizes(sample: Sample) -> Sizes:
    stats, age = sample.stats, time.monotonic() - sample.ended
    return Sizes(
        age=age,
        duration=sample.duration,
        keys=_limited(stats.keys_by_namespace),
        claimed=stats.claimed,
        released=stats.released,
        abandoned=stats.abandoned,
        oldest_claim=_older(sample.claim_age, age),
        oldest_released=_older(sample.released_age, age),
        oldest_pending=_older(sample.pending_age, age),
        sources=tuple(
            sample.sources[name].to_source(name) for name in sorted(sample.sources)
        ),
        file_bytes=stats.file_bytes,
        free_pages=stats.free_pages,
        engine=stats.engine,
    )


def _older(age: float | None, passed: float) -> float | None:
    return None if age is None else age + passed


def _limited(keys: Mapping[str, int]) -> dict[str, int]:
    names = sorted(keys)
    found = {name: keys[name] for name in names[:MAX_NAMESPACES]}
    rest = sum(keys[name] for name in names[MAX_NAMESPACES:])
    if rest:
        found[OTHER] = found.get(OTHER, 0) + rest
    return found


def _name(backend: Backend) -> str:
    return type(backend).__name__.removesuffix("Backend").lower()
