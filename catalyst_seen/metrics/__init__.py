"""Metrics and health of a store: for Prometheus, OpenTelemetry and probes."""

from __future__ import annotations

from ._export import instrument, prometheus_collector

__all__ = ["instrument", "prometheus_collector"]
