"""``clear``: everything of a namespace is removed."""

from __future__ import annotations

import click

from .._asking import confirmed
from .._codes import Code
from .._commands import command as declare
from .._records.whole import count_states, in_words, show_all, source_of, tell_names
from .._settings import Settings, pass_settings
from .._spoken import called, keys
from .._stores import opened
from .._values import DRY_RUN, NAMESPACE, YES

_AFTER = "the next listing of a source will be a baseline"


@declare(
    "clear",
    examples=[
        ("catalyst-seen clear -n news --dry-run", "show what would be removed"),
        ("catalyst-seen clear -n news --yes", "remove it, from a script"),
    ],
)
@NAMESPACE
@click.option("--all", "has_all", is_flag=True, help="Every namespace of the store.")
@YES
@DRY_RUN
@pass_settings
async def command(
    settings: Settings,
    /,
    *,
    namespace: str | None,
    has_all: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Remove every key of a namespace, with its source.

    It is as if it had never been used: what it had handled is new again, claims are
    lost, and the next listing of its source is a baseline. Name the namespace with -n;
    -n '' is the default namespace. Without a terminal it needs --yes.

    Exit code: 0 if it was cleared, 1 if there was nothing.
    """
    if (namespace is None) is not has_all:
        raise click.UsageError("name what to clear: -n NAME (-n '' too), or --all")
    async with opened(settings, may_be_unfinished=has_all) as store:
        total, states = await count_states(store, namespace)
        source = None if namespace is None else await source_of(store, namespace)
        if not total and not source and namespace is not None:
            await tell_names(settings, store, namespace)
            settings.code = Code.NO
            return
        where = "every namespace" if namespace is None else called(namespace)
        what = f"{in_words(total, states)} of {where}"
        if dry_run:
            await show_all(settings, store, namespace)
            settings.say(f"would clear {what}")
            return
        await confirmed(f"clear {what}, so that {_AFTER}", has_yes=yes)
        done = await store.clear(namespace=namespace)
    settings.say(f"cleared {keys(done)} of {where}; {_AFTER}")
