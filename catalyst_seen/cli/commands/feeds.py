"""``feeds``: the health of the sources that were polled."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from .._codes import Code
from .._commands import command as declare
from .._output import Kind, Rows
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import NAMESPACE

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Source

QUIET_AFTER = 90 * 86_400.0
"""Seconds without a poll after which a source is probably not wanted any more."""

WAITING_AFTER = 86_400.0
"""Seconds after which a pending entry should have been delivered."""

_COLUMNS: dict[str, Kind] = {
    "source": "text",
    "state": "text",
    "last_poll": "instant",
    "listed": "number",
    "pending": "number",
    "held": "number",
    "new": "number",
    "failed": "number",
    "error": "text",
}


@declare(
    "feeds",
    examples=[
        ("catalyst-seen feeds", "what became of the last polls"),
        ("catalyst-seen feeds --unhealthy || echo broken", "in a health check"),
    ],
)
@click.option(
    "--unhealthy",
    is_flag=True,
    help="Only what is not ok, or has held entries; exit code 1 if any is.",
)
@NAMESPACE
@pass_settings
async def command(
    settings: Settings, /, namespace: str | None, *, unhealthy: bool
) -> None:
    """Show the health of the feeds that were polled.

    The state: ok; failing, the last poll found no listing, and error says why; quiet,
    without a successful poll for 90 days; never, without any so far; waiting, an entry
    has been pending for a day. last_poll is the last successful one; new and failed
    count entries and polls since the first one.
    """
    async with opened(settings) as store:
        sources = await _sources(store, namespace)
    now, states = time.time(), Counter[str]()
    with Rows(settings, _COLUMNS) as rows:
        for source in sources:
            state = state_of(source, now)
            if unhealthy and state == "ok" and not source.held:
                continue
            states[state] += 1
            _add(rows, source, state)
    if not sources:
        where = "" if namespace is None else f" in the namespace {namespace!r}"
        settings.say(f"no feed was polled{where}: catalyst-seen watch polls one")
    _advise(settings, states, sum(source.held for source in sources))
    missing = namespace is not None and not sources
    settings.code = Code.NO if missing or (unhealthy and rows.count) else Code.DONE


def state_of(source: Source, now: float) -> str:
    """Return the state of a source, in a word."""
    if source.error is not None:
        return "failing"
    if source.last_poll is None:
        return "never"
    if now - source.last_poll > QUIET_AFTER:
        return "quiet"
    since = source.oldest_pending or now
    return "waiting" if now - since > WAITING_AFTER else "ok"


async def _sources(store: AsyncSeenStore, namespace: str | None) -> list[Source]:
    if namespace is None:
        return await store.sources()
    source = await store.source(namespace=namespace) if namespace else None
    return [source] if source else []


def _add(rows: Rows, source: Source, state: str) -> None:
    rows.add(
        source=source.namespace,
        state=state,
        last_poll=source.last_poll,
        listed=source.listed,
        pending=source.pending,
        held=source.held,
        new=source.new,
        failed=source.failed,
        error=source.error,
    )


def _advise(settings: Settings, states: Counter[str], held: int) -> None:
    """Say what a person can do about what is shown."""
    if states["quiet"]:
        settings.say(
            f"{states['quiet']:,} not polled for 90 days: if a feed is not wanted any"
            " more, catalyst-seen clear -n NAME removes it"
        )
    if states["waiting"]:
        settings.say(
            f"{states['waiting']:,} with entries that have waited for a day:"
            " catalyst-seen pending shows them, and why"
        )
    if held:
        settings.say(
            f"{held:,} held: catalyst-seen held shows why, catalyst-seen resolve"
            " decides"
        )
