"""``rename``: a namespace gets another name."""

from __future__ import annotations

import click

from .._codes import Code, Failure
from .._commands import command as declare
from .._records.lookup import has_keys
from .._records.whole import count_states, in_words, show_all, source_of, tell_names
from .._settings import Settings, pass_settings
from .._spoken import quoted
from .._stores import opened
from .._values import DRY_RUN, namespace


@declare(
    "rename",
    examples=[
        ("catalyst-seen rename news bbc", "the keys of news are those of bbc now"),
        (
            "catalyst-seen rename '' orders --dry-run",
            "show it for the default namespace",
        ),
    ],
)
@DRY_RUN
@click.argument("old", type=namespace)
@click.argument("new", type=namespace)
@pass_settings
async def command(settings: Settings, /, *, old: str, new: str, dry_run: bool) -> None:
    """Give the namespace OLD the name NEW.

    Its keys and its source keep their states. '' is the default namespace. A NEW that
    has keys is refused, and nothing is changed. Claims are lost, as their owners know
    the old name: end the programs that use it.

    Exit code: 0 if it was renamed, 1 if there is no OLD, or NEW has keys.
    """
    if old == new:
        raise click.UsageError("OLD and NEW are the same")
    async with opened(settings) as store:
        total, states = await count_states(store, old)
        source = await source_of(store, old)
        if not total and not source:
            await tell_names(settings, store, old)
            settings.code = Code.NO
            return
        if await has_keys(store, new) or await source_of(store, new):
            raise _refused(new)
        if source and not new:
            raise Failure("the default namespace cannot have a source: name another")
        what = f"{in_words(total, states)} from {quoted(old)} to {quoted(new)}"
        if dry_run:
            await show_all(settings, store, old)
            settings.say(f"would rename {what}")
            return
        try:
            await store.rename(new, namespace=old)
        except ValueError:
            raise _refused(new) from None
    lost = "; claims on them are lost" if states.get("claimed") else ""
    settings.say(f"renamed {what}{lost}")


def _refused(new: str) -> Failure:
    return Failure(
        f"{quoted(new)} is in use, and is not overwritten: choose another name, or"
        " clear it first",
        Code.NO,
    )
