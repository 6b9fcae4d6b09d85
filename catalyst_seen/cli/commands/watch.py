"""``watch``: prints each new entry of feeds once, or runs a command for it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from .._commands import command as declare
from .._extras import extra_needed
from .._feeds.wanted import EntryFilter
from .._output import counted, span
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import NAMESPACE, duration

if TYPE_CHECKING:
    from catalyst_seen.feeds import Feed

    from .._feeds.deliveries import Destination

_EVERY = 900.0
_INPUT = "-"


def _first(text: str) -> str | int:
    """Return what becomes of the entries of a feed that is new."""
    if text in {"all", "none", "baseline"}:
        return "baseline" if text == "none" else text
    if text.isascii() and text.isdecimal() and len(text) <= 9:  # noqa: PLR2004
        return int(text)
    raise click.BadParameter(f"{text!r} is neither a number nor all or none")


def _format(text: str) -> Any:
    """Return the form of what is printed."""
    if text in {"text", "json"}:
        return text
    with extra_needed("feeds"):
        from .._feeds.entries import template
    return template(text)


@declare(
    "watch",
    examples=[
        (
            "catalyst-seen watch --first 3 https://example.org/feed.xml",
            "print the last three entries, then new ones as they come",
        ),
        (
            "catalyst-seen watch --once -f feeds.txt --include storm | jq -r .title",
            "in a cron job: poll a list of feeds once",
        ),
        (
            "catalyst-seen watch --once --exec ./send.sh feed.xml",
            "run a command for each entry, until it ends with 0",
        ),
    ],
)
@click.option("--once", "is_once", is_flag=True, help="Poll each feed once, and end.")
@click.option(
    "--every",
    type=duration,
    metavar="TIME",
    help="The time between two polls of a feed. Default: 15m; longer if it asks so.",
)
@click.option(
    "--first",
    type=_first,
    metavar="N|all|none",
    help="How many of the last entries of a new feed are delivered. Default: none;"
    " they are marked, as the baseline.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="TEXT",
    help="Only entries with this text in title or summary, in any case. Several:"
    " one of them.",
)
@click.option(
    "--exclude", multiple=True, metavar="TEXT", help="No entries with this text."
)
@click.option(
    "--max-age",
    type=duration,
    metavar="TIME",
    help="No entries that were published longer ago, as after a holiday or a fault;"
    " those without a date are delivered.",
)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    help="Feeds from a file: OPML, or a URL a line and a name after it, as in"
    " 'https://example.org/feed.xml news'.",
)
@click.option(
    "--exec",
    "program",
    metavar="CMD",
    help="Run this for each entry, without a shell. The entry is JSON on its standard"
    " input, and in ENTRY_TITLE, ENTRY_LINK, ENTRY_KEY, ENTRY_FEED.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1),
    metavar="N",
    help="Hold an entry when its command fails at this attempt, or a later one."
    " Default: never.",
)
@click.option(
    "--timeout",
    type=duration,
    metavar="TIME",
    help="End the command after this time. Default: 5m.",
)
@click.option(
    "--format",
    "form",
    type=_format,
    metavar="FORMAT",
    help="text, json, or a template such as '{published} {title} {link}'. Default:"
    " text on a terminal, JSON Lines in a pipe.",
)
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="With --once: read also what is gone or asked for a pause, or has a new"
    " password.",
)
@NAMESPACE
@click.argument("sources", metavar="[URL|FILE]...", nargs=-1)
@pass_settings
async def command(
    settings: Settings, /, sources: tuple[str, ...], **options: Any
) -> None:
    """Print each new entry of feeds once, also across restarts.

    An entry is pending until its line is written, or its command has ended with 0: a
    crash, a closed pipe or a failed command loses none. A failed command runs again
    after 30s, then after twice as long, up to an hour; with --once, in a later run.
    Exit code 75 of the command is "later": the same, and an entry is never held for
    it, though it is an attempt; so is one after resolve --again. A - is a feed on
    standard input. Exit code 4: some feeds or commands failed.
    """
    _check(sources, options)
    with extra_needed("feeds"):
        from catalyst_seen.feeds import Poller

        from .._feeds.deliveries import Deliveries
        from .._feeds.watching import Watching, forced
    wanted = EntryFilter(options["include"], options["exclude"], options["max_age"])
    destination = _destination(settings, options)
    every, is_once = options["every"] or _EVERY, options["is_once"]
    deliveries = Deliveries(
        settings, destination, wanted, options["max_attempts"], is_once=is_once
    )
    async with AsyncExitStack() as stack:
        feeds = await _feeds(sources, options, stack)
        store = await stack.enter_async_context(
            opened(settings, create=True, purges=not is_once)
        )
        poller = await stack.enter_async_context(
            Poller(store, every=every, first=options["first"])
        )
        watching = Watching(settings, deliveries, is_once=is_once)
        if not is_once:
            what = counted(len(feeds), "feed")
            settings.say(f"{what}, polled every {span(every)}; Ctrl-C ends it")
        await watching.follow(
            forced(poller, feeds)
            if options["is_forced"]
            else poller.watch(feeds, once=is_once)
        )
        await watching.finish()


def _check(words: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse what has no effect, or no meaning."""
    name, is_once = options["namespace"], options["is_once"]
    has_program = options["program"] is not None
    has_limits = options["max_attempts"] is not None or options["timeout"] is not None
    is_alone = len(words) == 1 and not options["files"]
    refused = {
        "name a feed: URL, FILE, or --file with a list": not (
            words or options["files"]
        ),
        "--namespace goes with one URL or FILE": name is not None and not is_alone,
        "--namespace: the entries of a feed need a name": name == "",
        "standard input needs --once and --namespace NAME": _INPUT in words
        and not (name and is_once),
        "--every has no effect with --once": is_once and options["every"],
        "--force goes with --once": options["is_forced"] and not is_once,
        "--format has no effect with --exec": has_program and options["form"],
        "--max-attempts and --timeout go with --exec": has_limits and not has_program,
    }
    for problem, is_so in refused.items():
        if is_so:
            raise click.UsageError(problem)


async def _feeds(
    words: tuple[str, ...], options: dict[str, Any], stack: AsyncExitStack
) -> list[Feed]:
    """Return the sources, each once."""
    from .._feeds.sources import check_file, distinct, listed, saved_input, source

    if _INPUT in words:
        words = (await saved_input(stack.enter_context(TemporaryDirectory())),)
    feeds = [source(word, options["namespace"]) for word in words]
    for feed in feeds:
        check_file(feed)
    for file in options["files"]:
        feeds += await listed(file)
    return distinct(feeds)


def _destination(settings: Settings, options: dict[str, Any]) -> Destination:
    from .._feeds.command import EntryCommand, words
    from .._feeds.printer import Printer

    if options["program"] is None:
        return Printer("json" if settings.is_json else options["form"])
    try:
        return EntryCommand(
            words(options["program"]),
            options["timeout"] or 300.0,
            is_quiet=settings.is_quiet,
        )
    except click.BadParameter as exc:
        raise click.UsageError(f"--exec: {exc.message}") from None
