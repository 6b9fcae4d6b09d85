"""``resolve``: a person decides about held keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .._codes import Code
from .._commands import command as declare
from .._records.matching import Chosen, chosen, show, tell_ttl
from .._settings import Settings, pass_settings
from .._spoken import keys
from .._stores import opened
from .._values import ALL_NAMESPACES, DRY_RUN, NAMESPACE, TTL, key, scope, ttl_of

if TYPE_CHECKING:
    from types import EllipsisType

    from catalyst_seen import AsyncSeenStore


@declare(
    "resolve",
    examples=[
        ("catalyst-seen resolve order-17 --handled", "it was handled: it is seen"),
        (
            "catalyst-seen resolve -n news '*' --again",
            "all of it is handled again, by who claims it next",
        ),
    ],
)
@NAMESPACE
@ALL_NAMESPACES
@click.option(
    "--handled/--again", "is_handled", default=None,
    help="Mark them as seen, or let the next caller claim them.",
)  # fmt: skip
@TTL
@click.option("--exact", is_flag=True, help="Take every GLOB as a key, literally.")
@DRY_RUN
@click.argument("globs", metavar="KEY|GLOB...", nargs=-1, required=True, type=key)
@pass_settings
async def command(
    settings: Settings,
    /,
    *,
    namespace: str | None,
    all_namespaces: bool,
    globs: tuple[str, ...],
    is_handled: bool | None,
    ttl: float | str | None,
    exact: bool,
    dry_run: bool,
) -> None:
    """Decide about held keys: handled, or to be handled again.

    Only a person knows whether a receiver got an item whose attempt broke off; held
    lists what waits. Keys in another state are not changed. Without -n it is about the
    default namespace.

    Exit code: 0 if keys were resolved, 1 if none was held.
    """
    if is_handled is None:
        raise click.UsageError("pass --handled or --again")
    where = scope(namespace, has_all=all_namespaces)
    async with opened(settings) as store:
        found = await chosen(
            settings, store, globs, where, is_exact=exact, state="held"
        )
        what = "seen" if is_handled else "claimable again"
        if dry_run:
            show(settings, found)
            settings.say(f"{keys(len(found))} would be {what}")
        elif found:
            done = await _resolve(store, found, is_handled, ttl_of(ttl))
            settings.say(f"{keys(done)} resolved: {what}")
            if ttl is None:
                await tell_ttl(settings, store, found)
    settings.code = Code.DONE if found else Code.NO


async def _resolve(
    store: AsyncSeenStore,
    found: list[Chosen],
    is_handled: bool,  # noqa: FBT001 - the decision
    ttl: float | EllipsisType | None,
) -> int:
    """Resolve keys; return how many of them were still held."""
    done = 0
    for one in found:
        done += await store.resolve(
            one.key, namespace=one.namespace, handled=is_handled, ttl=ttl
        )
    return done
