"""``test``: reads a feed, and shows the keys of its entries."""

from __future__ import annotations

from contextlib import AsyncExitStack
from tempfile import TemporaryDirectory

import click

from catalyst_seen import AsyncSeenStore

from .._codes import Code, Failure
from .._commands import command as declare
from .._extras import extra_needed
from .._output import Kind, Rows
from .._settings import Settings, pass_settings

_COLUMNS: dict[str, Kind] = {
    "published": "instant",
    "title": "text",
    "link": "text",
    "recipe": "text",
    "key": "text",
}


_SOON = 1.0
"""A time between polls that is shorter than what any source asks for."""


@declare(
    "test",
    examples=[
        ("catalyst-seen test https://example.org/feed.xml", "before it is watched"),
        ("catalyst-seen test feed.xml | jq -r .key", "the keys of a saved feed"),
    ],
)
@click.argument("word", metavar="URL|FILE")
@pass_settings
async def command(settings: Settings, word: str) -> None:
    """Read a feed, and show its entries and their keys; store nothing.

    The recipe is what gave a key. What is unusual about the feed is said on standard
    error. A - is standard input. Exit code 4: the feed cannot be read.
    """
    with extra_needed("feeds"):
        from catalyst_seen.feeds import Poller

        from .._feeds.report import report
        from .._feeds.sources import INPUT, saved_input, source
        from .._feeds.watching import advice, name_of, quiet_feeds
    quiet_feeds()
    async with AsyncExitStack() as stack:
        if word == INPUT:
            folder = stack.enter_context(TemporaryDirectory())
            feed = source(await saved_input(folder), "standard input")
        else:
            feed = source(word)
        store = AsyncSeenStore(":memory:", purge_interval=None)
        await stack.enter_async_context(store)
        poller = await stack.enter_async_context(Poller(store, every=_SOON))
        poll = await poller.poll(feed)
    if poll.error or poll.listing is None:
        problem = f"{name_of(feed)}: {advice(poll.error or 'there is no listing')}"
        raise Failure(problem, Code.SOME_FAILED)
    for line in report(poll):
        settings.say(line)
    with Rows(settings, _COLUMNS) as rows:
        for entry in poll.listing.entries:
            published = entry.published.timestamp() if entry.published else None
            rows.add(
                published=published,
                title=entry.title,
                link=entry.link,
                recipe=entry.recipe,
                key=entry.key,
            )
