"""``forget``: keys become unseen."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import click

from .._asking import confirmed
from .._codes import Code
from .._commands import command as declare
from .._output import progress
from .._records.lookup import chunks
from .._records.matching import Chosen, chosen, show
from .._records.whole import in_words, source_of
from .._settings import Settings, pass_settings
from .._spoken import keys
from .._stores import opened
from .._values import ALL_NAMESPACES, DRY_RUN, NAMESPACE, YES, key, scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalyst_seen import AsyncSeenStore

_UNASKED = 100
"""Keys that are forgotten without a question."""


@declare(
    "forget",
    examples=[
        ("catalyst-seen forget order-17", "handle it again when it comes again"),
        (
            "catalyst-seen forget -n news 'https://example.org/*' --dry-run",
            "show which keys a glob matches",
        ),
        (
            "catalyst-seen forget --exact 'https://example.org/?id=1'",
            "a key with characters that globs have",
        ),
    ],
)
@NAMESPACE
@ALL_NAMESPACES
@click.option("--exact", is_flag=True, help="Take every GLOB as a key, literally.")
@YES
@DRY_RUN
@click.argument("globs", metavar="GLOB...", nargs=-1, required=True, type=key)
@pass_settings
async def command(
    settings: Settings,
    /,
    *,
    namespace: str | None,
    all_namespaces: bool,
    globs: tuple[str, ...],
    exact: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Make keys unseen, so that their items are handled again.

    GLOB is a key, or a pattern for the whole key, in quotes: * is any text, ? one
    character, [ab] one of them. A claim on a key is lost. Without -n it is about the
    default namespace. More than 100 keys need --yes, or an answer on a terminal.

    An entry of a feed comes again while its feed lists it. One that the feed does not
    list any more is lost with its note, and does not come again.

    Exit code: 0 if keys were forgotten, 1 if none matched: then it names near ones.
    """
    where = scope(namespace, has_all=all_namespaces)
    async with opened(settings) as store:
        found = await chosen(settings, store, globs, where, is_exact=exact)
        what = _counted(found)
        if dry_run:
            show(settings, found)
            settings.say(f"would forget {what}")
            await _tell_listed(settings, store, found)
        elif found:
            if len(found) > _UNASKED:
                await confirmed(f"forget {what}", has_yes=yes)
            await _forget(settings, store, found)
            await _tell_listed(settings, store, found)
    settings.code = Code.DONE if found else Code.NO


async def _tell_listed(
    settings: Settings, store: AsyncSeenStore, found: Sequence[Chosen]
) -> None:
    """Say, where a key is of a source, that only what it lists comes again."""
    for name in dict.fromkeys(one.namespace for one in found):
        if await source_of(store, name) is not None:
            settings.say(
                "an entry that its source does not list any more does not come again"
            )
            return


def _counted(found: Sequence[Chosen]) -> str:
    """Return how many keys there are, of each state, and what is lost with them."""
    counts = Counter(one.state for one in found)
    lost = "; the claims on them are lost" if counts["claimed"] else ""
    return f"{in_words(len(found), counts)}{lost}"


async def _forget(
    settings: Settings, store: AsyncSeenStore, found: Sequence[Chosen]
) -> None:
    """Forget keys, and say how many, also if it fails halfway."""
    by_name = attrgetter("namespace")
    done = 0
    try:
        with progress(settings, "forgetting", len(found)) as advance:
            for name, group in groupby(sorted(found, key=by_name), by_name):
                for chunk in chunks(list(group)):
                    names = [one.key for one in chunk]
                    done += await store.forget_many(names, namespace=name)
                    advance(len(chunk))
    except BaseException:
        settings.say(f"ended after {done:,} of {keys(len(found))}: begin again")
        raise
    settings.say(f"forgot {_counted(found)}")
    if done != len(found):
        settings.say(f"{keys(len(found) - done)} were unseen meanwhile")
