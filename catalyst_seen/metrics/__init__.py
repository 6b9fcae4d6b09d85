"""Metrics and health of a store: for Prometheus, OpenTelemetry and probes."""

from __future__ import annotations

from ._export import instrument, prometheus_collector
from ._health import Health, health
from ._stores import Store

__all__ = ["Health", "Store", "health", "instrument", "prometheus_collector"]
