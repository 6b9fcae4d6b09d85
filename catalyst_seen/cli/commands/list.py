"""``list``: the records of a store."""

from __future__ import annotations

from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import click

from .._commands import command as declare
from .._output import Rows, is_for_person
from .._records.globs import literal_prefix
from .._records.rows import RECORD_COLUMNS, row_of
from .._records.states import STATES
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import NAMESPACE, instant, prefix

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from catalyst_seen import Record

_ON_TERMINAL = 100
"""Rows on a terminal, unless the command line says how many."""


@declare(
    "list",
    examples=[
        ("catalyst-seen list -n news --since 1d", "what came in since yesterday"),
        ("catalyst-seen list 'https://example.org/*' | wc -l", "count some keys"),
        ("catalyst-seen list --state released", "what failed and may be claimed"),
    ],
)
@NAMESPACE
@click.option("--state", type=click.Choice(STATES), help="Only keys in this state.")
@click.option("--prefix", type=prefix, help="Only keys that begin so.")
@click.option(
    "--since", type=instant, metavar="WHEN",
    help="Only keys that were marked or claimed since: a date, or 3d for 3 days ago.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="At most so many keys.")
@click.option("--all", "has_all", is_flag=True, help="All keys, also on a terminal.")
@click.argument("glob", required=False, type=prefix)
@pass_settings
async def command(
    settings: Settings,
    /,
    *,
    namespace: str | None,
    glob: str | None,
    limit: int | None,
    has_all: bool,
    **which: Any,
) -> None:
    """List keys with their state, of all namespaces or of one.

    GLOB is a pattern for the whole key, in quotes: * is any text, ? one character,
    [ab] one of them. A terminal gets 100 rows, unless --all or --limit is given; a pipe
    gets all, as JSON Lines, in no order. Expired keys are unseen, and in no list.
    """
    if limit is None and not has_all and is_for_person(settings):
        limit = _ON_TERMINAL
        more = f"there are more than {limit}: --all lists all"
    else:
        more = ""
    which["prefix"] = _common(which["prefix"] or "", glob)
    async with opened(settings) as store:
        records = cast(
            "AsyncGenerator[Record, None]", store.records(namespace=namespace, **which)
        )
        async with aclosing(records):
            with Rows(settings, RECORD_COLUMNS) as rows:
                async for record in records:
                    if glob is not None and not fnmatchcase(record.key, glob):
                        continue
                    if rows.count == limit:
                        break
                    rows.add(**row_of(record, RECORD_COLUMNS))
                else:
                    more = ""
    if more:
        settings.say(more)
    elif not rows.count:
        settings.say("no key matches")


def _common(prefix: str, glob: str | None) -> str:
    """Return how every key begins that has the prefix and matches the glob."""
    begin = literal_prefix(glob or "*")
    return begin if begin.startswith(prefix) else prefix
