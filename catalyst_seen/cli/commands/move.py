"""``move``: a whole store to another database."""

from __future__ import annotations

import click

from .._codes import Code, Failure
from .._commands import command as declare
from .._moving.move import Move, check_not_empty, rehearse, verify, write_contents
from .._moving.upgrades import check_upgrade
from .._settings import Settings, pass_settings
from .._stores import address_of, opened
from .._values import DRY_RUN

_FEW = 300  # rows that a pass may change, so that the last one is near


@declare(
    "move",
    examples=[
        ("catalyst-seen move seen.db valkey://localhost", "copy; say when to stop"),
        (
            "catalyst-seen move --stopped seen.db valkey://localhost",
            "the rest, now that every program is stopped; compare",
        ),
        (
            "catalyst-seen move --verify seen.db valkey://localhost",
            "show what differs, if anything",
        ),
    ],
    has_store=False,
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--stopped",
    is_flag=True,
    help="The programs that use FROM are stopped: move the rest without asking.",
)
@click.option(
    "--pass-until",
    "few",
    type=click.IntRange(min=0),
    default=_FEW,
    show_default=True,
    metavar="N",
    help="Ask for the stop when a pass has changed at most N rows.",
)
@click.option(
    "--verify",
    "verifies",
    is_flag=True,
    help="Only compare, and write each difference; exit 1 if there is one.",
)
@DRY_RUN
@pass_settings
async def command(
    settings: Settings,
    source: str,
    target: str,
    *,
    stopped: bool,
    few: int,
    verifies: bool,
    dry_run: bool,
) -> None:
    """Move everything from one store to another, also of another kind.

    FROM and TO are paths or URLs; TO is made, and must be empty. Programs may go on
    using FROM while passes copy what has changed; then they must be stopped for the
    last pass, which also compares every row. Claims, notes, and what is pending go with
    it. Until the command says "moved, and equal", no program can open TO. FROM is only
    read, but if an earlier release has made it, opening it upgrades it: such a file is
    refused without --stopped. Ended or killed at any moment, the same command goes on;
    it is refused when the move has ended. Exit code 1: not complete yet, or, with
    --verify, not equal.

    With --verify, "what" is "missing" for a key that only FROM has, "extra" for one
    that only TO has; or it names the fields that differ, with commas between them. A
    row without a key is the state of the source of that namespace. Verify before the
    first program uses TO: what it marks there is a difference.
    """
    _check(settings, source, target)
    await check_upgrade(settings, source, is_stopped=stopped, dry_run=dry_run)
    async with opened(settings, may_be_unfinished=True, target=source) as origin:
        await check_not_empty(origin)
        if dry_run:
            write_contents(settings, await rehearse(settings, origin, target))
            return
        async with opened(
            settings, create=not verifies, may_be_unfinished=True, target=target
        ) as other:
            if verifies:
                is_equal = await verify(settings, origin, other)
                settings.code = Code.DONE if is_equal else Code.NO
                return
            move = Move(settings, origin, other)
            write_contents(settings, await move.run(few=few, is_stopped=stopped))
    settings.say(f"moved, and equal: programs can use {address_of(other)} now")


def _check(settings: Settings, source: str, target: str) -> None:
    if settings.store is not None:
        raise Failure("move: names its stores as FROM and TO, and has no --store")
    if ":memory:" in {source, target}:
        raise Failure("move: a store in memory ends with this command; name a file")
