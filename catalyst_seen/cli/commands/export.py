"""``export``: what a store has, as text that can be compared and kept."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from .._codes import Failure
from .._commands import command as declare
from .._moving import export_lines
from .._moving.new_file import new_file
from .._moving.sorted_lines import SortedLines
from .._output import counted, progress
from .._records.states import STATES
from .._settings import Settings, pass_settings
from .._stores import is_file_of, opened
from .._values import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._records.states import State


@declare(
    "export",
    examples=[
        ("catalyst-seen export -o seen.jsonl", "write everything to a file"),
        (
            "catalyst-seen export -n news --state pending | head",
            "show what waits in a namespace",
        ),
    ],
    has_data=False,
)
@NAMESPACE
@click.option(
    "--state",
    type=click.Choice(STATES),
    help="Only keys in this state. Default: all that are not unseen.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Write to a file, which is replaced when all is written.",
)
@pass_settings
async def command(
    settings: Settings, namespace: str | None, state: State | None, output: str | None
) -> None:
    """Write the keys as JSON Lines, sorted, for git and for "import".

    Nothing differs if nothing has changed. A line has the key, its namespace, its
    state, when it was first and last seen, when it expires, and its note; what is as
    usual is left out. "import" takes the keys that are seen; "move" takes everything.
    """
    async with opened(settings) as store:
        if output is not None and is_file_of(store, output):
            raise Failure(f"-o {output} is the store itself: name another file")
        with SortedLines() as lines, progress(settings, "reading") as advance:
            count = 0
            async for record in store.records(namespace=namespace, state=state):
                line = export_lines.line_of(record)
                lines.add(record.namespace, record.key, line)
                count += 1
                advance(1)
            with _opened(output) as file:
                file.write(export_lines.header() + "\n")
                file.writelines(f"{line}\n" for line in lines)
    settings.say(f"exported: {counted(count, 'key')}")


@contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    if output is None or output == "-":
        yield sys.stdout
    else:
        with new_file(output) as file:
            yield file
