"""The document of the settings lists what there is."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

import pytest

from catalyst_seen import SeenStoreConfig
from catalyst_seen._environment import VARIABLES
from catalyst_seen.backends._settings import _OWNERS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for line in TEXT.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 5
}
SETTINGS = {
    field.name: field
    for field in dataclasses.fields(SeenStoreConfig)
    if field.name != "tuning" and not field.name.startswith("_")
}


def test_every_setting_has_a_row() -> None:
    """The table has each setting once, and no other."""
    assert set(ROWS) - {"SeenStoreConfig", "---"} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_default_is_documented(name: str) -> None:
    """The row of a setting has its default."""
    default = SETTINGS[name].default
    named = {"file_mode": "0o600", "clock": "time.time", "feeds": "FeedRules()"}
    wanted = named.get(name, repr(default))
    assert ROWS[name][2] == f"`{wanted}`"
    assert SETTINGS["clock"].default is time.time


@pytest.mark.parametrize("name", SETTINGS)
def test_variable_is_documented(name: str) -> None:
    """The row of a setting has its variable, if it has one."""
    variables = [variable for variable, (to, _) in VARIABLES.items() if to == name]
    assert re.findall(r"`(\w+)`", ROWS[name][1]) == variables


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "path"])
def test_database_is_documented(name: str) -> None:
    """The row of a setting has the databases on which it has an effect."""
    assert ROWS[name][3] == ", ".join(_OWNERS.get(name, ("all",)))


def test_events_are_documented() -> None:
    """Every event that a setting may log is in the document."""
    for file in ("_config", "_environment", "backends/_settings"):
        code = (ROOT / f"catalyst_seen/{file}.py").read_text(encoding="utf-8")
        events = re.findall(r'log\(\s*"\w+",\s*"(\w+)"', code)
        assert events
        for event in events:
            assert f"| `{event}` |" in TEXT
