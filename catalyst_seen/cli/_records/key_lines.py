"""Keys that a command line names, or that come as lines of standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from .._codes import Failure
from .._standard_files import is_input_closed
from .._threads import in_thread
from .._values import key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .._settings import Settings

STDIN = "-"
_LONGEST = 65_536  # bytes of a line that are read; a key has 2,048 at most


async def all_keys(settings: Settings, words: Sequence[str]) -> list[str]:
    """Return the keys of some words, each once; ``-`` are the lines of standard input.

    All of them are checked before the first is returned. Line ends are stripped, and
    blank lines skipped.

    Raises:
        Failure: A line is no key; the message has its number.
    """
    found: list[str] = []
    for word in dict.fromkeys(words):
        if word == STDIN:
            found += await _keys_of_stdin(settings)
        else:
            found.append(word)
    return [*dict.fromkeys(found)]


async def _keys_of_stdin(settings: Settings) -> list[str]:
    """Read the keys in a thread of its own, so that a signal ends the command."""
    if is_input_closed():
        raise Failure("standard input is closed: it should have keys, one a line")
    if sys.stdin.isatty():
        settings.say("reading keys from the terminal, one a line; Ctrl-D ends it")
    return await in_thread(_read_keys)


def _read_keys() -> list[str]:
    # The end of the process would wait for the lock of sys.stdin's own buffer.
    with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
        return [*_keys_in(_lines(stream))]


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(_LONGEST):
        yield line


def _keys_in(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode().strip("\r\n")
            if text.strip():
                yield key(text)
        except UnicodeDecodeError:
            raise Failure(f"line {number:,}: not UTF-8; nothing was changed") from None
        except click.BadParameter as exc:
            raise Failure(
                f"line {number:,}: {exc.message}; nothing was changed"
            ) from None
