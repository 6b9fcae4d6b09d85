"""``purge``: expired rows are removed."""

from __future__ import annotations

from .._commands import command as declare
from .._output import counted
from .._records.whole import count_states, in_words
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import DRY_RUN, NAMESPACE


@declare(
    "purge",
    examples=[
        ("catalyst-seen purge", "give back the room of what has expired"),
        ("catalyst-seen purge -n news --dry-run", "show what stays"),
    ],
    has_data=False,
)
@NAMESPACE
@DRY_RUN
@pass_settings
async def command(
    settings: Settings, /, *, namespace: str | None, dry_run: bool
) -> None:
    """Remove the rows of expired keys, so that their room is used again.

    It changes no answer: an expired key is unseen with and without its row. A store
    does this by itself while it is open; Redis and Valkey always do.
    """
    async with opened(settings) as store:
        if dry_run:
            stays = in_words(*await count_states(store, namespace))
            settings.say(f"would remove no key that is known: {stays} would stay")
            settings.say("expired rows cannot be listed; only a purge counts them")
            return
        removed = await store.purge_expired(namespace=namespace)
    settings.say(f"{counted(removed, 'expired row')} removed")
