"""``cleanup``: what was last seen long ago is removed."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from .._commands import command as declare
from .._output import Rows, counted
from .._records.rows import CHANGE_COLUMNS, row_of
from .._records.whole import source_of
from .._settings import Settings, pass_settings
from .._spoken import keys
from .._stores import opened
from .._values import DRY_RUN, NAMESPACE

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Record

_DAY = 86_400
_MOST_DAYS = 36_525
_KEPT = {"held", "pending"}


def _days(text: str) -> float:
    try:
        days = float(text.removesuffix("d"))
    except ValueError:
        days = 0
    if not 0 < days <= _MOST_DAYS:
        raise click.BadParameter(
            f"{text!r} is no number of days above 0, such as 30; clear removes all"
        )
    return days


@declare(
    "cleanup",
    examples=[
        ("catalyst-seen cleanup --days 365", "forget what was last seen a year ago"),
        ("catalyst-seen cleanup --days 90 -n news --dry-run", "show what that is"),
    ],
)
@click.option(
    "--days", type=_days, metavar="N", required=True,
    help="Remove what was last marked or claimed more than so many days ago.",
)  # fmt: skip
@NAMESPACE
@DRY_RUN
@pass_settings
async def command(
    settings: Settings, /, *, days: float, namespace: str | None, dry_run: bool
) -> None:
    """Make keys unseen that were last seen long ago, whatever their TTL.

    What is claimed, held, or was ever listed by a source stays. Without -n it is about
    every namespace.
    """
    async with opened(settings) as store:
        if dry_run:
            await _foretell(settings, store, namespace, days)
            return
        removed = await store.cleanup_old_entries(days, namespace=namespace)
    settings.say(
        f"{counted(removed, 'row')} removed; what is claimed, held, or was listed by a"
        " source stays"
    )


async def _foretell(
    settings: Settings, store: AsyncSeenStore, namespace: str | None, days: float
) -> None:
    """Show what would be removed, as far as records tell it.

    A key that was listed has no time of its own at which it expires; but nor has one
    that was marked for ever, which may be in a namespace with a source as well.
    """
    now = time.time()
    is_listing: dict[str, bool] = {}
    counts: Counter[str] = Counter()
    with Rows(settings, CHANGE_COLUMNS) as rows:
        async for record in store.records(namespace=namespace):
            name = record.namespace
            if not _is_old(record, now - days * _DAY, now):
                continue
            if name not in is_listing:
                is_listing[name] = await source_of(store, name) is not None
            if record.expires_at is None and is_listing[name]:
                counts["unsure"] += 1
                continue
            rows.add(**row_of(record, CHANGE_COLUMNS))
    settings.say(f"would remove {keys(rows.count)}, and rows that have expired")
    if counts["unsure"]:
        settings.say(
            f"and of {keys(counts['unsure'])} more, those that no source has listed:"
            " they never expire, in a namespace that has a source"
        )


def _is_old(record: Record, before: float, now: float) -> bool:
    """Would a cleanup remove it, if no source has listed it?"""
    if record.state in _KEPT or record.last_seen >= before:
        return False
    return record.until is None or record.until <= now
