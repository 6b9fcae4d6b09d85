"""How a command is declared, and which there are."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ._running import asynchronous
from ._settings import Settings, common_options

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
    "Monitor": ("serve",),
    "Try": ("demo",),
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
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        error_code: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.error_code: int | None = error_code
        self.examples: list[Example] = [Example(*one) for one in examples]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse its words; what is wrong with them has the code of its errors."""
        ctx.ensure_object(Settings).error_code = self.error_code
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(formatter, self.examples)


def command(
    name: str,
    *,
    examples: Sequence[tuple[str, str]],
    has_data: bool = True,
    has_volume: bool = True,
    has_store: bool = True,
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
        has_store: Is ``--store`` one of its options?
        settings: Further arguments of ``Command``: ``error_code`` is the exit code of
            each of its errors.
    """
    add = partial(
        common_options, has_data=has_data, has_volume=has_volume, has_store=has_store
    )

    def declare(function: Callable[..., Coroutine[None, None, None]]) -> Command:
        made: Command = click.command(name, cls=Command, examples=examples, **settings)(
            add(asynchronous(function))
        )
        return made

    return declare


_EXAMPLES = (
    Example(
        "catalyst-seen watch --first 3 https://example.org/feed.xml",
        "print the last three entries, then new ones as they come",
    ),
    Example(
        "tail -F app.log | grep ERROR | catalyst-seen filter",
        "pass only lines that never came before",
    ),
    Example(
        "catalyst-seen once backup-$(date +%F) -- ./backup.sh",
        "run a command once, however often this line runs",
    ),
)
CODES = (
    ("0", "done"),
    ("1", "the answer is no"),
    ("2", "wrong usage"),
    ("3", "the store is not there, or fails"),
    ("4", "some feeds or lines failed"),
    ("128 + n", "ended by signal n"),
)
"""The exit codes, for people; see ``Code``."""


class Commands(click.Group):
    """The commands; a module is imported when its command is asked for."""

    examples: Sequence[Example] = _EXAMPLES

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands, section by section."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = f"{cmd_name}_" if cmd_name == "import" else cmd_name
        found = import_module(f"{__package__}.commands.{module}")
        made: click.Command = found.command
        return made

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return a command and its arguments; suggest one if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"{exc.message}{hint}", ctx) from exc

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

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        _write_examples(formatter, self.examples)
        with formatter.section("Exit codes"):
            formatter.write_dl(CODES)


def _write_examples(
    formatter: click.HelpFormatter, examples: Sequence[Example]
) -> None:
    with formatter.section("Examples"):
        for example in examples:
            formatter.write_text(f"# {example.meaning}")
            formatter.write(f"{'':>{formatter.current_indent}}{example.line}\n")
