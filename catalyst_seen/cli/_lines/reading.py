"""Reads lines to their end, gives them to a sink, and says which it could not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from catalyst_seen import Verdict

from .._codes import Code
from .._output import counted, printable
from .keys import text_of
from .lines import MAX_LINE, Lines, hint_at_terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from catalyst_seen import Claim, Sighting

    from .._settings import Settings
    from .elsewhere import Elsewhere
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


def set_aside(sink: Sink, answer: Claim | Sighting, key: str, line: bytes) -> None:
    """Keep a line whose key another process has; count one that is held."""
    if answer.verdict is Verdict.IN_FLIGHT:
        sink.elsewhere.keep(key, line, answer.retry_after)
    elif answer.verdict is Verdict.HELD:
        sink.held += 1


async def handle_lines(
    settings: Settings,
    keys: LineKeys,
    sink: Sink,
    last: Callable[[Sequence[Keyed]], Awaitable[None]] | None = None,
) -> None:
    """Give the lines of standard input to a sink; set the exit code.

    Args:
        settings: Where messages are written.
        keys: Finds the keys of the lines.
        sink: Takes them, as they come.
        last: Takes them after the end of the input, by default as before.
    """
    if hint := hint_at_terminal():
        settings.say(hint)
    lines, elsewhere = Lines(), sink.elsewhere
    without_key, first_without = 0, b""
    while True:
        if elsewhere.is_full:
            await elsewhere.try_to_the_end(sink.take, settings.say)
        block = await lines.next(elsewhere.pause())
        if block is None:
            break
        if due := elsewhere.due():
            await sink.take(due)
        keyed, without = _keyed(block, keys)
        without_key += len(without)
        first_without = first_without or next(iter(without), b"")
        if keyed:
            await sink.take(keyed)
    await elsewhere.try_to_the_end(last or sink.take, settings.say)
    _report(settings, sink, lines, (without_key, first_without))


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
    settings: Settings, sink: Sink, lines: Lines, without_key: tuple[int, bytes]
) -> None:
    """Say which lines were not handled although they are not seen.

    Args:
        settings: Where messages are written, and the exit code.
        sink: What has taken the lines.
        lines: The input, at its end.
        without_key: How many lines had no key, and the first of them.
    """
    reports = [
        (without_key[0], "without a key, such as", without_key[1]),
        (lines.too_long, f"longer than {MAX_LINE >> 20} MiB:", lines.first_too_long),
    ]
    said = [
        f"{counted(count, 'line')} {what} {printable(text_of(example[:_EXAMPLE]))}"
        for count, what, example in reports
        if count
    ]
    if sink.held:
        said.append(f"{counted(sink.held, 'line')} held: catalyst-seen held shows them")
    if sink.elsewhere:
        kept = counted(len(sink.elsewhere), "line")
        said.append(f"{kept} in flight, in another process, or put off")
    for text in said:
        settings.say(f"not handled: {text}")
        settings.code = Code.SOME_FAILED
