"""``demo``: workers that are killed, a webhook that fails, and nothing is lost."""

from __future__ import annotations

import click

from .._codes import Code
from .._commands import command as declare
from .._demo.ending import write_ending
from .._demo.running import Plan, run
from .._demo.screen import screen
from .._settings import Settings, pass_settings


@declare(
    "demo",
    examples=[
        ("catalyst-seen demo", "ten seconds on this machine"),
        (
            "catalyst-seen demo --seconds 3 --workers 2 --json | jq -r .lost",
            "a short one, and its figures as an object",
        ),
    ],
    has_store=False,
)
@click.option(
    "--seconds",
    type=click.IntRange(2, 3_600),
    default=10,
    metavar="N",
    help="How long it takes, about; a busy machine takes longer. Default: 10.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 50),
    default=4,
    metavar="N",
    help="In how many processes the thousand callers are. Default: 4.",
)
@pass_settings
async def command(settings: Settings, *, seconds: int, workers: int) -> None:
    """Watch a thousand callers deliver items, while their processes are killed.

    Workers share a SQLite file in a temporary folder. Each reads the same feed, claims
    what is new under a short lease, and delivers it to a webhook of this machine, which
    answers 503, cuts connections, or answers too late. A worker is killed now and then,
    with SIGKILL, and replaced: the next one reads the feed from its beginning.

    In the end it counts what the webhook has accepted: all, and what it got twice, with
    the reason. A claim is at least once: a worker that is killed after the answer of
    the webhook and before its confirm has delivered an item that comes again.

    No store of yours is used, and no folder and no process stays.

    Exit code: 0 if nothing is lost, else 1.
    """
    plan = Plan(float(seconds), workers)
    with screen(settings, plan) as shown:
        outcome = await run(plan, shown)
    write_ending(settings, plan, outcome)
    settings.code = Code.DONE if outcome else Code.NO
