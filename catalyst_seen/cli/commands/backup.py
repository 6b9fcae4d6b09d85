"""``backup``: a copy of the store's file, which is checked."""

from __future__ import annotations

from dataclasses import replace

import click

from catalyst_seen import AsyncSeenStore

from .._codes import Code
from .._commands import command as declare
from .._output import Rows, counted
from .._settings import Settings, pass_settings
from .._stores import of_command, opened


@declare(
    "backup",
    examples=[
        ("catalyst-seen backup seen-$(date +%F).db", "a copy a day, by cron"),
        ("catalyst-seen --store seen.db backup copy.db", "of this store"),
    ],
)
@click.argument("file", metavar="FILE")
@pass_settings
async def command(settings: Settings, file: str) -> None:
    """Copy the store to a new file while programs use it, and check the copy.

    Only a store on SQLite has a file; a server has tools of its own. FILE must not
    exist, and gets its name when it is complete. Exit code 1: the copy was made, and
    has the problems that are said. "restore" brings it back.
    """
    async with opened(settings) as store:
        await store.backup(file)
        keys = await store.count()
    config = replace(
        of_command(settings.store, create=False),
        url=None, path=file, purge_interval=None, on_error="raise",
    )  # fmt: skip
    async with AsyncSeenStore(config) as copy:
        report = await copy.check(full=True)
        copied = await copy.count()
        with Rows(
            settings, {"file": "text", "keys": "number", "bytes": "number"}
        ) as rows:
            rows.add(file=copy.location, keys=copied, bytes=report.file_bytes)
    if copied != keys:
        settings.say(f"the store has changed meanwhile: {counted(keys, 'key')}")
    for problem in report.integrity:
        settings.say(f"the copy is damaged, and so is the store: {problem}")
        settings.code = Code.NO
