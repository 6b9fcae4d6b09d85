"""The sources that a command line names: addresses, files, and lists of them."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import click

from catalyst_seen import ConfigurationError
from catalyst_seen.feeds import Feed

from .._codes import Failure
from .._output import printable
from .._threads import in_thread
from .._values import namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HOST = re.compile(
    r"((?:[\w-]+\.)+[a-z]{2,}|localhost)(:\d+)?([/?#].*)?", re.IGNORECASE
)
"""What an address looks like whose scheme was left out."""

_DOCUMENTS = {".atom", ".json", ".opml", ".rdf", ".rss", ".txt", ".xml"}
"""What a name ends with that is rather a file than a host."""

INPUT = "-"
"""Standard input, in place of a file."""

_MOST_BYTES = 33 * 1024 * 1024
"""The most that is read of a list, and of a feed on standard input."""


def source(word: str, name: str | None = None) -> Feed:
    """Return the source that a word of a command line or of a list names.

    Raises:
        Failure: It names nothing that can be polled.
    """
    try:
        feed = Feed(word, name=name)
        is_there = not feed.is_file or feed.path.exists()
    except ConfigurationError as exc:
        raise Failure(f"a source: {printable(exc.problem)}") from None
    except (
        OSError,
        RuntimeError,
    ) as exc:  # a loop of links; an unknown user
        raise Failure(f"{printable(word)}: {exc}") from None
    is_document = feed.path.suffix.lower() in _DOCUMENTS and "/" not in feed.url
    if not is_there and not is_document and _HOST.fullmatch(feed.url):
        shown = printable(feed.url)
        raise Failure(f"there is no file {shown}: did you mean https://{shown}?")
    return feed


def check_file(feed: Feed) -> None:
    """Check the file of a source that was typed: a wrong name is no failed poll.

    Raises:
        Failure: There is none, or it is a folder.
    """
    if not feed.is_file:
        return
    if not feed.path.exists():
        raise Failure(f"there is no file {printable(feed.url)}")
    if feed.path.is_dir():
        raise Failure(f"{printable(feed.url)} is a folder: name the files in it")


async def saved_input(folder: str) -> str:
    """Save the feed on standard input in a folder, and return the path."""
    path = Path(folder, "input")
    await in_thread(lambda: path.write_bytes(_content(INPUT)))
    return str(path)


async def listed(path: str) -> list[Feed]:
    """Return the sources of a list: OPML, or a line each with an optional name.

    Args:
        path: The file; ``-`` is standard input.

    Raises:
        Failure: It cannot be read, or names no source.
    """
    where = "standard input" if path == INPUT else printable(path)
    text = await in_thread(partial(_read, path, where))
    rows = _outlines(text, where) if text.lstrip().startswith("<") else _lines(text)
    feeds = []
    for place, word, name in rows:
        try:
            feeds.append(source(word, namespace(name) if name else None))
        except Failure as exc:
            raise Failure(f"{where}, {place}: {exc.message}") from None
        except click.BadParameter as exc:
            raise Failure(f"{where}, {place}, its name: {exc.message}") from None
    if not feeds:
        raise Failure(f"{where} names no source: it has a URL a line, or is OPML")
    return feeds


def distinct(feeds: Iterable[Feed]) -> list[Feed]:
    """Return the sources, each once.

    Raises:
        Failure: Two different ones have one namespace.
    """
    found: dict[str, Feed] = {}
    for feed in feeds:
        first = found.setdefault(feed.namespace, feed)
        if _place(first) != _place(feed):
            raise Failure(
                f"two different sources have the namespace {printable(feed.namespace)}:"
                " give each a name of its own, after its URL in a file of --file"
            )
    return list(found.values())


def _place(feed: Feed) -> object:
    """Return what is polled: two spellings of a path are one file."""
    return feed.path.absolute() if feed.is_file else feed.url


def _read(path: str, where: str) -> str:
    try:
        content = _content(path)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise Failure(f"the list {where} cannot be read: {reason}") from None
    if len(content) > _MOST_BYTES:
        raise Failure(f"the list {where} has more than {_MOST_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Failure(f"the list {where} is no text in UTF-8") from None


def _content(path: str) -> bytes:
    """Read a file, one byte over the limit at most.

    Standard input has no buffer here, whose lock would be held when the process ends.
    """
    descriptor = 0 if path == INPUT else os.open(path, os.O_RDONLY)
    is_own = path != INPUT
    with open(descriptor, "rb", buffering=0, closefd=is_own) as file:
        content = bytearray()
        while chunk := file.read(min(_MOST_BYTES + 1 - len(content), 1_048_576)):
            content += chunk
    return bytes(content)


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield place, URL and name of each line that is no comment."""
    for number, line in enumerate(text.splitlines(), 1):
        word, _, name = line.strip().partition(" ")
        if "\t" in word:
            word, _, name = line.strip().partition("\t")
        if word and not word.startswith("#"):
            yield f"line {number}", word, name.strip()


def _outlines(text: str, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield place and URL of each outline of OPML; its title is no name to keep."""
    try:
        root = ET.fromstring(text)  # noqa: S314 - expat refuses what grows too much
    except (ET.ParseError, ValueError) as exc:
        raise Failure(f"the list {where} is no OPML: {exc}") from None
    if root.tag != "opml":
        raise Failure(
            f"the list {where} is no OPML, but <{printable(root.tag)}>: a feed is named"
            " without --file"
        )
    for number, outline in enumerate(root.iter("outline"), 1):
        if url := outline.get("xmlUrl"):
            yield f"outline {number}", url, ""
