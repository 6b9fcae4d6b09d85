"""Data on standard output: tables on a terminal, JSON Lines in a pipe."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO

from .._durations import format_duration
from ._notes import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rich.console import Console

    from ._settings import Settings

Kind = Literal["text", "number", "count", "instant", "duration", "flag", "note"]
"""What a column has: instants are seconds since 1970, durations are seconds; a count
is a number whose zero says nothing, a flag is true or false, and a note is a long text,
shown in short."""

to_json = json.JSONEncoder(ensure_ascii=False).encode  # dumps makes one a call
_PAGE = 1_000  # rows of one table on a terminal
_GAPS = 2, 1  # blanks between two columns; fewer where the terminal is narrow
_READABLE = 19
"""Characters of a text that a column has at least, as many as an instant. On a narrower
terminal each row is a block of lines."""


class Rows:
    """Rows of data with the same columns, on a terminal and in a pipe.

    ::

        with Rows(settings, {"key": "text", "last_seen": "instant"}) as rows:
            rows.add(key=record.key, last_seen=record.last_seen)

    In a pipe each row is written as it is added, as a JSON object: instants as RFC 3339
    in UTC, durations in seconds, and what is ``None`` as null. On a terminal they form
    a table, with the time of this machine and without columns that are empty; on a
    narrow one each row is a block of lines.
    """

    def __init__(self, settings: Settings, columns: Mapping[str, Kind]) -> None:
        self._columns = columns
        self._instants = [n for n, kind in columns.items() if kind == "instant"]
        self._is_table = is_for_person(settings)
        self._rows: list[list[str]] = []
        self.count: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, *_: object) -> None:
        if self._rows:
            self._write_table()
        sys.stdout.flush()

    def add(self, **values: Any) -> None:
        """Add a row; a column without a value is empty."""
        self.count += 1
        if self._is_table:
            shown = [_shown(values.get(n), kind) for n, kind in self._columns.items()]
            self._rows.append(shown)
            if len(self._rows) == _PAGE:
                self._write_table()
        else:
            data: dict[str, Any] = {name: values.get(name) for name in self._columns}
            for name in self._instants:
                if data[name] is not None:
                    data[name] = rfc3339(data[name])
            write_json(data)

    def _write_table(self) -> None:
        filled = [any(row[n] for row in self._rows) for n in range(len(self._columns))]
        columns = {
            name.replace("_", " "): kind
            for name, kind in compress(self._columns.items(), filled)
        }
        rows = [list(compress(row, filled)) for row in self._rows]
        self._rows.clear()
        console = console_of(sys.stdout)
        for gap in _GAPS:
            if console.width >= _least_width(columns, rows, gap):
                _print_table(console, columns, rows, gap)
                return
        for row in rows:
            write_block(dict(zip(columns, row, strict=True)))
            console.print()


def _least_width(columns: Iterable[str], rows: list[list[str]], gap: int) -> int:
    """Return the width of a table whose texts are still readable."""
    widths = [
        max(len(name), min(max(len(row[n]) for row in rows), _READABLE))
        for n, name in enumerate(columns)
    ]
    return sum(widths) + gap * (len(widths) - 1)


def _print_table(
    console: Console, columns: Mapping[str, Kind], rows: list[list[str]], gap: int
) -> None:
    from rich.table import Table
    from rich.text import Text

    padding = (0, gap, 0, 0)
    table = Table(box=None, pad_edge=False, padding=padding, header_style="bold")
    for name, kind in columns.items():
        table.add_column(
            name,
            justify="right" if kind in {"number", "count", "duration"} else "left",
            overflow="fold",
            no_wrap=kind == "instant",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def write_block(fields: Mapping[str, str]) -> None:
    """Write labels with their texts on a terminal; those without a text are left out.

    A text may have the characters of others: each that controls a terminal is shown.
    """
    from rich.table import Table
    from rich.text import Text

    block = Table.grid(padding=(0, 2, 0, 0))
    block.add_column(no_wrap=True, style="bold")
    block.add_column(overflow="fold")
    for label, text in fields.items():
        if text:
            block.add_row(Text(label), Text(printable(text)))
    console_of(sys.stdout).print(block)


def console_of(stream: TextIO) -> Console:
    """Return what writes tables to a stream; without any style under ``NO_COLOR``."""
    from rich.console import Console

    if os.environ.get("NO_COLOR"):
        return Console(file=stream, highlight=False, color_system=None)
    return Console(file=stream, highlight=False)


def is_for_person(settings: Settings) -> bool:
    """Is data shown to a person, and not written for a program?"""
    return sys.stdout.isatty() and not settings.is_json


def write_json(data: Mapping[str, Any]) -> None:
    """Write an object as one line of JSON."""
    sys.stdout.write(f"{to_json(data)}\n")


def rfc3339(instant: float) -> str:
    """Return an instant in UTC, to the millisecond: ``2026-11-28T06:30:00.250Z``."""
    text = datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


def printable(text: str) -> str:
    """Return a text without characters that control a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def local(instant: float) -> str:
    """Return an instant in the time of this machine, to the second."""
    return datetime.fromtimestamp(instant).isoformat(" ", "seconds")  # noqa: DTZ006


def span(seconds: float) -> str:
    """Return a duration as a text, such as ``1h30m``."""
    return format_duration(seconds)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts: ``1 feed``, ``2 feeds``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _shown(value: Any, kind: Kind) -> str:
    return "" if value is None else printable(_TEXTS[kind](value))


_TEXTS: Mapping[Kind, Callable[[Any], str]] = {
    "text": str,
    "number": "{:,}".format,
    "count": lambda count: f"{count:,}" if count else "",
    "instant": local,
    "duration": lambda seconds: format_duration(round(seconds)),
    "flag": lambda flag: "yes" if flag else "",
    "note": shortened,
}


@contextmanager
def progress(
    settings: Settings, what: str, total: int | None = None
) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far a long work is; yield what advances it.

    Nothing is shown where standard error is no terminal, or with ``--quiet``.
    """
    if settings.is_quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.advance(task, done)
