"""``namespaces``: what namespaces there are, and how many keys each has."""

from __future__ import annotations

from collections import Counter

from .._commands import command as declare
from .._output import Rows, is_for_person
from .._records.states import STATES, counted_by_state
from .._settings import Settings, pass_settings
from .._stores import opened


@declare(
    "namespaces",
    examples=[
        ("catalyst-seen namespaces", "show what the store has"),
        (
            "catalyst-seen namespaces --json | wc -l",
            "count the namespaces",
        ),
    ],
)
@pass_settings
async def command(settings: Settings) -> None:
    """List the namespaces, with their keys by state and their source.

    The default namespace has no name. One without a key is listed if it has a source.
    """
    nameless = "(default)" if is_for_person(settings) else ""
    async with opened(settings) as store:
        counts = await counted_by_state(store, None)
        sources = {source.namespace: source for source in await store.sources()}
        with Rows(
            settings,
            {
                "namespace": "text",
                **dict.fromkeys(STATES, "number"),
                "has_source": "flag",
                "last_poll": "instant",
            },
        ) as rows:
            for name in sorted({*counts, *sources}):
                states = counts.get(name, Counter())
                source = sources.get(name)
                rows.add(
                    namespace=name or nameless,
                    **{state: states[state] for state in STATES},
                    has_source=source is not None,
                    last_poll=source.last_poll if source else None,
                )
    if not rows.count:
        settings.say("there are no keys")
