"""Prometheus's own tool, which checks rules and runs them on time series."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from .scrapes import INSTANCE, JOB, History, written

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "alerts.yml"


def promtool(*words: str) -> str:
    """Run it; return what it has written, which is the error if it fails."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool here: `nox -s monitoring` gets one")
    done = subprocess.run(
        [found, *words], capture_output=True, check=False, text=True, timeout=240
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Read the alerts by their names."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


class Firing:
    """An alert that fires."""

    def __init__(self, name: str, **labels: str | None) -> None:
        """Describe it.

        Args:
            name: Its name without ``CatalystSeen``.
            labels: Its labels besides those of a store in one process; ``None`` is
                for one that it does not have.
        """
        self.name = f"CatalystSeen{name}"
        given = {"job": JOB, "instance": INSTANCE, **labels}
        self.labels = {name: one for name, one in given.items() if one is not None}

    def written(self, store: str) -> str:
        """Write it as the series by which Prometheus shows that it fires."""
        labels = {
            "alertname": self.name,
            "alertstate": "firing",
            "severity": alerts()[self.name]["labels"]["severity"],
            **self.labels,
        }
        if "job" in labels:
            labels.setdefault("store", store)
        return written("ALERTS", labels)


def check_firing(
    folder: Path,
    history: History,
    firing: Sequence[Firing],
    *,
    quiet: Iterable[int] = (),
    store: str = "",
) -> None:
    """Check that at the end of a history exactly some alerts fire.

    Args:
        folder: For the file of the test.
        history: The time series.
        firing: The alerts.
        quiet: Times, in seconds, until which no alert has fired at any time.
        store: The label of the store.
    """
    checks: list[dict[str, Any]] = [
        {
            "expr": f'max_over_time(ALERTS{{alertstate="firing"}}[{1 + seconds}s])',
            "eval_time": f"{seconds}s",
        }
        for seconds in quiet
    ]
    samples = [{"labels": one.written(store), "value": 1} for one in firing]
    checks.append(
        {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": f"{history.now}s",
            "exp_samples": samples,
        }
    )
    _run(folder, history, checks)


def check_values(
    folder: Path, history: History, values: Iterable[tuple[str, float]]
) -> None:
    """Check the values without labels of some expressions at the end of a history."""
    checks = [
        {
            "expr": expression,
            "eval_time": f"{history.now}s",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        for expression, value in values
    ]
    _run(folder, history, checks)


def _run(folder: Path, history: History, checks: list[dict[str, Any]]) -> None:
    step = f"{history.step}s"
    test = {"interval": step, "input_series": [*history.series()]}
    run = {
        "rule_files": [str(RULES)],
        "evaluation_interval": step,
        "tests": [{**test, "promql_expr_test": checks}],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps(run), encoding="utf-8")  # which is YAML as well
    promtool("test", "rules", str(file))
