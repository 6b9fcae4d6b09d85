"""Which metrics and labels an expression of Prometheus uses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from catalyst_seen.metrics._table import METRICS, Buckets

OF_TARGET = {"job", "instance", "pod"}
"""Labels that Prometheus adds to every series, or may add."""

_METRIC = re.compile(r"\b(catalyst_seen_\w+)\s*(?:\{([^}]*)\})?")
_MATCHED = re.compile(r'(\w+)\s*[=!]~?\s*"')
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def exported() -> dict[str, set[str]]:
    """Return the labels of each series, by its name."""
    found = {}
    for metric in METRICS:
        labels = {*metric.labels, "store", *OF_TARGET}
        if isinstance(metric, Buckets):
            found[f"{metric.base_name}_bucket"] = labels | {"le"}
            found[f"{metric.base_name}_sum"] = labels
            found[f"{metric.base_name}_count"] = labels
        else:
            found[metric.exposed_name] = labels
    return found


def metrics(expression: str) -> set[str]:
    """Return the names of the series that an expression uses."""
    return {name for name, _ in _METRIC.findall(expression)}


def unknown(expression: str) -> Iterator[str]:
    """Yield the metrics and labels of an expression that do not exist."""
    series = exported()
    labels: set[str] = set()
    for name, matchers in _METRIC.findall(expression):
        if name not in series:
            yield name
            continue
        labels |= series[name]
        yield from {*_MATCHED.findall(matchers)} - series[name]
    for group in _GROUPED.findall(expression):
        yield from {*re.findall(r"\w+", group)} - labels
