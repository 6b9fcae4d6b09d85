"""``check``: the health of a store, as an exit code."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from catalyst_seen.transfer import under_way_from

from .._codes import Code
from .._commands import command as declare
from .._output import is_for_person, printable, write_json
from .._settings import Settings, pass_settings
from .._stores import opened

if TYPE_CHECKING:
    from catalyst_seen import CheckReport

_LONGEST = 300
_OF_CONNECTION = {
    "synchronous", "cache_size", "journal_size_limit", "wal_autocheckpoint",
}  # fmt: skip
"""The settings that each connection to SQLite has for itself."""


@declare(
    "check",
    examples=[
        ("catalyst-seen check || echo 'the store has a problem'", "for a monitor"),
        ("catalyst-seen check --full", "compare every row with every index"),
    ],
)
@click.option(
    "--full", is_flag=True, help="On SQLite, compare every row with every index."
)
@pass_settings
async def command(settings: Settings, *, full: bool) -> None:
    """Check the health of the store, while other programs use it.

    On SQLite it reads the whole file for damage; on a server, the settings that would
    break a promise. A terminal gets lines, a pipe one JSON object. On SQLite, the
    library is that of the command, and so are the settings in of_connection, such as
    synchronous: those of a program may be others.

    Exit code: 0 if all is well, 1 if there is a problem, each on a line; 3 if the store
    cannot be opened.
    """
    async with opened(settings, may_be_unfinished=True) as store:
        report = await store.check(full=full)
        source = await under_way_from(store)
    if source is not None:
        unfinished = f"a move from {source} to it has not ended: no program can open it"
        report = replace(report, problems=(*report.problems, unfinished))
    if is_for_person(settings):
        _show(report)
    else:
        own = [name for name in report.settings if name in _OF_CONNECTION]
        write_json({**asdict(report), "of_connection": own})
        for problem in report.problems:
            settings.say(f"problem: {_in_one_line(problem)}")
    settings.code = Code.DONE if report else Code.NO


def _show(report: CheckReport) -> None:
    for line in str(report).splitlines():
        name, is_setting, _ = line.partition(" = ")
        is_own = is_setting and name in _OF_CONNECTION
        own = " (of this connection; a program has its own)" if is_own else ""
        click.echo(f"{printable(line)}{own}")


def _in_one_line(problem: str) -> str:
    """Return a problem in one line; on a terminal not too long: the data has all."""
    line = " ".join(problem.split())
    if not sys.stderr.isatty():
        return line
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
