"""The reference of the commands, in docs/cli.md and as a man page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest

from catalyst_seen.cli import _reference
from catalyst_seen.cli._commands import SECTIONS, Command
from catalyst_seen.cli._main import tool

DOCS = Path(__file__).parents[2] / "docs"
GROFF = shutil.which("groff")
CONTEXT = click.Context(tool, info_name="catalyst-seen", **tool.context_settings)
NAMES = [name for names in SECTIONS.values() for name in names]


def test_files_are_as_made(tmp_path: Path) -> None:
    """The committed reference is what the help says now: run cli._reference if not."""
    _reference.write(tmp_path)
    for name in ("cli.md", "catalyst-seen.1"):
        made = (tmp_path / name).read_text(encoding="utf-8")
        assert made == (DOCS / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_explained(name: str) -> None:
    """A command has two examples, and each of its options a help text."""
    command = tool.get_command(CONTEXT, name)
    assert isinstance(command, Command)
    assert len(command.examples) >= 2
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, option.name
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for example in command.examples:
        assert example.line in page
        assert example.meaning in page


def test_man_page_is_roff() -> None:
    """Each line of the page is text, or a macro of man pages; groff has no warning."""
    page = DOCS / "catalyst-seen.1"
    lines = page.read_text(encoding="utf-8").splitlines()
    macros = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert macros == {
        ".TH",
        ".SH",
        ".SS",
        ".B",
        ".PP",
        ".TP",
        ".nf",
        ".fi",
        ".RS",
        ".RE",
    }
    if GROFF is not None:  # it says the same of more
        done = subprocess.run(
            [GROFF, "-man", "-ww", "-Tascii", page],
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        assert not done.stderr
        assert "catalyst-seen seen order-17 && echo handled" in done.stdout
