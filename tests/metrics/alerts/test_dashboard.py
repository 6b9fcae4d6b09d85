"""Every expression of the dashboard shows something of a store in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalyst_seen import StoreUnavailableError

from ...support.dashboard import expressions
from ...support.locks import transaction
from ...support.promtool import check_values
from .watched import on_file, watched


async def test_panels_show_something(tmp_path: Path) -> None:
    """No panel is empty: its metrics, labels and their values are those of a store."""
    async with watched(on_file(tmp_path), timeout=0.2) as one:
        await one.healthy(60)
        await one.store.namespace("feed").failed("no answer")
        await one.store.namespace("feed").observe(["unhandled"])
        await one.store.claim("k", lease=600)
        with (
            transaction(tmp_path / "seen.db", "BEGIN IMMEDIATE"),
            pytest.raises(StoreUnavailableError),
        ):
            await one.store.mark_seen("k")
        await one.then(60)
    values = [
        (f"count({_filled(expression)}) > bool 0", 1.0)
        for _, expression in expressions()
    ]
    check_values(tmp_path, one.history, values)


def _filled(expression: str) -> str:
    """Put values in place of the variables, as Grafana does."""
    return expression.replace("$store", ".*").replace("$__rate_interval", "5m")
