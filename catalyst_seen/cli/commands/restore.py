"""``restore``: a backup in the place of the store's file."""

from __future__ import annotations

import click

from catalyst_seen.restoring import restore

from .._commands import command as declare
from .._output import Rows
from .._settings import Settings, pass_settings
from .._stores import of_command
from .._values import DRY_RUN


@declare(
    "restore",
    examples=[
        ("catalyst-seen restore --dry-run copy.db", "check a backup"),
        ("catalyst-seen restore copy.db --to seen.db", "put it in this place"),
    ],
)
@click.argument("file", metavar="FILE")
@click.option(
    "--to", metavar="PATH", help="The file to replace; by default that of the store."
)
@DRY_RUN
@pass_settings
async def command(
    settings: Settings, file: str, *, to: str | None, dry_run: bool
) -> None:
    """Check a backup, and put it in the place of the store's file.

    No program may have the store open, except for --dry-run. The file that was there
    stays beside it, as PATH.before-restore-DATE. Whatever happens meanwhile, either the
    old file is there or the new one. What was marked since the backup is new again.
    """
    config = of_command(to or settings.store, create=True)
    done = await restore(file, config, dry_run=dry_run)
    with Rows(
        settings,
        {"store": "text", "keys": "number", "bytes": "number", "kept": "text"},
    ) as rows:
        rows.add(
            store=done.location, keys=done.keys, bytes=done.file_bytes, kept=done.kept
        )
    if dry_run:
        settings.say("the backup is whole; nothing was replaced")
