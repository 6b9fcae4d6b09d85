"""The dashboard for Grafana, as the docs have it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "docs" / "grafana.json"


@cache
def dashboard() -> dict[str, Any]:
    """Read it."""
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the title of a panel, and an expression of it."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
