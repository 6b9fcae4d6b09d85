"""Every command line that the help and the documents show works as it stands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalyst_seen.cli._commands import SECTIONS, Command
from catalyst_seen.cli._main import tool as group

from ..support.feeds import ROOT, Site
from ..support.showcase import furnish, real
from ..support.targets import Places

COMMANDS = [name for names in SECTIONS.values() for name in names]
DOCUMENTS = [
    "README.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LASTING = re.compile(r"tail -[fF]|catalyst-seen (serve|watch(?!.*--once))")
"""Lines that end by a signal."""

_ALLOWED = {0, 1}
"""Done, and "the answer is no": both are what a line shows."""


def command(name: str) -> Command:
    """Return a command."""
    found = group.get_command(group.make_context("catalyst-seen", ["-q"]), name)
    assert isinstance(found, Command), name
    return found


def lines_of(document: str) -> Iterator[str]:
    """Yield the command lines of the tool in a document."""
    for block in _BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"\$ (?!pip ).*catalyst-seen", line):
                yield line.removeprefix("$ ")


EXAMPLES = [(name, one.line) for name in COMMANDS for one in command(name).examples]
SHOWN = [(name, line) for name in DOCUMENTS for line in lines_of(name)]


@pytest.mark.parametrize(("where", "line"), dict.fromkeys([*EXAMPLES, *SHOWN]))
def test_documented_line(
    tmp_path: Path, places: Places, site: Site, where: str, line: str
) -> None:
    """A documented command line runs, and ends without an error."""
    tool = furnish(tmp_path)
    if "backup copy.db" in line:  # it is a new file there
        (tmp_path / "copy.db").unlink()
    line = real(line, places, site, f"Documented-{tmp_path.name}")
    if _LASTING.search(line):
        if "serve" in line:
            line = f"{line} --port 0"  # those of the examples may be in use
        lasting(tool.script(line), tool.variables(), tmp_path)
        return
    done = tool.shell(line)
    assert done.code in _ALLOWED, (where, line, done.err)
    assert "a fault of" not in done.err


def lasting(script: str, environment: dict[str, str], folder: Path) -> None:
    """Run a line that does not end by itself; it works until it is interrupted."""
    with subprocess.Popen(
        ["/bin/bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=folder, env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        if "catalyst-seen serve" in script:  # which has nothing to print
            assert any(
                b"serving" in line for line in iter(process.stderr.readline, b"")
            )
        else:
            assert process.stdout.readline(), process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
