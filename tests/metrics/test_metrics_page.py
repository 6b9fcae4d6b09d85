"""The page of the docs about metrics."""

from __future__ import annotations

from pathlib import Path

from catalyst_seen.metrics._reference import written

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_table_is_current() -> None:
    """The table on the page is that of the code."""
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, (
        "run: python -m catalyst_seen.metrics._reference docs/metrics.md"
    )
