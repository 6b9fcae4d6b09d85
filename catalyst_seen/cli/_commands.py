"""How a command is declared, and which there are."""

from __future__ import annotations

import signal
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ._codes import Signalled
from ._running import asynchronous
from ._settings import common_options

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

SECTIONS = {
    "Lines": ("filter", "each", "once"),
    "Feeds": ("watch", "test", "feeds"),
    "Look": (
        "seen", "why", "list", "pending", "held", "namespaces", "stats", "check",
    ),
    "Change": ("mark", "forget", "resolve", "clear", "rename", "purge", "cleanup"),
    "Move": ("import", "export", "move", "backup", "restore"),
    "Shell": ("completion",),
}  # fmt: skip
"""The commands, as the help groups them. Each is ``command`` in a module of its name
in ``cli.commands``; that of ``import`` is ``import_``, as Python requires."""


class Example(NamedTuple):
    """A command line that works, and what it does."""

    line: str
    meaning: str


class Command(click.Command):
    """A command with examples at the end of its help."""

    def __init__(
        self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples: list[Example] = [Example(*one) for one in examples]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write_text(f"# {example.meaning}")
                formatter.write(f"{'':>{formatter.current_indent}}{example.line}\n")


def command(
    name: str,
    *,
    examples: Sequence[tuple[str, str]],
    has_data: bool = True,
    has_volume: bool = True,
    **settings: Any,
) -> Callable[[Callable[..., Coroutine[None, None, None]]], Command]:
    """Declare a command: its callback is a coroutine function.

    It has the options of every command besides its own; ``pass_settings`` gives them to
    the callback.

    Args:
        name: Its name.
        examples: At least two: a command line, and what it does.
        has_data: Does it write data, so that it has ``--json``?
        has_volume: Has it ``-q`` and ``-v`` for what is said?
        settings: Further arguments of ``click.command``.
    """
    add = partial(common_options, has_data=has_data, has_volume=has_volume)

    def declare(function: Callable[..., Coroutine[None, None, None]]) -> Command:
        made: Command = click.command(name, cls=Command, examples=examples, **settings)(
            add(asynchronous(function))
        )
        return made

    return declare


class Commands(click.Group):
    """The commands; a module is imported when its command is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; of a closed pipe, click would make exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Signalled(signal.SIGPIPE) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands, section by section."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = f"{cmd_name}_" if cmd_name == "import" else cmd_name
        try:  # until all of them are there
            found = import_module(f"{__package__}.commands.{module}")
        except ModuleNotFoundError:
            return None
        made: click.Command = found.command
        return made

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands with what each does, section by section."""
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [
                (name, found.get_short_help_str(100))
                for name, found in commands
                if found
            ]
            with formatter.section(title):
                formatter.write_dl(rows)
