"""Every program on a page of the documentation runs, and prints what the page says."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.scripts import complaints

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
PROGRAM = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
BLOCKS = [
    (found, f"{page.stem}-{number}")
    for page in PAGES
    for number, found in enumerate(
        PROGRAM.finditer(page.read_text(encoding="utf-8")), start=1
    )
]
PROGRAMS = [
    pytest.param(found["code"], found["output"], id=name)
    for found, name in BLOCKS
    if "sys.argv" not in found["code"]  # the demo starts that one itself
]


@pytest.fixture(scope="module")
def webhook() -> Iterator[str]:
    """Serve a webhook that accepts everything, on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("code", "output"), PROGRAMS)
def test_program(tmp_path: Path, webhook: str, code: str, output: str | None) -> None:
    """A program runs in a folder with the examples, and prints the block after it.

    Tests run by pytest, with no setting but one whose absence is warned of.
    """
    shutil.copytree(ROOT / "examples/feeds", tmp_path / "examples/feeds")
    command = ["-W", "error", "-c", code]
    if "import pytest" in code:
        (tmp_path / "test_page.py").write_text(code)
        settings = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
        (tmp_path / "pytest.ini").write_text(settings)
        command = ["-m", "pytest", "-W", "error", "-q"]
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"WEBHOOK": webhook},
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
        timeout=120,
    )
    assert (done.returncode, complaints(done.stderr, "store_created")) == (0, "")
    assert output is None or done.stdout.replace(f"{tmp_path}/", "") == output


def test_programs_were_found() -> None:
    """No page has a block of Python that the pattern above misses."""
    blocks = sum(page.read_text().count("```python") for page in PAGES)
    assert len(BLOCKS) == blocks > 0
