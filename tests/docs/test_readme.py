"""Every code block of the README runs, and prints what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.scripts import Run
from ..support.targets import Places
from .picture import COMMAND, PICTURE, screen, svg, words

ROOT = Path(__file__).parents[2]
_ONE_SCREEN = 150  # lines
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
PYTHON = [
    (code, BLOCKS[place + 1][1] if BLOCKS[place + 1][0] == "text" else None)
    for place, (language, code) in enumerate(BLOCKS[:-1])
    if language == "python"
]
ON_POSTGRES = {"transactional_outbox.py", "webhook_receiver.py"}
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run_example(
    name: str, folder: Path, url: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run an example in an empty folder; perhaps with its store elsewhere."""
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        env=os.environ | {"SEEN_STORE_URL": url},
        capture_output=True, check=False, cwd=folder, text=True, timeout=200,
    )  # fmt: skip


@pytest.mark.parametrize(("code", "output"), PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_print_what_follows(
    run_script: Run, code: str, output: str | None
) -> None:
    """A Python block runs in an empty folder and prints the block after it."""
    done = run_script(code, options=("-W", "error"))
    assert (done.returncode, done.stderr) == (0, "")
    assert output is None or done.stdout == output


def test_picture(tmp_path: Path) -> None:
    """The picture shows what a terminal shows now; the second run prints nothing."""
    shown = words(PICTURE.read_text(encoding="utf-8"))
    assert shown == words(svg(screen(tmp_path))), "run: python -m tests.docs.picture"
    assert f"$ {COMMAND}" in README
    assert len(README.splitlines()) <= _ONE_SCREEN


@pytest.mark.parametrize("backend", ["valkey", "cluster", "postgres"])
def test_another_backend(tmp_path: Path, places: Places, backend: str) -> None:
    """A URL in the environment is all that the poller needs for another backend."""
    with places.target(backend, tmp_path) as target:
        url = str(target.settings.url)
        done = [run_example("feed_poller.py", tmp_path, url) for _ in range(2)]
        if backend == "postgres":
            places.postgres.execute("DROP SCHEMA catalyst_seen CASCADE")
    assert [len(one.stdout.splitlines()) for one in done] == [6, 0]
    assert not list(tmp_path.rglob("*.sqlite"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_runs_twice(tmp_path: Path, places: Places, name: str) -> None:
    """Every example runs twice, ends well and prints something; a page names it."""
    pages = [README, *(page.read_text() for page in (ROOT / "docs").glob("*.md"))]
    assert any(f"examples/{name}" in page for page in pages)
    url = places.postgres.url if name in ON_POSTGRES else ""
    for _ in range(2):
        done = run_example(name, tmp_path, url)
        assert done.returncode == 0, done.stderr
        assert done.stdout + done.stderr


def test_links_of_the_readme_exist() -> None:
    """The targets of the links of the README exist."""
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
