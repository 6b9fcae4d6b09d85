"""``completion``: what a shell needs to complete command lines."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from .._commands import command as declare


@declare(
    "completion",
    examples=[
        ("catalyst-seen completion bash >> ~/.bashrc", "complete in every new bash"),
        (
            "catalyst-seen completion fish > catalyst-seen.fish",
            "complete in fish, from ~/.config/fish/completions",
        ),
    ],
    has_data=False,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
async def command(shell: str) -> None:
    """Write the script that completes command lines in bash, zsh or fish."""
    from .._main import tool

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has these three
    made = found(tool, {}, "catalyst-seen", "_CATALYST_SEEN_COMPLETE")
    sys.stdout.write(made.source())
