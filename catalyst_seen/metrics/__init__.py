"""Metrics and health of a store: for Prometheus, OpenTelemetry and probes."""

from __future__ import annotations

from ._export import instrument, prometheus_collector
from ._health import Health, health

__all__ = ["Health", "health", "instrument", "prometheus_collector"]
