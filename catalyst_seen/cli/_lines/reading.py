"""Reads lines to their end, gives them to a sink, and says which it could not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .._codes import Code
from .._output import printable
from .elsewhere import Elsewhere
from .elsewhere import lines as counted
from .keys import text_of
from .lines import MAX_LINE, Lines, hint_at_terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .._settings import Settings
    from .keys import LineKeys

Keyed = tuple[str, bytes]
"""A key and its line, without the line feed."""

_EXAMPLE = 60


class Sink(Protocol):
    """Takes lines.

    Attributes:
        elsewhere: Those that another process has.
        held: How many are held, until a person decides.
    """

    elsewhere: Elsewhere
    held: int

    async def take(self, lines: Sequence[Keyed]) -> None:
        """Take lines, and be done with them, or keep them in ``elsewhere``."""


async def handle_lines(
    settings: Settings,
    keys: LineKeys,
    sink: Sink,
    last: Callable[[Sequence[Keyed]], Awaitable[None]] | None = None,
) -> None:
    """Give the lines of standard input to a sink; set the exit code.

    Args:
        settings: Say what is said.
        keys: Finds the keys of the lines.
        sink: Takes them, as they come.
        last: Takes them after the end of the input, by default as before.
    """
    if hint := hint_at_terminal():
        settings.say(hint)
    lines, elsewhere = Lines(), sink.elsewhere
    keyless: list[bytes] = []
    number = 0
    while True:
        if elsewhere.is_full:
            await elsewhere.try_to_the_end(sink.take, settings.say)
        block = await lines.next(elsewhere.pause())
        if block is None:
            break
        if due := elsewhere.due():
            await sink.take(due)
        keyed, without = _keyed(block, keys)
        number += len(without)
        keyless += without[: 1 - len(keyless)]
        if keyed:
            await sink.take(keyed)
    await elsewhere.try_to_the_end(last or sink.take, settings.say)
    _report(settings, sink, lines, keyless, number)


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
    settings: Settings, sink: Sink, lines: Lines, keyless: list[bytes], number: int
) -> None:
    """Say which lines were not handled although they are not seen."""
    reports = [
        (number, "without a key, such as", keyless[0] if keyless else b""),
        (lines.too_long, f"longer than {MAX_LINE >> 20} MiB:", lines.first_too_long),
    ]
    said = [
        f"{counted(count)} {what} {printable(text_of(example[:_EXAMPLE]))}"
        for count, what, example in reports
        if count
    ]
    if sink.held:
        said.append(f"{counted(sink.held)} held: catalyst-seen held shows them")
    if sink.elsewhere:
        kept = counted(len(sink.elsewhere))
        said.append(f"{kept} in flight, in another process, or put off")
    for text in said:
        settings.say(f"not handled: {text}")
        settings.code = Code.SOME_FAILED
