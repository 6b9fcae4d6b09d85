"""The alerts and the dashboard use what there is: metrics, labels, commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from catalyst_seen.cli._main import tool
from catalyst_seen.metrics._table import METRICS

from ..support.dashboard import dashboard, expressions
from ..support.promql import exported, metrics, unknown

ALERTS = Path(__file__).parents[2] / "docs" / "alerts.yml"
TEXT = ALERTS.read_text(encoding="utf-8")
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load(TEXT)["groups"]
    for rule in group["rules"]
}
EXPRESSIONS = [
    *((name, rule["expr"]) for name, rule in RULES.items()),
    *expressions(),
]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_names(title: str, expression: str) -> None:
    """Every metric and every label of an expression is in the table."""
    assert metrics(expression), title
    assert not [*unknown(expression)]


def test_unknown_names_are_found() -> None:
    """A name that is not in the table is reported, wherever it stands."""
    wrong = 'sum by (verbs) (catalyst_seen_errors_total{errors="x"}) + catalyst_seen_k'
    assert [*unknown(wrong)] == ["errors", "catalyst_seen_k", "verbs"]


def test_every_metric_is_used() -> None:
    """There is no metric that neither an alert nor a panel uses."""
    used = {name for _, expression in EXPRESSIONS for name in metrics(expression)}
    names = {*exported()} - used
    unused = [m.name for m in METRICS if not any(m.base_name in name for name in used)]
    assert not unused, names


def test_advice() -> None:
    """Each alert has a summary, and a command that says more, which the tool takes."""
    context = click.Context(tool, info_name="catalyst-seen", **tool.context_settings)
    for name, rule in RULES.items():
        texts = rule["annotations"]
        assert {*texts} == {"summary", "description"}, name
        assert rule["labels"]["severity"] in {"critical", "warning"}
        lines = re.findall(r"`catalyst-seen ([^`]+)`", texts["description"])
        assert lines, name
        for line in lines:
            filled = re.sub(r"{{.*?}}", "NAME", line).replace(" TTL", " 30d")
            words = shlex.split(filled)
            command = tool.get_command(context, words[0])
            assert command is not None, line
            command.make_context(words[0], words[1:], parent=context)


def test_numbers_to_adapt() -> None:
    """The numbers that the head of the file names are in the alerts that it names."""
    lines = re.findall(r"^#   (\S+(?:, \S+)*) +(CatalystSeen.*?):", TEXT, re.MULTILINE)
    assert len(lines) > 5
    for numbers, names in lines:
        for name in names.split(", "):
            for number in numbers.split(", "):
                assert re.search(rf"\b{number}\b", RULES[name]["expr"]), (name, number)


def test_dashboard() -> None:
    """Panels have ids of their own, do not overlap, and read the chosen store."""
    panels = dashboard()["panels"]
    taken = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len({*taken}) == len(taken)
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in (one for one in panels if one["type"] != "row"):
        assert panel["datasource"]["uid"] == "${datasource}"
    for title, expression in expressions():
        series = re.findall(r"catalyst_seen_\w+", expression)
        assert expression.count('store=~"$store"') == len(series), title
