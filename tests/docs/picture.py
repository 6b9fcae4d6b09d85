"""Makes the picture of the README: a terminal with the first commands, as they ran.

``python -m tests.docs.picture`` writes it; a test compares its text.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from ..support.tool import Tool

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "_static" / "terminal.svg"
COMMAND = "catalyst-seen watch --once --first 3 examples/feeds/*.xml"
_SIZE = (24, 80)
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The fonts of the picture would come from another site."""


def screen(folder: Path) -> str:
    """Return what a terminal shows after the command, and after it again.

    The feeds answer in any order: they are sorted by their names.
    """
    shutil.copytree(ROOT / "examples", folder / "examples")
    tool = Tool(folder, str(folder / "seen.db"))
    feeds = sorted(str(path) for path in (folder / "examples/feeds").glob("*.xml"))
    shown = []
    for _ in range(2):
        terminal = tool.terminal("watch", "--once", "--first", "3", *feeds, size=_SIZE)
        text = re.sub(r"(?m)^.* store_created .*\n", "", terminal.read())
        *entries, summary = re.split(
            r"\n(?! {4}\S)", text.replace("\r\n", "\n").strip()
        )
        entries.sort(key=_feed)
        shown.append("\n".join([f"$ {COMMAND}", *entries, summary]))
    return "\n".join(shown)


def _feed(entry: str) -> str:
    """Return the name of the feed of an entry, which follows its time."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", entry)
    return plain[18:].partition("  ")[0]


def svg(text: str) -> str:
    """Draw a terminal with a text."""
    console = Console(
        record=True, width=_SIZE[1], file=io.StringIO(), force_terminal=True,
        color_system="truecolor", legacy_windows=False,
    )  # fmt: skip
    console.print(Text.from_ansi(text), soft_wrap=True)
    drawn = console.export_svg(
        title="catalyst-seen", theme=MONOKAI, unique_id="terminal"
    )
    return _FONT.sub("", drawn).replace("Fira Code", "ui-monospace")


def words(drawn: str) -> list[str]:
    """Return the words in a picture."""
    plain = re.sub(r"<[^>]*>", " ", drawn[drawn.index("<text") :])
    return plain.replace("&#160;", " ").split()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        drawn = svg(screen(Path(name)))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn, encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")
