"""``filter``: the lines of standard input that are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .._codes import Code, Failure
from .._commands import command as declare
from .._lines.filtering import Claiming, Looking, Marking
from .._lines.keys import LineKeys, Part
from .._lines.options import IGNORE_CASE, KEY, TRIM
from .._lines.passing import Passing
from .._lines.reading import handle_lines
from .._outlet import Outlet
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import DRY_RUN, NAMESPACE, TTL, ttl_of

if TYPE_CHECKING:
    from .._lines.filtering import Sieve


def _refuse_files(
    _: click.Context, __: click.Parameter, files: tuple[str, ...]
) -> None:
    if files:
        raise click.UsageError(
            f"it reads standard input: catalyst-seen filter < {files[0]}"
        )


@declare(
    "filter",
    examples=[
        ("catalyst-seen filter < urls.txt >> new.txt", "keep the lines that are new"),
        (
            "catalyst-seen filter -n events --key /id --ttl 30d < events.jsonl",
            "events whose id was not seen for 30 days",
        ),
        ("catalyst-seen filter -q < ids.txt || echo nothing new", "only mark"),
    ],
    has_data=False,
    has_volume=False,
)
@NAMESPACE
@TTL
@KEY
@IGNORE_CASE
@TRIM
@DRY_RUN
@click.option(
    "-q",
    "--quiet",
    "is_silent",
    is_flag=True,
    help="Mark the new lines, pass none; exit 1 if none was new.",
)
@click.option(
    "-c", "--count", is_flag=True, help="Mark the new lines, write their number only."
)
@click.option(
    "-v", "--invert", is_flag=True, help="Pass the lines that are seen; mark nothing."
)
@click.argument(
    "files", nargs=-1, metavar="", callback=_refuse_files, expose_value=False
)
@pass_settings
async def command(
    settings: Settings,
    *,
    namespace: str | None,
    ttl: float | str | None,
    part_of: Part | None,
    ignore_case: bool,
    trim: bool,
    dry_run: bool,
    is_silent: bool,
    count: bool,
    invert: bool,
) -> None:
    """Pass the lines of standard input that are new, and mark them.

    A line is marked when it has been written and, by the reader of a pipe, read: one
    that is not passes again next time, and none is lost. Two filters at once pass each
    line once. A line passes as soon as it comes; blank ones never do. Exit code 4: some
    lines did not pass although they are not seen (without a key, too long, held, in the
    hands of another process).
    """
    if is_silent and (count or invert):
        raise Failure("filter: -q writes nothing: it goes with neither -c nor -v")
    changes = not (dry_run or invert)
    async with opened(
        settings, create=changes, purges=changes, may_be_missing=dry_run
    ) as opened_store:
        store = opened_store.namespace(namespace or "")
        passing = None
        if not (is_silent or count):
            passing = Passing(store, Outlet())
        sieve: Sieve
        if not changes:
            sieve = Looking(store, passing, invert)
        elif passing is None:
            sieve = Marking(store, ttl_of(ttl))
        else:
            sieve = Claiming(store, passing, ttl_of(ttl))
        keys = LineKeys(part_of, ignores_case=ignore_case, trims=trim)
        await handle_lines(settings, keys, sieve)
    if count:
        click.echo(sieve.chosen)
    if is_silent and not sieve.chosen:
        settings.code = settings.code or Code.NO
