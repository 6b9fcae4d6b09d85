"""``filter``: the lines of standard input that are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .._codes import Code, Failure
from .._commands import command as declare
from .._elsewhere import lines as counted
from .._filtering import Claiming, Looking, Marking
from .._line_keys import LineKeys, Part, part, text_of
from .._lines import MAX_LINE, Lines, hint_at_terminal
from .._outlet import Outlet
from .._output import printable
from .._passing import Passing
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import DRY_RUN, NAMESPACE, TTL, ttl_of

if TYPE_CHECKING:
    from .._filtering import Keyed, Sieve

_EXAMPLE = 60

KEY = click.option(
    "-k",
    "--key",
    "part_of",
    type=part,
    metavar="EXPR",
    help="The part of a line that identifies it: a JSON pointer, such as /id or"
    " /user/name; or a regular expression: its first group, else the match.",
)
IGNORE_CASE = click.option(
    "-i", "--ignore-case", is_flag=True, help="Upper and lower case are the same."
)
TRIM = click.option(
    "-t", "--trim", is_flag=True, help="Blanks at the ends of a key do not count."
)


@declare(
    "filter",
    examples=[
        ("catalyst-seen filter < urls.txt >> new.txt", "keep the lines that are new"),
        (
            "catalyst-seen filter -n events --key /id --ttl 30d < events.jsonl",
            "events whose id was not seen for 30 days",
        ),
        ("catalyst-seen filter -q < ids.txt || echo nothing new", "only mark"),
    ],
    has_data=False,
    has_volume=False,
)
@NAMESPACE
@TTL
@KEY
@IGNORE_CASE
@TRIM
@DRY_RUN
@click.option(
    "-q",
    "--quiet",
    "is_silent",
    is_flag=True,
    help="Mark the new lines, pass none; exit 1 if none was new.",
)
@click.option(
    "-c", "--count", is_flag=True, help="Mark the new lines, write their number only."
)
@click.option(
    "-v", "--invert", is_flag=True, help="Pass the lines that are seen; mark nothing."
)
@pass_settings
async def command(
    settings: Settings,
    *,
    namespace: str | None,
    ttl: float | str | None,
    part_of: Part | None,
    ignore_case: bool,
    trim: bool,
    dry_run: bool,
    is_silent: bool,
    count: bool,
    invert: bool,
) -> None:
    """Pass the lines of standard input that are new, and mark them.

    A line is marked when it has been written and, by the reader of a pipe, read: one
    that is not passes again next time, and none is lost. Two filters at once pass each
    line once. A line passes as soon as it comes; blank ones never do. Exit code 4: some
    lines did not pass although they are not seen (without a key, too long, held, in the
    hands of another process).
    """
    if is_silent and (count or invert):
        raise Failure("filter: -q writes nothing: it goes with neither -c nor -v")
    changes = not (dry_run or invert)
    if hint := hint_at_terminal():
        settings.say(hint)
    async with opened(settings, create=changes, purges=changes) as opened_store:
        store = opened_store.namespace(namespace or "")
        passing = None
        if not (is_silent or count):
            passing = Passing(store, Outlet())
        sieve: Sieve
        if not changes:
            sieve = Looking(store, passing, invert)
        elif passing is None:
            sieve = Marking(store, ttl_of(ttl))
        else:
            sieve = Claiming(store, passing, ttl_of(ttl))
        keys = LineKeys(part_of, ignores_case=ignore_case, trims=trim)
        await _run(settings, sieve, keys)
    if count:
        click.echo(sieve.tally.chosen)
    if is_silent and not sieve.tally.chosen:
        settings.code = settings.code or Code.NO


async def _run(settings: Settings, sieve: Sieve, keys: LineKeys) -> None:
    lines = Lines()
    keyless: list[bytes] = []
    elsewhere, number = sieve.elsewhere, 0
    while True:
        if elsewhere.is_full:
            await elsewhere.try_to_the_end(sieve.take, settings.say)
        block = await lines.next(elsewhere.pause())
        if block is None:
            break
        await sieve.take(elsewhere.due())
        keyed, without = _keyed(block, keys)
        number += len(without)
        keyless += without[: 1 - len(keyless)]
        if keyed:
            await sieve.take(keyed)
    await elsewhere.try_to_the_end(sieve.take, settings.say)
    _report(settings, sieve, lines, keyless, number)


def _keyed(block: list[bytes], keys: LineKeys) -> tuple[list[Keyed], list[bytes]]:
    """Return the keys and lines of a block, and the lines without a key."""
    keyed: list[Keyed] = []
    without: list[bytes] = []
    for key, line in zip(keys.of_all(block), block, strict=True):
        if key is not None:
            keyed.append((key, line))
        elif line and not line.isspace():
            without.append(line)
    return keyed, without


def _report(
    settings: Settings, sieve: Sieve, lines: Lines, keyless: list[bytes], number: int
) -> None:
    """Say which lines did not pass although they are not seen; set the exit code."""
    reports = [
        (number, "without a key, such as", keyless[0] if keyless else b""),
        (lines.too_long, f"longer than {MAX_LINE >> 20} MiB:", lines.first_too_long),
    ]
    said = [
        f"{counted(count)} {what} {printable(text_of(example[:_EXAMPLE]))}"
        for count, what, example in reports
        if count
    ]
    if sieve.tally.held:
        said.append(f"{counted(sieve.tally.held)} held: catalyst-seen held shows them")
    if sieve.elsewhere:
        said.append(f"{counted(len(sieve.elsewhere))} that another process has")
    for text in said:
        settings.say(f"not passed: {text}")
        settings.code = Code.SOME_FAILED
