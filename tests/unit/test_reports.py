"""How the suite reports a test that fails."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .. import conftest

ROOT = Path(conftest.__file__).parents[1]


@pytest.mark.slow
def test_failure_report_survives_finalizers(tmp_path: Path) -> None:
    """A failure is reported by name though finalizers parse source meanwhile."""
    script = tmp_path / "test_script.py"
    script.write_text(
        textwrap.dedent(
            """
            import ast, gc, pytest

            class Garbage:
                def __init__(self):
                    self.cycle = self

                def __del__(self):
                    if is_needed:
                        Garbage()
                    ast.parse("a + b")

            is_needed = []

            @pytest.fixture
            def garbage():
                gc.set_threshold(1, 10**6)
                is_needed.append(True)
                Garbage()
                yield
                is_needed.clear()
                gc.set_threshold(700, 10)

            def test_named(garbage):
                assert 1 == 2
            """
        )
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.conftest"),
            *("-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")),
            *(f"--rootdir={tmp_path}", str(script)),
        ],
        capture_output=True, check=False, cwd=ROOT, text=True, timeout=240,
    )  # fmt: skip
    assert "INTERNALERROR" not in done.stdout
    assert "E       assert 1 == 2" in done.stdout
    assert "FAILED" in done.stdout
    assert "test_script.py::test_named" in done.stdout
