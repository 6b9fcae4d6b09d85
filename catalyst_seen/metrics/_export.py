"""The exports, whose libraries are imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._stores import Store, labelled, missing

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from prometheus_client.registry import Collector


def prometheus_collector(*stores: Store) -> Collector:
    """Return a collector with the metrics of stores, for Prometheus.

    ::

        from prometheus_client import REGISTRY
        REGISTRY.register(prometheus_collector(store))

    It reads counters when it is scraped, does no I/O, and never raises: a store may be
    closed. The label ``store`` is the address of the database, without a password; a
    second store on the same one has a number after it. Register one collector for all
    stores of a process.

    With ``prometheus_client``'s multiprocess mode collectors do not work: there, let
    each process serve its own registry, or run ``catalyst-seen serve`` beside them.

    Raises:
        ConfigurationError: ``prometheus_client`` is not installed (the extra
            ``prometheus``).
    """
    found = labelled(stores)
    try:
        from ._prometheus import StoreCollector
    except ImportError as exc:
        raise missing("prometheus", "prometheus_client", exc) from exc
    return StoreCollector(found)


def instrument(*stores: Store, meter_provider: MeterProvider | None = None) -> None:
    """Create instruments with the metrics of stores, for OpenTelemetry.

    They are read when the provider exports, without any I/O; nothing is recorded for a
    single call. OpenTelemetry has no histogram of this kind: each is three instruments,
    whose names end in ``_bucket``, ``_sum`` and ``_count``. Call it once, with all
    stores of the process.

    Args:
        *stores: The stores; they may be opened later.
        meter_provider: Where the instruments are created; by default the global
            provider.

    Raises:
        ConfigurationError: ``opentelemetry-api`` is not installed (the extra ``otel``).
    """
    found = labelled(stores)
    try:
        from ._otel import Instruments
    except ImportError as exc:
        raise missing("otel", "opentelemetry-api", exc) from exc
    Instruments(found).create(meter_provider)
