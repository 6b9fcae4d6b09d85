"""The export to OpenTelemetry: instruments that are read when they are exported.

OpenTelemetry has no histogram that can be read so, and recording one for each batch
would cost more than the batch. So the parts of a histogram are instruments of their
own, which an exporter to Prometheus gives the names that a histogram has there. They
are up-down counters, because such an exporter appends ``_total`` to a counter.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation, get_meter_provider

from .. import __version__
from ._table import METRICS, Buckets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider

    from .. import StoreMetrics
    from ._stores import Store
    from ._table import Labels, Number

_FRESH = 0.05
"""Seconds for which a snapshot is used again: one export reads all instruments."""


class Instruments:
    """The instruments of stores."""

    def __init__(self, stores: Sequence[tuple[str, Store]]) -> None:
        self._stores = stores
        self._taken = -_FRESH
        self._snapshots: list[tuple[str, StoreMetrics]] = []

    def create(self, provider: MeterProvider | None) -> None:
        """Create them on a provider, or on the global one."""
        provider = provider or get_meter_provider()
        meter = provider.get_meter("catalyst_seen", __version__)
        for metric in METRICS:
            if isinstance(metric, Buckets):
                self._create_parts(meter, metric)
            else:
                self._create(meter, metric)

    def _create(self, meter: Meter, metric: Number) -> None:
        create = meter.create_observable_gauge
        if metric.kind == "counter":
            create = meter.create_observable_counter  # type: ignore[assignment]
        create(
            f"catalyst_seen.{metric.name}",
            callbacks=[partial(self._observe, metric.labels, metric.read)],
            unit=metric.unit,
            description=metric.help,
        )

    def _create_parts(self, meter: Meter, metric: Buckets) -> None:
        parts: tuple[
            tuple[str, Labels, Callable[[StoreMetrics], Iterable[_Value]]], ...
        ]
        parts = (
            (
                "bucket",
                ("le",),
                lambda m: (((bound,), count) for bound, count in metric.buckets(m)),
            ),
            ("sum", (), lambda m: [((), metric.read(m).sum)]),
            ("count", (), lambda m: [((), metric.read(m).count)]),
        )
        for part, labels, read in parts:
            meter.create_observable_up_down_counter(
                f"{metric.base_name}_{part}".replace(
                    "catalyst_seen_", "catalyst_seen.", 1
                ),
                callbacks=[partial(self._observe, labels, read)],
                description=metric.help,
            )

    def _observe(
        self,
        names: Labels,
        read: Callable[[StoreMetrics], Iterable[_Value]],
        _: CallbackOptions,
    ) -> Iterable[Observation]:
        for store, snapshot in self._fresh():
            for labels, value in read(snapshot):
                attributes = dict(zip(names, labels, strict=True))
                yield Observation(value, {"store": store, **attributes})

    def _fresh(self) -> list[tuple[str, StoreMetrics]]:
        now = time.monotonic()
        if now - self._taken >= _FRESH:
            self._snapshots = [(label, one.metrics()) for label, one in self._stores]
            self._taken = now
        return self._snapshots


_Value = tuple[tuple[str, ...], float]
