"""Writes the table of metrics into docs/metrics.md.

``python -m catalyst_seen.metrics._reference docs/metrics.md`` does; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ._table import METRICS, Buckets, Number

BEGIN, END = "<!-- metrics -->\n", "<!-- end -->\n"


def markdown() -> str:
    """Return the table as Markdown."""
    lines = ["| metric | kind | labels | what it tells |", "|---|---|---|---|"]
    lines += [
        f"| `{_name(metric)}` | {_kind(metric)} |"
        f" {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    return "".join(f"{line}\n" for line in lines)


def written(page: str) -> str:
    """Return the page with the table in its place."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


def _name(metric: Number | Buckets) -> str:
    return metric.base_name if isinstance(metric, Buckets) else metric.exposed_name


def _kind(metric: Number | Buckets) -> str:
    return "histogram" if isinstance(metric, Buckets) else metric.kind


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
