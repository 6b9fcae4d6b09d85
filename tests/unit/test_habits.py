"""The files that other programs read agree with the sessions and pins of this house."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def load(name: str) -> Any:
    """Parse a YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    """The jobs of the CI workflow, by name."""
    return dict(load(".github/workflows/ci.yml")["jobs"])


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    """The names of all nox sessions."""
    done = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "--json"],
        capture_output=True, check=True, cwd=ROOT, text=True, timeout=50,
    )  # fmt: skip
    return {session["name"] for session in json.loads(done.stdout)}


def commands(jobs: dict[str, Any]) -> list[list[str]]:
    """Every nox command of the workflow, split into words."""
    steps = [step for job in jobs.values() for step in job["steps"]]
    lines = [step["run"].split() for step in steps if "run" in step]
    return [words for words in lines if words[0] == "nox"]


def test_sessions_of_the_workflow(jobs: dict[str, Any], sessions: set[str]) -> None:
    """CI runs all default sessions once; a session that it names exists."""
    found = commands(jobs)
    assert found.count(["nox"]) == 1
    for _, *options in (words for words in found if words != ["nox"]):
        assert options[0] == "-s"
        assert sessions.issuperset(options[1:]), options


def test_versions_of_the_workflow(jobs: dict[str, Any]) -> None:
    """CI runs every version of Python that the package declares, on three systems."""
    declared = {
        name.rpartition(" ")[2]
        for name in PYPROJECT["project"]["classifiers"]
        if name.startswith("Programming Language :: Python :: 3.")
    }
    matrix = jobs["sqlite"]["strategy"]["matrix"]
    linux = jobs["servers"]["strategy"]["matrix"]["python"]
    assert set(matrix["python"]) >= declared
    assert {"3.11", *linux} >= declared
    assert set(matrix["os"]) == {"macos-latest", "windows-latest"}


def test_release_workflow() -> None:
    """A tag of a version starts the release check, which is told its name."""
    workflow = load(".github/workflows/release.yml")
    assert workflow[True]["push"] == {"tags": ["v*"]}  # in YAML 1.1, "on" is true
    (found,) = commands(workflow["jobs"])
    assert found == ["nox", "-s", "release", "--", "--tag", '"$GITHUB_REF_NAME"']
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert "\ndef release(session" in noxfile  # nox lists default sessions only


def test_pins_of_the_hooks() -> None:
    """A hook runs the release of ruff that the session ``lint`` runs."""
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    pins = {
        pin for hook in repository["hooks"] for pin in hook["additional_dependencies"]
    }
    assert all("==" in pin for pin in pins)
    ruff = [pin for pin in PYPROJECT["dependency-groups"]["lint"] if "ruff" in pin]
    assert pins.issuperset(ruff)


def test_supported_version() -> None:
    """SECURITY.md supports the minor version that this is."""
    minor = PYPROJECT["project"]["version"].rpartition(".")[0]
    assert f"| {minor}.x | yes |" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
