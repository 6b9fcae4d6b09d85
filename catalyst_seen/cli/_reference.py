"""Makes docs/cli.md and docs/catalyst-seen.1, a man page, from the help texts.

``python -m catalyst_seen.cli._reference docs`` writes both; a test compares them.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ._commands import CODES, SECTIONS, Commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Text(NamedTuple):
    """The help of the tool or of a command, in parts.

    Attributes:
        name: Its name.
        usage: How it is called.
        lead: What it does, in a line.
        paragraphs: What else a user must know.
        options: Its options, each with its help.
        examples: Command lines, each with its meaning.
    """

    name: str
    usage: str
    lead: str
    paragraphs: list[str]
    options: list[tuple[str, str]]
    examples: list[tuple[str, str]]


def texts() -> dict[str, list[Text]]:
    """Return the help of every command, section by section."""
    from ._main import tool

    assert isinstance(tool, Commands)  # noqa: S101 - for the type
    context = _context(tool)
    return {
        title: [_text(_found(tool, context, name), context) for name in names]
        for title, names in SECTIONS.items()
    }


def markdown() -> str:
    """Return the reference as Markdown."""
    whole = _tool()
    parts = ["# catalyst-seen: the commands", whole.lead, *whole.paragraphs]
    parts += ["Commands have these options:", _table("option", whole.options)]
    parts.append(_table("exit code", CODES))
    for title, commands in texts().items():
        parts.append(f"## {title}")
        for one in commands:
            parts += [f"### {one.name}", one.lead, f"```text\n{one.usage}\n```"]
            parts += one.paragraphs
            if own := _own(one, whole):
                parts.append(_table("option", own))
            parts.append(f"```sh\n{_lines(one)}\n```")
    return "\n\n".join(parts) + "\n"


def man_page() -> str:
    """Return the reference as a man page, in roff."""
    whole = _tool()
    lines = [
        ".TH CATALYST\\-SEEN 1",
        ".SH NAME",
        f"catalyst\\-seen \\- {_roff(whole.lead.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(whole.usage)}",
        ".SH DESCRIPTION",
        *_roff_paragraphs(whole.paragraphs),
    ]
    lines += [".SH OPTIONS", "Commands have these:", *_roff_options(whole.options)]
    lines += [".SH EXIT STATUS", *_roff_options(CODES)]
    for title, commands in texts().items():
        lines.append(f".SH {title.upper()}")
        for one in commands:
            lines += [f".SS {_roff(one.usage)}", _roff(one.lead)]
            lines += _roff_paragraphs(one.paragraphs)
            lines += _roff_options(_own(one, whole))
            for line, meaning in one.examples:
                lines += [".PP", _roff(f"Example: {meaning}"), ".PP", ".nf"]
                lines += [".RS", _roff(line), ".RE", ".fi"]
    return "\n".join(lines) + "\n"


def write(folder: Path) -> None:
    """Write both files."""
    (folder / "cli.md").write_text(markdown(), encoding="utf-8")
    (folder / "catalyst-seen.1").write_text(man_page(), encoding="utf-8")


def _found(tool: Commands, context: click.Context, name: str) -> click.Command:
    found = tool.get_command(context, name)
    assert found is not None  # noqa: S101 - for the type
    return found


def _tool() -> Text:
    from ._main import tool

    return _text(tool, _context(tool), is_tool=True)


def _context(tool: click.Command) -> click.Context:
    return click.Context(tool, info_name="catalyst-seen", **tool.context_settings)


def _text(
    command: click.Command, context: click.Context, *, is_tool: bool = False
) -> Text:
    own = context
    if not is_tool:
        own = click.Context(command, info_name=command.name, parent=context)
    lead, *rest = inspect.cleandoc(command.help or "").split("\n\n")
    records = (option.get_help_record(own) for option in command.get_params(own))
    options = [record for record in records if record is not None and record[1]]
    examples = [(line, meaning) for line, meaning in getattr(command, "examples", [])]
    usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
    return Text(
        command.name or "",
        usage,
        _flat(lead),
        [_flat(one) for one in rest],
        options,
        examples,
    )


def _flat(text: str) -> str:
    return " ".join(text.split())


def _own(one: Text, whole: Text) -> list[tuple[str, str]]:
    """Return the options of a command that are not those of the tool."""
    return [record for record in one.options if record not in whole.options]


def _table(what: str, records: Sequence[tuple[str, str]]) -> str:
    cells = ((names.replace("|", "\\|"), text) for names, text in records)
    rows = [f"| `{names}` | {text} |" for names, text in cells]
    return "\n".join([f"| {what} | meaning |", "|---|---|", *rows])


def _lines(one: Text) -> str:
    return "\n\n".join(f"# {meaning}\n{line}" for line, meaning in one.examples)


def _roff(text: str) -> str:
    """Return a line of text in which nothing is a command of roff."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def _roff_options(records: Sequence[tuple[str, str]]) -> Iterator[str]:
    for names, text in records:
        yield from (".TP", f".B {_roff(names)}", _roff(text))


def _roff_paragraphs(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from (".PP", _roff(paragraph))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
