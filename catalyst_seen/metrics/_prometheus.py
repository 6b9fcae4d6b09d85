"""The export to Prometheus: families of metrics, made when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from ._table import METRICS, Buckets, Number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .. import StoreMetrics
    from ._stores import Store


class StoreCollector(Collector):
    """Collects the metrics of stores for a ``CollectorRegistry``."""

    def __init__(self, stores: Sequence[tuple[str, Store]]) -> None:
        self._stores = stores

    def describe(self) -> Iterable[Family]:
        """Return the families without their values, by which a registry knows them."""
        return [_family(metric) for metric in METRICS]

    def collect(self) -> Iterable[Family]:
        """Return the metrics of all stores; no I/O."""
        snapshots = [(label, store.metrics()) for label, store in self._stores]
        for metric in METRICS:
            family = _family(metric)
            for label, snapshot in snapshots:
                _add(family, metric, label, snapshot)
            yield family


def _family(metric: Number | Buckets) -> Family:
    labels = ["store", *metric.labels]
    if isinstance(metric, Buckets):
        return HistogramMetricFamily(metric.base_name, metric.help, labels=labels)
    if metric.kind == "counter":
        return CounterMetricFamily(metric.base_name, metric.help, labels=labels)
    return GaugeMetricFamily(metric.base_name, metric.help, labels=labels)


def _add(
    family: Family, metric: Number | Buckets, store: str, snapshot: StoreMetrics
) -> None:
    if isinstance(metric, Buckets):
        assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - made so
        total = metric.read(snapshot).sum
        family.add_metric([store], metric.buckets(snapshot), total)
        return
    assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)  # noqa: S101
    for labels, value in metric.read(snapshot):
        family.add_metric([store, *labels], value)
